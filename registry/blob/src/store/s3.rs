//! One replica in a bucket of an S3 service.
//!
//! An object appears whole when its upload is completed, under its final name, and only where no object of
//! that name lies. Until then its full parts lie in a multipart upload and the bytes past the last of them in
//! a tail object; what a writer needs to go on is in its checkpoint.

mod blocks;
mod bucket;
mod checkpoint;
mod folder;
mod reader;
mod replacement;
mod watch;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use registry_runtime::SecretString;

use super::marker::{MARKER, Marker};
use super::{BlobStore, ObjectEntry, ObjectReader, ObjectWriter, Replacement, StoreError};
use crate::file_id::FileId;
use crate::replicate::ReplicaId;
use blocks::Blocks;
use bucket::Bucket;
pub use folder::S3Folder;
use reader::S3Reader;
use replacement::S3Replacement;
use watch::Watch;
use writer::{Parts, S3Writer};

/// Before the names of small texts.
const NOTES: &str = "notes/";

/// Where a bucket is and how it is asked.
#[derive(Clone, Debug)]
pub struct S3Config {
    pub bucket: String,
    /// Before every key; empty, or ending in `/`.
    pub prefix: String,
    /// `http://…` or `https://…`; `None`: Amazon's own of the region.
    pub endpoint: Option<String>,
    pub region: String,
    /// The bucket in the path rather than in the host name.
    pub path_style: bool,
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// Parts of 8 MiB that uploads hold in memory at a time, all together.
    pub part_buffers: usize,
    /// Memory for what was read, bytes.
    pub cache_bytes: u64,
}

/// One replica in a bucket. Clones share it.
#[derive(Clone)]
pub struct S3Store {
    inner: Arc<Inner>,
}

struct Inner {
    bucket: Arc<Bucket>,
    watch: Watch,
    parts: Arc<Parts>,
    blocks: Arc<Blocks>,
}

impl S3Store {
    /// A store over a bucket. It works only while the marker of this cluster and replica lies there; without
    /// it every call answers `Offline`.
    pub fn open(config: &S3Config, cluster: &str, replica: &ReplicaId) -> Self {
        let bucket = Arc::new(Bucket::new(config));
        let inner = Inner {
            watch: Watch::new(Arc::clone(&bucket), Marker::new(cluster, replica)),
            parts: Arc::new(Parts::new(config.part_buffers)),
            blocks: Arc::new(Blocks::new(Arc::clone(&bucket), config.cache_bytes)),
            bucket,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The marker that lies in the bucket, if any.
    pub async fn marker(config: &S3Config) -> Result<Option<Marker>, StoreError> {
        watch::read(&Bucket::new(config)).await
    }

    /// Makes an empty prefix of a bucket the root of a new replica. Refused when it holds a marker of another
    /// replica, or objects without one.
    pub async fn initialize(config: &S3Config, cluster: &str, replica: &ReplicaId) -> Result<(), StoreError> {
        let bucket = Bucket::new(config);
        let marker = Marker::new(cluster, replica);
        if let Some(found) = watch::read(&bucket).await? {
            return marker.check(&bucket, Some(&found));
        }
        if !bucket.list(&bucket.objects(), None, 1).await?.is_empty() {
            return Err(StoreError::Offline(format!("{bucket} holds objects but no {MARKER}")));
        }
        let text = serde_json::to_vec(&marker).map_err(std::io::Error::other)?;
        match bucket.put(&bucket.key(MARKER), text.into(), true).await {
            // Another server was faster.
            Err(StoreError::Exists) => marker.check(&bucket, watch::read(&bucket).await?.as_ref()),
            put => put,
        }
    }

    /// Keeps a small text beside the objects, in the place of what had its name.
    pub async fn keep_note(&self, name: &str, text: Vec<u8>) -> Result<(), StoreError> {
        self.inner.watch.check_lately().await?;
        let bucket = &self.inner.bucket;
        bucket.put(&bucket.key(&format!("{NOTES}{name}")), text.into(), false).await
    }

    /// A text that was kept; `None` where there is none of that name.
    pub async fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let bucket = &self.inner.bucket;
        match bucket.get(&bucket.key(&format!("{NOTES}{name}")), None).await {
            Ok(found) => Ok(Some(found.bytes.to_vec())),
            Err(error) => match self.explain(error).await {
                StoreError::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    /// An object that is missing from a replica that is there, or a replica that is not.
    async fn explain(&self, error: StoreError) -> StoreError {
        match error {
            // Asked anew: it may be gone since it was seen.
            StoreError::NotFound => self.inner.watch.check().await.err().unwrap_or(StoreError::NotFound),
            error => error,
        }
    }
}

#[async_trait]
impl BlobStore for S3Store {
    async fn create(&self, file_id: FileId) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.inner.watch.check_lately().await?;
        let Inner { bucket, parts, .. } = self.inner.as_ref();
        Ok(Box::new(S3Writer::create(Arc::clone(bucket), Arc::clone(parts), file_id)))
    }

    async fn resume(
        &self,
        file_id: FileId,
        len: u64,
        checkpoint: &[u8],
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        if len == 0 {
            return self.create(file_id).await;
        }
        let Inner { bucket, parts, .. } = self.inner.as_ref();
        let resumed = S3Writer::resume(Arc::clone(bucket), Arc::clone(parts), file_id, len, checkpoint).await;
        match resumed {
            Ok(writer) => Ok(Box::new(writer)),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn open(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let blocks = &self.inner.blocks;
        match S3Reader::open(Arc::clone(blocks), file_id).await {
            Ok(reader) => Ok(Arc::new(reader)),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn open_cold(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let bucket = Arc::clone(&self.inner.bucket);
        let key = bucket.object(file_id);
        match S3Reader::cold(bucket, key).await {
            Ok(reader) => Ok(Arc::new(reader)),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn replace(&self, file_id: FileId) -> Result<Box<dyn Replacement>, StoreError> {
        self.inner.watch.check_lately().await?;
        let Inner { bucket, parts, blocks, .. } = self.inner.as_ref();
        let (bucket, parts, blocks) = (Arc::clone(bucket), Arc::clone(parts), Arc::clone(blocks));
        Ok(Box::new(S3Replacement::new(bucket, parts, blocks, file_id)))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.watch.check().await
    }

    fn forget(&self, file_id: FileId) {
        self.inner.blocks.forget(file_id);
    }

    async fn delete(&self, file_id: FileId) -> Result<(), StoreError> {
        self.inner.watch.check_lately().await?;
        let bucket = &self.inner.bucket;
        self.inner.blocks.forget(file_id);
        bucket.abort_all(&bucket.object(file_id)).await?;
        bucket.delete_all(&bucket.tails(file_id)).await?;
        bucket.delete(&bucket.object(file_id)).await
    }

    async fn list(&self, after: Option<FileId>, limit: usize) -> Result<Vec<ObjectEntry>, StoreError> {
        self.inner.watch.check_lately().await?;
        let bucket = &self.inner.bucket;
        let after = after.map(|after| bucket.object(after));
        let found = bucket.list(&bucket.objects(), after, limit).await?;
        let entries = found.into_iter().filter_map(|(key, len)| {
            let file_id = key.rsplit('/').next()?.parse().ok()?;
            Some(ObjectEntry { file_id, len })
        });
        Ok(entries.collect())
    }
}

#[cfg(test)]
mod tests;
