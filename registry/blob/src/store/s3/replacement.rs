//! Repair's new copy: a whole object beside the old one, copied over it by the service once it is verified.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::blocks::Blocks;
use super::bucket::Bucket;
use super::reader::S3Reader;
use super::writer::{Parts, S3Writer};
use crate::file_id::FileId;
use crate::store::{ObjectReader, ObjectWriter, Replacement, StoreError};

pub(super) struct S3Replacement {
    bucket: Arc<Bucket>,
    blocks: Arc<Blocks>,
    file_id: FileId,
    beside: String,
    writer: S3Writer,
}

impl S3Replacement {
    pub(super) fn new(bucket: Arc<Bucket>, parts: Arc<Parts>, blocks: Arc<Blocks>, file_id: FileId) -> Self {
        let beside = bucket.beside(file_id);
        let writer = S3Writer::beside(Arc::clone(&bucket), parts, beside.clone());
        Self { bucket, blocks, file_id, beside, writer }
    }
}

#[async_trait]
impl Replacement for S3Replacement {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.writer.append(chunk).await
    }

    async fn finish(&mut self) -> Result<Arc<dyn ObjectReader>, StoreError> {
        self.writer.complete(Bytes::new()).await?;
        Ok(Arc::new(S3Reader::cold(Arc::clone(&self.bucket), self.beside.clone()).await?))
    }

    async fn swap(self: Box<Self>) -> Result<(), StoreError> {
        self.bucket.copy(&self.beside, &self.bucket.object(self.file_id)).await?;
        self.blocks.forget(self.file_id);
        Ok(())
    }
}

impl Drop for S3Replacement {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (bucket, beside) = (Arc::clone(&self.bucket), self.beside.clone());
        let begun = self.writer.begun().map(str::to_owned);
        runtime.spawn(async move {
            // Best effort: what is left here takes space and is never read.
            if let Some(upload) = begun {
                let _ = bucket.abort(&beside, &upload).await;
            }
            let _ = bucket.delete(&beside).await;
        });
    }
}
