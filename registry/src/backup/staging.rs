//! Folders that exist only while something is made in them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use registry_runtime::durable;

use super::LOCK;
use super::error::BackupError;

/// A folder of mode 0700, this process's alone, removed with all it holds when dropped.
pub(super) struct Scratch {
    path: PathBuf,
    /// Locked: another process leaves the folder alone.
    _folder: File,
}

impl Scratch {
    /// Makes it anew: what a process that ended left there is removed.
    pub(super) fn make(path: &Path) -> Result<Scratch, BackupError> {
        let failed = || BackupError::file(path);
        durable::create_directory(path, 0o700).map_err(failed())?;
        let folder = own(path)?;
        for entry in std::fs::read_dir(path).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let is_folder = entry.file_type().map_err(failed())?.is_dir();
            let left = entry.path();
            let removed =
                if is_folder { std::fs::remove_dir_all(&left) } else { std::fs::remove_file(&left) };
            removed.map_err(failed())?;
        }
        Ok(Scratch { path: path.to_owned(), _folder: folder })
    }

    /// Removes what a process that ended left there, if anything.
    pub(super) fn clear(path: &Path) -> Result<(), BackupError> {
        match path.exists() {
            true => Scratch::make(path).map(drop),
            false => Ok(()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Takes a file or folder for this process alone, for as long as what is given lives.
pub(super) fn own(path: &Path) -> Result<File, BackupError> {
    let file = File::open(path).map_err(BackupError::file(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(BackupError::file(path)(error)),
    }
}

/// Whether a folder holds nothing, or is not there. What a fresh filesystem brings along counts as nothing, and
/// so do `but` and the lock of a server that did not start.
pub(super) fn is_empty(path: &Path, but: &[&Path]) -> Result<bool, BackupError> {
    let nothing = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            name == "lost+found" || name == LOCK || but.contains(&entry.path().as_path())
        })
    };
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.all(nothing)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(BackupError::file(path)(error)),
    }
}

/// Moves everything in `from` into `into`, which is made when it is missing, and makes the names durable.
pub(super) fn publish(from: &Path, into: &Path) -> Result<(), BackupError> {
    durable::create_directory(into, 0o700).map_err(BackupError::file(into))?;
    for entry in std::fs::read_dir(from).map_err(BackupError::file(from))? {
        let entry = entry.map_err(BackupError::file(from))?;
        let target = into.join(entry.file_name());
        std::fs::rename(entry.path(), &target).map_err(BackupError::file(&target))?;
    }
    durable::sync_directory(into).map_err(BackupError::file(into))
}
