//! Writing: one chunk on its way to the page cache while the next is sealed.
//!
//! The file is locked while a writer has it, so that a writer which was given up but still hangs in the
//! kernel can not write into an upload that went on without it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::root::{Root, sync_folder};
use crate::file_id::FileId;
use crate::store::{ObjectWriter, StoreError};

/// A locked file and where its next byte goes.
struct Tail {
    file: File,
    at: u64,
}

enum State {
    /// The file is made with its first bytes: a small object costs one trip to the pool.
    New,
    Idle(Tail),
    Writing(JoinHandle<Result<Tail, StoreError>>),
    /// An error, or a call that was dropped half-way: the end of the file is unknown.
    Failed,
}

pub(super) struct FsWriter {
    root: Arc<Root>,
    file_id: FileId,
    state: State,
}

impl FsWriter {
    pub(super) fn create(root: Arc<Root>, file_id: FileId) -> Self {
        Self { root, file_id, state: State::New }
    }

    /// Blocks.
    pub(super) fn resume(root: Arc<Root>, file_id: FileId, len: u64) -> Result<Self, StoreError> {
        root.check()?;
        let path = root.object(file_id);
        let mut options = OpenOptions::new();
        options.write(true).create(len == 0).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|error| root.explain(error))?;
        lock(&file)?;
        if file.metadata()?.len() < len {
            return Err(StoreError::Short);
        }
        file.set_len(len)?;
        Ok(Self { root, file_id, state: State::Idle(Tail { file, at: len }) })
    }

    /// Waits for the chunk on its way. The state is `Failed` until the caller sets the next one.
    async fn settle(&mut self) -> Result<Option<Tail>, StoreError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::New => Ok(None),
            State::Idle(tail) => Ok(Some(tail)),
            State::Writing(job) => job.await.map_err(io::Error::other)?.map(Some),
            State::Failed => Err(StoreError::Io(io::Error::other("an earlier write failed"))),
        }
    }
}

/// Creates the object; the name must be free.
fn make(root: &Root, file_id: FileId) -> Result<Tail, StoreError> {
    root.check()?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(root.object(file_id)).map_err(|error| root.explain(error))?;
    lock(&file)?;
    Ok(Tail { file, at: 0 })
}

fn lock(file: &File) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Busy),
        Err(error) => Err(StoreError::Io(error.into())),
    }
}

fn write(root: &Root, file_id: FileId, tail: Option<Tail>, chunk: &[u8]) -> Result<Tail, StoreError> {
    let mut tail = match tail {
        Some(tail) => tail,
        None => make(root, file_id)?,
    };
    tail.file.write_all_at(chunk, tail.at)?;
    tail.at += chunk.len() as u64;
    Ok(tail)
}

#[async_trait]
impl ObjectWriter for FsWriter {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let tail = self.settle().await?;
        let (root, file_id) = (Arc::clone(&self.root), self.file_id);
        self.state = State::Writing(tokio::task::spawn_blocking(move || write(&root, file_id, tail, &chunk)));
        Ok(())
    }

    async fn flush(&mut self, last: Bytes) -> Result<(), StoreError> {
        if !last.is_empty() {
            self.append(last).await?;
        }
        self.state = match self.settle().await? {
            Some(tail) => State::Idle(tail),
            None => State::New,
        };
        Ok(())
    }

    async fn commit(mut self: Box<Self>, last: Bytes) -> Result<(), StoreError> {
        let tail = self.settle().await?;
        let (root, file_id) = (Arc::clone(&self.root), self.file_id);
        super::blocking(move || {
            let tail = write(&root, file_id, tail, &last)?;
            tail.file.sync_data()?;
            // Its name too. A failed sync is never tried again: the object is given up.
            Ok(sync_folder(&root.folder(file_id.as_bytes()[0]))?)
        })
        .await
    }
}
