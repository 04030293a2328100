//! The root of a replica: folders of objects, and the marker that says whose they are.
//!
//! A root without its marker is offline, not empty: the disk is not mounted, or it is another one. That is looked
//! at before every object, by the marker's file; what is in it is read when that is not the file it was.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::file_id::FileId;
use crate::replicate::ReplicaId;
use crate::store::StoreError;
use crate::store::marker::{MARKER, Marker};
use parking_lot::Mutex;

const OBJECTS: &str = "objects";
const NOTES: &str = "notes";
const HEX: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];
/// The room for what follows the root in the path of an object.
const BELOW: usize = 64;
/// A file that was changed less than this ago may change again and bear the same time: clocks of filesystems tick in
/// steps of up to two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Where a replica lies and whose it is.
pub(super) struct Root {
    path: PathBuf,
    marker: Marker,
    /// The file that the marker was last read from and found good.
    verified: Mutex<Option<FileState>>,
    /// Objects whose sync failed: never written again, even where they could not be removed, until a new copy
    /// has taken their place.
    given_up: Mutex<HashSet<FileId>>,
    #[cfg(test)]
    pub(super) fail_sync: std::sync::atomic::AtomicBool,
}

impl Root {
    pub(super) fn new(path: &Path, cluster: &str, replica: &ReplicaId) -> Self {
        Self {
            path: path.to_owned(),
            marker: Marker::new(cluster, replica),
            verified: Mutex::default(),
            given_up: Mutex::default(),
            #[cfg(test)]
            fail_sync: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// `objects/a/b`, by the first byte of a file id.
    pub(super) fn folder(&self, first: u8) -> PathBuf {
        let mut path = PathBuf::with_capacity(self.path.as_os_str().len() + BELOW);
        path.push(&self.path);
        path.push(OBJECTS);
        path.push(HEX[usize::from(first >> 4)]);
        path.push(HEX[usize::from(first & 15)]);
        path
    }

    pub(super) fn object(&self, file_id: FileId) -> PathBuf {
        let mut path = self.folder(file_id.as_bytes()[0]);
        path.push(file_id.to_string());
        path
    }

    /// Makes an object and its name durable.
    pub(super) fn sync(&self, file_id: FileId, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.fail_sync.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::other("a sync that fails, for a test"));
        }
        file.sync_data()?;
        sync_folder(&self.folder(file_id.as_bytes()[0]))
    }

    /// Notes that what lies there of an object may be lost, though reading it back shows it.
    pub(super) fn distrust(&self, file_id: FileId) {
        self.given_up.lock().insert(file_id);
    }

    /// Notes that a new copy of an object is durable.
    pub(super) fn trust(&self, file_id: FileId) {
        self.given_up.lock().remove(&file_id);
    }

    /// Takes an object away whose bytes may be lost, though reading it back would show them. Its writer
    /// holds the lock, and no row names it yet.
    pub(super) fn give_up(&self, file_id: FileId, file: &File) {
        self.distrust(file_id);
        let removed = file.set_len(0).and_then(|()| std::fs::remove_file(self.object(file_id)));
        if let Err(error) = removed {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(object.file_id = %file_id, error, "an object that failed to sync was not removed");
        }
    }

    pub(super) fn check_given_up(&self, file_id: FileId) -> Result<(), StoreError> {
        if self.given_up.lock().contains(&file_id) { Err(StoreError::NotFound) } else { Ok(()) }
    }

    /// Whether the marker is there and names this replica. It is read only where its file is not the one that
    /// was read last, untouched.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let verified = *self.verified.lock();
        if let Some(verified) = verified
            && std::fs::metadata(self.path.join(MARKER)).is_ok_and(|found| FileState::of(&found) == verified)
        {
            return Ok(());
        }
        self.verify(SystemTime::now())
    }

    /// The same by reading the marker in any case.
    pub(super) fn verify(&self, now: SystemTime) -> Result<(), StoreError> {
        let (checked, state) = match read_marker_file(&self.path) {
            Ok(Some((found, state))) => (self.marker.check(&self.path.display(), Some(&found)), Some(state)),
            Ok(None) => (self.marker.check(&self.path.display(), None), None),
            Err(error) => (Err(StoreError::Offline(format!("{}: {error}", self.path.display()))), None),
        };
        *self.verified.lock() = state.filter(|state| checked.is_ok() && state.is_settled(now));
        checked
    }

    #[cfg(test)]
    pub(super) fn is_remembered(&self) -> bool {
        self.verified.lock().is_some()
    }

    /// What an error on an object's path means: an object that is missing on a replica that is there,
    /// or a replica that is not.
    pub(super) fn explain(&self, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::NotFound => match self.check() {
                Ok(()) => StoreError::NotFound,
                Err(offline) => offline,
            },
            io::ErrorKind::AlreadyExists => StoreError::Exists,
            _ => StoreError::Io(error),
        }
    }

    pub(super) fn initialize(&self) -> Result<(), StoreError> {
        make_folder(&self.path)?;
        if read_marker(&self.path)?.is_some() {
            return self.check();
        }
        let objects = self.path.join(OBJECTS);
        make_folder(&objects)?;
        for digit in HEX {
            let upper = objects.join(digit);
            make_folder(&upper)?;
            for digit in HEX {
                let lower = upper.join(digit);
                make_folder(&lower)?;
                if std::fs::read_dir(&lower)?.next().is_some() {
                    return Err(StoreError::Offline(format!(
                        "{} holds objects but no {MARKER}",
                        self.path.display()
                    )));
                }
            }
            sync_folder(&upper)?;
        }
        sync_folder(&objects)?;
        self.write_marker()?;
        sync_folder(&self.path)?;
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Ok(())
    }

    pub(super) fn keep_note(&self, name: &str, text: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        let folder = self.path.join(NOTES);
        make_folder(&folder)?;
        let beside = folder.join(format!("{name}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(beside, folder.join(name))?;
        sync_folder(&folder)?;
        Ok(sync_folder(&self.path)?)
    }

    pub(super) fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        match std::fs::read(self.path.join(NOTES).join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The marker comes last, whole or not at all: with it the replica counts.
    fn write_marker(&self) -> Result<(), StoreError> {
        let text = serde_json::to_vec(&self.marker).map_err(io::Error::other)?;
        let beside = self.path.join(format!("{MARKER}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        Ok(std::fs::rename(beside, self.path.join(MARKER))?)
    }
}

/// What tells a file from every other, and from itself before it was written to: another disk in its place has
/// another device, another file another inode, and a change of any kind moves the last time, which no call sets.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether every change from `now` on shows.
    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed);
        now.duration_since(changed).is_ok_and(|since| since > SETTLED)
    }
}

/// The marker in a folder, if there is one.
pub(super) fn read_marker(root: &Path) -> io::Result<Option<Marker>> {
    Ok(read_marker_file(root)?.map(|(marker, _)| marker))
}

/// The same, with the file as it was before it was read.
fn read_marker_file(root: &Path) -> io::Result<Option<(Marker, FileState)>> {
    let mut file = match File::open(root.join(MARKER)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let state = FileState::of(&file.metadata()?);
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Some((serde_json::from_slice(&text)?, state)))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
