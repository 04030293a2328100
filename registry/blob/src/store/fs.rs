//! One replica in a directory of a filesystem.
//!
//! An object lies under its final name from its first byte, in one of 256 folders made with the replica.
//! No folder is ever made later, so that a disk which is not mounted is never written past.

mod reader;
mod replacement;
mod root;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use super::marker::Marker;
use super::{BlobStore, ObjectEntry, ObjectReader, ObjectWriter, Replacement, StoreError};
use crate::file_id::FileId;
use crate::replicate::ReplicaId;
use reader::FsReader;
use replacement::FsReplacement;
use root::Root;
use writer::FsWriter;

/// How long an object may stay locked by the last write of a writer that was dropped.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// One replica in a directory of a filesystem. Clones share it.
#[derive(Clone)]
pub struct FsStore {
    root: Arc<Root>,
    /// Cleared when the system has no openat2(2) or forbids it: then every open goes to the pool.
    cached_open: Arc<AtomicBool>,
}

impl FsStore {
    /// Makes `root` the root of a new replica: folders, then the marker, all durable. Blocks. Refused
    /// when `root` carries a marker or objects already; a marker of the same replica is no error.
    /// Called once, when the replica is registered.
    pub fn initialize(root: &Path, cluster: &str, replica: &ReplicaId) -> Result<(), StoreError> {
        Root::new(root, cluster, replica).initialize()
    }

    /// The marker that lies in `root`, if any. Blocks.
    pub fn marker(root: &Path) -> Result<Option<Marker>, StoreError> {
        Ok(root::read_marker(root)?)
    }

    /// A store over `root`. It works only while `root` carries the marker of this cluster and replica;
    /// without it every call answers `Offline`. Never fails itself: a replica may come back.
    pub fn open(root: &Path, cluster: &str, replica: &ReplicaId) -> Self {
        let root = Arc::new(Root::new(root, cluster, replica));
        Self { root, cached_open: Arc::new(AtomicBool::new(true)) }
    }

    /// Whether the root carries its marker. Blocks.
    pub fn check(&self) -> Result<(), StoreError> {
        self.root.check()
    }

    /// Keeps a small text beside the objects, in the place of what had its name, whole and durable. Blocks.
    pub fn keep_note(&self, name: &str, text: &[u8]) -> Result<(), StoreError> {
        self.root.keep_note(name, text)
    }

    /// A text that was kept; `None` where there is none of that name. Blocks.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.root.note(name)
    }

    /// Opens a file whose name the kernel has at hand; `None` when that would block, or can not be known.
    fn open_cached(&self, path: &Path) -> Option<Result<FsReader, StoreError>> {
        if !self.cached_open.load(Ordering::Relaxed) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
            Ok(file) => Some(FsReader::new(file.into()).map_err(StoreError::Io)),
            Err(Errno::AGAIN | Errno::NOENT) => None,
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
                self.cached_open.store(false, Ordering::Relaxed);
                None
            }
            Err(error) => Some(Err(StoreError::Io(error.into()))),
        }
    }
}

/// Runs what may block on the blocking pool.
async fn blocking<T, F>(work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Io(io::Error::other(error))),
    }
}

#[async_trait]
impl BlobStore for FsStore {
    async fn create(&self, file_id: FileId) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Ok(Box::new(FsWriter::create(Arc::clone(&self.root), file_id)))
    }

    async fn resume(
        &self,
        file_id: FileId,
        len: u64,
        _checkpoint: &[u8],
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let started = Instant::now();
        loop {
            let root = Arc::clone(&self.root);
            match blocking(move || FsWriter::resume(root, file_id, len)).await {
                Err(StoreError::Busy) if started.elapsed() < LAST_WRITE => sleep(LAST_WRITE / 50).await,
                resumed => return Ok(Box::new(resumed?)),
            }
        }
    }

    async fn open(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let path = self.root.object(file_id);
        let reader = match self.open_cached(&path) {
            Some(opened) => opened?,
            None => {
                let root = Arc::clone(&self.root);
                blocking(move || match std::fs::File::open(&path) {
                    Ok(file) => Ok(FsReader::new(file)?),
                    Err(error) => Err(root.explain(error)),
                })
                .await?
            }
        };
        Ok(Arc::new(reader))
    }

    async fn open_cold(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            let file = std::fs::File::open(root.object(file_id)).map_err(|error| root.explain(error))?;
            Ok(Arc::new(FsReader::cold(file)?) as Arc<dyn ObjectReader>)
        })
        .await
    }

    async fn sync(&self, file_id: FileId) -> Result<(), StoreError> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            root.check_given_up(file_id)?;
            let file = std::fs::File::open(root.object(file_id)).map_err(|error| root.explain(error))?;
            root.sync(file_id, &file).map_err(|error| {
                root.distrust(file_id);
                StoreError::Io(error)
            })
        })
        .await
    }

    async fn replace(&self, file_id: FileId) -> Result<Box<dyn Replacement>, StoreError> {
        let root = Arc::clone(&self.root);
        Ok(Box::new(blocking(move || FsReplacement::create(root, file_id)).await?))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let root = Arc::clone(&self.root);
        blocking(move || root.verify(SystemTime::now())).await
    }

    async fn delete(&self, file_id: FileId) -> Result<(), StoreError> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            if let Err(error) = std::fs::remove_file(root.object(file_id)) {
                match root.explain(error) {
                    // By an attempt, perhaps, that came no further.
                    StoreError::NotFound => {}
                    error => return Err(error),
                }
            }
            // Whoever asked forgets the object: after a power cut it would lie there for good.
            Ok(root::sync_folder(&root.folder(file_id.as_bytes()[0]))?)
        })
        .await
    }

    async fn list(&self, after: Option<FileId>, limit: usize) -> Result<Vec<ObjectEntry>, StoreError> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            root.check()?;
            let mut entries = Vec::new();
            let first = after.map_or(0, |after| after.as_bytes()[0]);
            for folder in first..=u8::MAX {
                list_folder(&root.folder(folder), after, limit, &mut entries)?;
                if entries.len() >= limit {
                    break;
                }
            }
            Ok(entries)
        })
        .await
    }
}

/// Adds the objects of one folder after `after`, in order, until there are `limit`. Other names are none of
/// ours. Only what is added is looked at.
fn list_folder(
    folder: &Path,
    after: Option<FileId>,
    limit: usize,
    entries: &mut Vec<ObjectEntry>,
) -> Result<(), StoreError> {
    let mut names: Vec<FileId> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Some(file_id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if after.is_none_or(|after| file_id > after) {
            names.push(file_id);
        }
    }
    names.sort_unstable();
    for file_id in names {
        if entries.len() >= limit {
            break;
        }
        match std::fs::symlink_metadata(folder.join(file_id.to_string())) {
            Ok(metadata) => entries.push(ObjectEntry { file_id, len: metadata.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
