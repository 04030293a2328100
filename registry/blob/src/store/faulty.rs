//! A store for tests that fails, hangs or is not there when told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::memory::MemoryStore;
use super::{BlobStore, ObjectEntry, ObjectReader, ObjectWriter, Replacement, StoreError};
use crate::buffer::Buffer;
use crate::file_id::FileId;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Error(io::ErrorKind),
    /// Half of the bytes are written, then an error.
    ShortWrite,
    Hang,
    Offline,
}

/// A store in memory whose calls go wrong from a certain one on.
#[derive(Clone)]
pub(crate) struct FaultyStore {
    pub(crate) memory: MemoryStore,
    plan: Arc<Plan>,
    /// What lies there of an object is not durable.
    is_unsynced: Arc<AtomicBool>,
}

struct Plan {
    fault: Mutex<Option<Fault>>,
    /// Calls that still go well.
    good: AtomicUsize,
    calls: AtomicUsize,
}

impl Plan {
    async fn step(&self) -> Result<(), (StoreError, Fault)> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock();
        let Some(fault) = fault else { return Ok(()) };
        if self.good.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Ok(());
        }
        match fault {
            Fault::Error(kind) => Err((StoreError::Io(kind.into()), fault)),
            Fault::ShortWrite => Err((StoreError::Io(io::ErrorKind::WriteZero.into()), fault)),
            Fault::Offline => Err((StoreError::Offline("told to be".into()), fault)),
            Fault::Hang => std::future::pending().await,
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.step().await.map_err(|(error, _)| error)
    }
}

impl FaultyStore {
    pub(crate) fn new() -> Self {
        let plan = Plan { fault: Mutex::new(None), good: AtomicUsize::new(0), calls: AtomicUsize::new(0) };
        Self { memory: MemoryStore::default(), plan: Arc::new(plan), is_unsynced: Arc::default() }
    }

    /// After `good` more calls every call goes wrong; `None` mends the store.
    pub(crate) fn fail_after(&self, good: usize, fault: impl Into<Option<Fault>>) {
        self.plan.good.store(good, Ordering::SeqCst);
        self.plan.calls.store(0, Ordering::SeqCst);
        *self.plan.fault.lock() = fault.into();
    }

    /// The next sync of an object tells that it is not durable.
    pub(crate) fn fail_next_sync(&self) {
        self.is_unsynced.store(true, Ordering::SeqCst);
    }

    fn writer(&self, file_id: FileId, inner: Box<dyn ObjectWriter>) -> Box<dyn ObjectWriter> {
        let (memory, plan) = (self.memory.clone(), Arc::clone(&self.plan));
        Box::new(FaultyWriter { inner, memory, file_id, plan })
    }

    /// Calls since the last `fail_after`.
    pub(crate) fn calls(&self) -> usize {
        self.plan.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl BlobStore for FaultyStore {
    async fn create(&self, file_id: FileId) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.plan.check().await?;
        let inner = self.memory.create(file_id).await?;
        Ok(self.writer(file_id, inner))
    }

    async fn resume(
        &self,
        file_id: FileId,
        len: u64,
        checkpoint: &[u8],
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.plan.check().await?;
        let inner = self.memory.resume(file_id, len, checkpoint).await?;
        Ok(self.writer(file_id, inner))
    }

    async fn open(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        self.plan.check().await?;
        let inner = self.memory.open(file_id).await?;
        Ok(Arc::new(FaultyReader { inner, plan: Arc::clone(&self.plan) }))
    }

    async fn sync(&self, _file_id: FileId) -> Result<(), StoreError> {
        if self.is_unsynced.swap(false, Ordering::SeqCst) { Err(StoreError::NotFound) } else { Ok(()) }
    }

    async fn replace(&self, file_id: FileId) -> Result<Box<dyn Replacement>, StoreError> {
        self.plan.check().await?;
        let inner = self.memory.replace(file_id).await?;
        Ok(Box::new(FaultyReplacement { inner, plan: Arc::clone(&self.plan) }))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.plan.check().await
    }

    async fn delete(&self, file_id: FileId) -> Result<(), StoreError> {
        self.plan.check().await?;
        self.memory.delete(file_id).await
    }

    async fn list(&self, after: Option<FileId>, limit: usize) -> Result<Vec<ObjectEntry>, StoreError> {
        self.plan.check().await?;
        self.memory.list(after, limit).await
    }
}

struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    memory: MemoryStore,
    file_id: FileId,
    plan: Arc<Plan>,
}

#[async_trait]
impl ObjectWriter for FaultyWriter {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        if let Err((error, fault)) = self.plan.step().await {
            if fault == Fault::ShortWrite {
                self.inner.append(chunk.slice(..chunk.len() / 2)).await?;
            }
            return Err(error);
        }
        self.inner.append(chunk).await
    }

    async fn flush(&mut self, last: Bytes) -> Result<Vec<u8>, StoreError> {
        self.plan.check().await?;
        self.inner.flush(last).await
    }

    async fn commit(self: Box<Self>, last: Bytes) -> Result<(), StoreError> {
        self.plan.check().await?;
        self.inner.commit(last).await?;
        // What was written and could not be synced is given up.
        let synced = self.plan.check().await;
        if synced.is_err() {
            self.memory.delete(self.file_id).await?;
        }
        synced
    }
}

struct FaultyReplacement {
    inner: Box<dyn Replacement>,
    plan: Arc<Plan>,
}

#[async_trait]
impl Replacement for FaultyReplacement {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.plan.check().await?;
        self.inner.append(chunk).await
    }

    async fn finish(&mut self) -> Result<Arc<dyn ObjectReader>, StoreError> {
        self.plan.check().await?;
        self.inner.finish().await
    }

    async fn swap(self: Box<Self>) -> Result<(), StoreError> {
        self.plan.check().await?;
        self.inner.swap().await
    }
}

/// Reads never come inline, so that they wait and fail as told.
struct FaultyReader {
    inner: Arc<dyn ObjectReader>,
    plan: Arc<Plan>,
}

#[async_trait]
impl ObjectReader for FaultyReader {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn try_read_at(&self, _offset: u64, _target: &mut [u8]) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn read_at(
        &self,
        offset: u64,
        buffer: Buffer,
        from: usize,
        to: usize,
    ) -> Result<Buffer, StoreError> {
        self.plan.check().await?;
        self.inner.read_at(offset, buffer, from, to).await
    }
}
