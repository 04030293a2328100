//! Writing: one part on its way while the next one fills.
//!
//! All parts have 8 MiB but the last, so that a part is a slice of the object whatever the requests were. Their
//! memory comes out of one budget; a part is paid for whole before its first byte, so that whoever has begun
//! one can always finish it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::bucket::Bucket;
use super::checkpoint::Checkpoint;
use crate::file_id::FileId;
use crate::store::{ObjectWriter, StoreError};

/// Length of a part in bytes.
pub(super) const PART: usize = 8 << 20;

/// The memory of all parts.
pub(super) struct Parts(Arc<Semaphore>);

impl Parts {
    /// Room for `count` parts; an upload needs two at a time.
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.max(2))))
    }

    async fn part(&self) -> Result<Part, StoreError> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        Ok(Part { bytes: BytesMut::with_capacity(PART), _permit: permit })
    }
}

/// A part that fills.
struct Part {
    bytes: BytesMut,
    _permit: OwnedSemaphorePermit,
}

/// Where the finished object goes.
pub(super) enum Target {
    /// Under its own name, where nothing may lie.
    Object(FileId),
    /// Beside it, under a key of its own.
    Beside(String),
}

pub(super) struct S3Writer {
    bucket: Arc<Bucket>,
    parts: Arc<Parts>,
    target: Target,
    key: String,
    done: Checkpoint,
    sending: Option<JoinHandle<Result<String, StoreError>>>,
    filling: Option<Part>,
    /// The tail that `resume` began with.
    old_tail: Option<String>,
    /// Set while a call is under way: one that failed or was dropped leaves the writer unusable.
    failed: bool,
}

impl S3Writer {
    pub(super) fn create(bucket: Arc<Bucket>, parts: Arc<Parts>, file_id: FileId) -> Self {
        Self::new(bucket, parts, Target::Object(file_id), Checkpoint::default())
    }

    pub(super) fn beside(bucket: Arc<Bucket>, parts: Arc<Parts>, key: String) -> Self {
        Self::new(bucket, parts, Target::Beside(key), Checkpoint::default())
    }

    fn new(bucket: Arc<Bucket>, parts: Arc<Parts>, target: Target, done: Checkpoint) -> Self {
        let key = match &target {
            Target::Object(file_id) => bucket.object(*file_id),
            Target::Beside(key) => key.clone(),
        };
        Self { bucket, parts, target, key, done, sending: None, filling: None, old_tail: None, failed: false }
    }

    /// Goes on after the flush whose checkpoint this is.
    pub(super) async fn resume(
        bucket: Arc<Bucket>,
        parts: Arc<Parts>,
        file_id: FileId,
        len: u64,
        checkpoint: &[u8],
    ) -> Result<Self, StoreError> {
        let Checkpoint { upload, parts: tags, tail } = Checkpoint::decode(checkpoint)?;
        let tail_len = tail.as_ref().map_or(0, |(_, len)| *len);
        if tags.len() as u64 * PART as u64 + tail_len != len {
            return Err(StoreError::Short);
        }
        let done = Checkpoint { upload, parts: tags, tail: None };
        let mut writer = Self::new(bucket, parts, Target::Object(file_id), done);
        if let Some(upload) = &writer.done.upload {
            writer.bucket.is_begun(&writer.key, upload).await?;
        }
        if let Some((key, len)) = tail {
            let found = writer.bucket.get(&key, None).await?;
            if found.bytes.len() as u64 != len {
                return Err(StoreError::Short);
            }
            writer.fill(&found.bytes).await?;
            writer.old_tail = Some(key);
        }
        Ok(writer)
    }

    /// Adds bytes; full parts are sent, one at a time.
    async fn fill(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let part = match &mut self.filling {
                Some(part) => part,
                none => none.insert(self.parts.part().await?),
            };
            let (now, later) = bytes.split_at(bytes.len().min(PART - part.bytes.len()));
            part.bytes.extend_from_slice(now);
            bytes = later;
            if part.bytes.len() == PART {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Sends the part that fills, once the one before has arrived.
    async fn send_part(&mut self) -> Result<(), StoreError> {
        let Some(Part { bytes, _permit: permit }) = self.filling.take() else { return Ok(()) };
        self.settle().await?;
        let upload = match &self.done.upload {
            Some(upload) => upload.clone(),
            None => self.done.upload.insert(self.bucket.begin(&self.key).await?).clone(),
        };
        let (bucket, key, number) = (Arc::clone(&self.bucket), self.key.clone(), self.done.parts.len() + 1);
        self.sending = Some(tokio::spawn(async move {
            let sent = bucket.send(&key, &upload, number, bytes.freeze()).await;
            drop(permit);
            sent
        }));
        Ok(())
    }

    /// Waits for the part on its way.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if let Some(sending) = self.sending.take() {
            self.done.parts.push(sending.await.map_err(io::Error::other)??);
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(StoreError::Io(io::Error::other("an earlier write failed")));
        }
        Ok(())
    }

    /// Adds `last` and completes the object.
    pub(super) async fn complete(&mut self, last: Bytes) -> Result<(), StoreError> {
        self.enter()?;
        self.fill(&last).await?;
        let only_new = matches!(self.target, Target::Object(_));
        if self.done.upload.is_none() {
            let bytes = self.filling.take().map(|part| part.bytes.freeze()).unwrap_or_default();
            self.bucket.put(&self.key, bytes, only_new).await?;
        } else {
            self.send_part().await?;
            self.settle().await?;
            let upload = self.done.upload.as_deref().unwrap_or_default();
            self.bucket.complete(&self.key, upload, &self.done.parts, only_new).await?;
        }
        if let (Target::Object(file_id), true) = (&self.target, self.old_tail.is_some()) {
            let (bucket, tails) = (Arc::clone(&self.bucket), self.bucket.tails(*file_id));
            // Nobody waits for this; what it leaves goes with the object.
            tokio::spawn(async move { bucket.delete_all(&tails).await });
        }
        Ok(())
    }

    /// Gives the multipart upload up, if one was begun.
    pub(super) fn begun(&self) -> Option<&str> {
        self.done.upload.as_deref()
    }
}

#[async_trait]
impl ObjectWriter for S3Writer {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.enter()?;
        self.fill(&chunk).await?;
        self.failed = false;
        Ok(())
    }

    async fn flush(&mut self, last: Bytes) -> Result<Vec<u8>, StoreError> {
        self.enter()?;
        self.fill(&last).await?;
        self.settle().await?;
        let tail = match (&self.filling, &self.target) {
            (Some(part), Target::Object(file_id)) => {
                let bytes = Bytes::copy_from_slice(&part.bytes);
                let key = format!("{}{}", self.bucket.tails(*file_id), FileId::random());
                let len = bytes.len() as u64;
                self.bucket.put(&key, bytes, false).await?;
                Some((key, len))
            }
            _ => None,
        };
        let checkpoint =
            Checkpoint { upload: self.done.upload.clone(), parts: self.done.parts.clone(), tail }.encode();
        // Later than this flush nobody goes on from a tail before the one that this writer began with; that
        // one itself stays, since the row may still name it.
        self.failed = false;
        Ok(checkpoint)
    }

    async fn commit(mut self: Box<Self>, last: Bytes) -> Result<(), StoreError> {
        self.complete(last).await
    }
}
