//! Writing: one chunk on its way to the page cache while the next is sealed.
//!
//! The file is locked while a writer has it, so that a writer which was given up but still hangs in the
//! kernel can not write into an upload that went on without it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
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

/// Where a chunk goes: into a file that is open, or into one to be made.
enum Start {
    Make { exclusive: bool },
    Go(Tail),
}

enum State {
    /// The file is made with its first bytes: a small object costs one trip to the pool.
    New {
        exclusive: bool,
    },
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
        Self { root, file_id, state: State::New { exclusive: true } }
    }

    /// Goes on at `len`. Blocks, unless `len` is 0: then the object is opened with its first bytes.
    pub(super) fn resume(root: Arc<Root>, file_id: FileId, len: u64) -> Result<Self, StoreError> {
        if len == 0 {
            return Ok(Self { root, file_id, state: State::New { exclusive: false } });
        }
        root.check()?;
        root.check_given_up(file_id)?;
        let file = File::options().write(true).open(root.object(file_id));
        let file = file.map_err(|error| root.explain(error))?;
        lock(&file)?;
        if file.metadata()?.len() < len {
            return Err(StoreError::Short);
        }
        file.set_len(len)?;
        Ok(Self { root, file_id, state: State::Idle(Tail { file, at: len }) })
    }

    /// Waits for the chunk on its way. The state is `Failed` until the caller sets the next one.
    async fn settle(&mut self) -> Result<Start, StoreError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::New { exclusive } => Ok(Start::Make { exclusive }),
            State::Idle(tail) => Ok(Start::Go(tail)),
            State::Writing(job) => job.await.map_err(io::Error::other)?.map(Start::Go),
            State::Failed => Err(StoreError::Io(io::Error::other("an earlier write failed"))),
        }
    }
}

/// Makes the object; an exclusive one's name must be free, another is emptied.
fn make(root: &Root, file_id: FileId, exclusive: bool) -> Result<Tail, StoreError> {
    root.check()?;
    root.check_given_up(file_id)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).create_new(exclusive).truncate(false).mode(0o600);
    let file = options.open(root.object(file_id)).map_err(|error| root.explain(error))?;
    lock(&file)?;
    if !exclusive {
        file.set_len(0)?;
    }
    Ok(Tail { file, at: 0 })
}

fn lock(file: &File) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Busy),
        Err(error) => Err(StoreError::Io(error.into())),
    }
}

fn write(root: &Root, file_id: FileId, start: Start, chunk: &[u8]) -> Result<Tail, StoreError> {
    let mut tail = match start {
        Start::Go(tail) => tail,
        Start::Make { exclusive } => make(root, file_id, exclusive)?,
    };
    tail.file.write_all_at(chunk, tail.at)?;
    tail.at += chunk.len() as u64;
    Ok(tail)
}

/// Makes an object and its name durable.
fn sync(file: &File, root: &Root, file_id: FileId) -> io::Result<()> {
    #[cfg(test)]
    if root.fail_sync.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(io::Error::other("a sync that fails, for a test"));
    }
    file.sync_data()?;
    sync_folder(&root.folder(file_id.as_bytes()[0]))
}

/// Whether what was written is what the name stands for: bytes that were deleted meanwhile are not
/// durable, however well they were synced.
fn still_named(file: &File, root: &Root, file_id: FileId) -> Result<(), StoreError> {
    let named = std::fs::metadata(root.object(file_id)).map_err(|error| root.explain(error))?;
    let written = file.metadata()?;
    let same = named.dev() == written.dev() && named.ino() == written.ino();
    if same { Ok(()) } else { Err(StoreError::NotFound) }
}

#[async_trait]
impl ObjectWriter for FsWriter {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let start = self.settle().await?;
        let (root, file_id) = (Arc::clone(&self.root), self.file_id);
        self.state =
            State::Writing(tokio::task::spawn_blocking(move || write(&root, file_id, start, &chunk)));
        Ok(())
    }

    async fn flush(&mut self, last: Bytes) -> Result<Vec<u8>, StoreError> {
        if !last.is_empty() {
            self.append(last).await?;
        }
        self.state = match self.settle().await? {
            Start::Go(tail) => State::Idle(tail),
            Start::Make { exclusive } => State::New { exclusive },
        };
        Ok(Vec::new())
    }

    async fn commit(mut self: Box<Self>, last: Bytes) -> Result<(), StoreError> {
        let start = self.settle().await?;
        let (root, file_id) = (Arc::clone(&self.root), self.file_id);
        super::blocking(move || {
            let tail = write(&root, file_id, start, &last)?;
            still_named(&tail.file, &root, file_id)?;
            if let Err(error) = sync(&tail.file, &root, file_id) {
                // What a failed sync did not write counts as written to the next one, so there is none.
                root.give_up(file_id, &tail.file);
                return Err(StoreError::Io(error));
            }
            still_named(&tail.file, &root, file_id)
        })
        .await
    }
}
