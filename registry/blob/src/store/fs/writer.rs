//! Writing: one chunk on its way to the disk while the next is sealed.
//!
//! The whole pages of a large object go past the page cache: copying them there and writing them out from there
//! costs several times the CPU, and commit waits for the disk in any case. Small objects stay in the cache.
//! The file is locked while a writer has it, so that a writer which was given up but still hangs in the
//! kernel can not write into an upload that went on without it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::root::Root;
use crate::buffer::PAGE;
use crate::file_id::FileId;
use crate::store::{ObjectWriter, StoreError};

/// A locked file and where its next byte goes.
struct Tail {
    file: File,
    at: u64,
    way: Way,
}

/// How the next bytes are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Cached,
    PastTheCache,
    /// Through the cache for good: the filesystem knows no other way.
    OnlyCached,
}

impl Tail {
    fn new(file: File, at: u64) -> Self {
        Self { file, at, way: Way::Cached }
    }

    /// Writes the next bytes, whole pages of them past the page cache unless the object is small.
    fn write(&mut self, chunk: &[u8], is_large: bool) -> io::Result<()> {
        let begins_page = self.at.is_multiple_of(PAGE as u64) && chunk.as_ptr().addr().is_multiple_of(PAGE);
        let pages = if is_large && begins_page { chunk.len() - chunk.len() % PAGE } else { 0 };
        if pages > 0 && self.go(Way::PastTheCache)? {
            match self.file.write_all_at(&chunk[..pages], self.at) {
                Ok(()) => {
                    self.at += pages as u64;
                    return self.write(&chunk[pages..], false);
                }
                // What of it was written is written once more.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => drop(self.go(Way::OnlyCached)?),
                Err(error) => return Err(error),
            }
        }
        if !chunk.is_empty() {
            self.go(Way::Cached)?;
            self.file.write_all_at(chunk, self.at)?;
            self.at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Whether the next bytes go this way.
    fn go(&mut self, way: Way) -> io::Result<bool> {
        if self.way == way || self.way == Way::OnlyCached {
            return Ok(self.way == way);
        }
        let flags = if way == Way::PastTheCache { OFlags::DIRECT } else { OFlags::empty() };
        match rustix::fs::fcntl_setfl(&self.file, flags) {
            Ok(()) => self.way = way,
            Err(Errno::INVAL) if way == Way::PastTheCache => self.way = Way::OnlyCached,
            Err(error) => return Err(error.into()),
        }
        Ok(self.way == way)
    }
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
        if !cut_off(&file, len)? {
            return Err(StoreError::Short);
        }
        Ok(Self { root, file_id, state: State::Idle(Tail::new(file, len)) })
    }

    /// Sends a chunk on its way, when the one before it has arrived.
    async fn begin_write(&mut self, chunk: Bytes, more: bool) -> Result<(), StoreError> {
        let start = self.settle().await?;
        let (root, file_id) = (Arc::clone(&self.root), self.file_id);
        let work = move || write(&root, file_id, start, &chunk, more);
        self.state = State::Writing(tokio::task::spawn_blocking(work));
        Ok(())
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
        cut_off(&file, 0)?;
    }
    Ok(Tail::new(file, 0))
}

/// Cuts off what an attempt that was given up wrote after the first `len` bytes; false where there are fewer.
///
/// Durably: the disk may hold those bytes already. After a power cut they would lie there again, in the place of what the
/// next attempt wrote and at least as long, and nothing but their seals would tell.
fn cut_off(file: &File, len: u64) -> io::Result<bool> {
    let held = file.metadata()?.len();
    if held > len {
        file.set_len(len)?;
        file.sync_all()?;
    }
    Ok(held >= len)
}

fn lock(file: &File) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Busy),
        Err(error) => Err(StoreError::Io(error.into())),
    }
}

/// Writes a chunk. Large are objects that more follows of, or that have begun.
fn write(root: &Root, file_id: FileId, start: Start, chunk: &[u8], more: bool) -> Result<Tail, StoreError> {
    let mut tail = match start {
        Start::Go(tail) => tail,
        Start::Make { exclusive } => make(root, file_id, exclusive)?,
    };
    let is_large = more || tail.at > 0;
    tail.write(chunk, is_large)?;
    Ok(tail)
}

/// Whether what was written is what the name stands for: bytes that were deleted meanwhile are not
/// durable, however well they were synced.
fn still_named(written: &Metadata, root: &Root, file_id: FileId) -> Result<(), StoreError> {
    let named = std::fs::metadata(root.object(file_id)).map_err(|error| root.explain(error))?;
    let same = named.dev() == written.dev() && named.ino() == written.ino();
    if same { Ok(()) } else { Err(StoreError::NotFound) }
}

#[async_trait]
impl ObjectWriter for FsWriter {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.begin_write(chunk, true).await
    }

    async fn flush(&mut self, last: Bytes) -> Result<Vec<u8>, StoreError> {
        if !last.is_empty() {
            self.begin_write(last, false).await?;
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
            let is_made_now = matches!(start, Start::Make { .. });
            let tail = write(&root, file_id, start, &last, false)?;
            let written = tail.file.metadata()?;
            if !is_made_now {
                still_named(&written, &root, file_id)?;
            }
            if let Err(error) = root.sync(file_id, &tail.file) {
                // What a failed sync did not write counts as written to the next one, so there is none.
                root.give_up(file_id, &tail.file);
                return Err(StoreError::Io(error));
            }
            still_named(&written, &root, file_id)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::{PAGE, Tail, Way};
    use crate::buffer::Pool;

    #[test]
    fn whole_pages_of_large_objects_go_past_the_cache_and_every_byte_to_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        let pool: Arc<Pool> = Arc::default();
        let mut buffer = pool.take_span();
        buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at / 7) as u8);
        let mut tail = Tail::new(File::create(&path).unwrap(), 0);
        let mut expected = Vec::new();
        // Pages, part of one, what begins inside of a page, and what lies wrongly in memory.
        for (range, is_large, way) in [
            (0..100, false, Way::Cached),
            (0..PAGE - 100, true, Way::Cached),
            (0..5 * PAGE, true, Way::PastTheCache),
            (PAGE..9 * PAGE + 5, true, Way::Cached),
            (0..PAGE - 5, true, Way::Cached),
            (1..2 * PAGE + 1, true, Way::Cached),
            (0..2 * PAGE, true, Way::PastTheCache),
            (0..2 * PAGE, false, Way::Cached),
        ] {
            tail.write(&buffer[range.clone()], is_large).unwrap();
            assert!([way, Way::OnlyCached].contains(&tail.way), "{range:?}");
            expected.extend_from_slice(&buffer[range]);
        }
        assert!(std::fs::read(&path).unwrap() == expected);
        tail.way = Way::OnlyCached;
        tail.write(&buffer[..PAGE], true).unwrap();
        assert!(tail.way == Way::OnlyCached);
    }
}
