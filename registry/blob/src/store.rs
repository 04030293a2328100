//! The contract of drivers: opaque objects by file id.
//!
//! A driver knows nothing of what it stores. An object is written once, front to back, under its final
//! name, and is never replaced by other bytes; `suite` holds the checks that every driver passes.

#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod fs;
pub(crate) mod marker;
pub(crate) mod memory;
pub(crate) mod s3;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::buffer::Buffer;
use crate::file_id::FileId;

/// Why a replica could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No object of that name, on a replica that is known to be the right one.
    #[error("no such object")]
    NotFound,
    /// An object of that name is there already.
    #[error("an object of that name exists")]
    Exists,
    /// The object is being written through another writer.
    #[error("the object is being written")]
    Busy,
    /// The object is shorter than asked for.
    #[error("the object ends early")]
    Short,
    /// The root does not carry this replica's marker: not mounted, or another replica's.
    #[error("the replica is offline: {0}")]
    Offline(String),
    /// An answer did not come in time.
    #[error("the replica did not answer in time")]
    TimedOut,
    #[error("the replica failed")]
    Io(#[from] io::Error),
}

/// One object, as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    pub file_id: FileId,
    pub len: u64,
}

/// A place that keeps objects: one replica.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a new object. That the name is free is checked when the first bytes are written, or here:
    /// a second object of one name fails with `Exists` at the latest when it is committed.
    async fn create(&self, file_id: FileId) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Goes on writing an object at `len`, giving up what lies past it. `checkpoint` is what the `flush`
    /// gave after which the object had `len` bytes. `NotFound` when the object is not there, `Short` when it holds fewer
    /// than `len` bytes, `Busy` while another writer has it (where the driver can tell). With `len` 0 the
    /// object is begun, over whatever an attempt that was given up left there; `Busy` may then come with
    /// the first bytes, and a driver that can not begin anew over a committed object fails with `Exists`.
    async fn resume(
        &self,
        file_id: FileId,
        len: u64,
        checkpoint: &[u8],
    ) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Opens a committed object for reading. What a reader has open stays readable after `delete` where the
    /// driver can keep it; elsewhere reads fail with `NotFound`.
    async fn open(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError>;

    /// The same, past whatever caches lie before the medium: for scrub and repair.
    async fn open_cold(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        self.open(file_id).await
    }

    /// Makes durable whatever lies there of an object; of one that is, this costs next to nothing. `NotFound` when
    /// there is none, or a sync of it failed before: bytes may then be read here and be lost all the same. For
    /// repair, which takes no copy for good that a power cut would take away.
    async fn sync(&self, _file_id: FileId) -> Result<(), StoreError> {
        Ok(())
    }

    /// Begins another copy beside the object that lies there, or is missing: for repair alone.
    async fn replace(&self, file_id: FileId) -> Result<Box<dyn Replacement>, StoreError>;

    /// Whether the replica is there and carries its own marker: `Offline` when not.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Drops what is cached of an object, because it turned out bad or was replaced.
    fn forget(&self, _file_id: FileId) {}

    /// Removes an object, durably; one that is not there is no error, an offline replica is.
    async fn delete(&self, file_id: FileId) -> Result<(), StoreError>;

    /// At most `limit` objects in the order of their ids, beginning after `after`. For scrub alone:
    /// what a store lists never decides what is deleted.
    async fn list(&self, after: Option<FileId>, limit: usize) -> Result<Vec<ObjectEntry>, StoreError>;
}

/// The one writer of an object. Dropping it leaves what was written.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Adds bytes at the end. Returns once the chunk before is written, so that one chunk is on its way
    /// while the next is made; an error may surface one call late. After an error, or when a call is
    /// dropped before it returned, every later call fails.
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError>;

    /// Adds `last` and waits until another process can `resume` after every byte. Survives SIGKILL, not
    /// necessarily a power cut. Gives the driver's checkpoint for `resume`, empty where it needs none.
    async fn flush(&mut self, last: Bytes) -> Result<Vec<u8>, StoreError>;

    /// Adds `last` and makes the object and its name durable. When that fails the object is given up: a
    /// second sync would succeed over lost bytes, so `resume` must not find it again.
    async fn commit(self: Box<Self>, last: Bytes) -> Result<(), StoreError>;
}

/// A new copy of an object, written beside the old one. Dropping it gives it up; the old one stays.
#[async_trait]
pub trait Replacement: Send {
    /// Adds bytes at the end.
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError>;

    /// Makes the copy durable beside the object. The reader reads it past every cache.
    async fn finish(&mut self) -> Result<Arc<dyn ObjectReader>, StoreError>;

    /// Puts the finished copy in the object's place, durably and at once.
    async fn swap(self: Box<Self>) -> Result<(), StoreError>;
}

/// An open object. Cheap to share; reads of one object run side by side.
#[async_trait]
pub trait ObjectReader: Send + Sync {
    /// Length in bytes when it was opened.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads what can be had without waiting: returns how many bytes of the front of `target` are
    /// filled, 0 if the read would block. `Short` at the end of the object.
    fn try_read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize, StoreError>;

    /// Fills `buffer[from..to]` from the object's bytes at `offset`, waiting where it must.
    /// `Short` if the object ends before.
    async fn read_at(
        &self,
        offset: u64,
        buffer: Buffer,
        from: usize,
        to: usize,
    ) -> Result<Buffer, StoreError>;
}
