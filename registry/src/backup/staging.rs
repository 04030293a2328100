//! Folders that exist only while something is made in them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use registry_runtime::{Hold, durable};

use super::error::BackupError;
use super::{LOCK, RESTORING};

/// A folder of mode 0700, this process's alone, removed with all it holds when dropped.
pub(super) struct Scratch {
    path: PathBuf,
    /// Locked: another process leaves the folder alone.
    _folder: File,
    is_kept: bool,
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
        Ok(Scratch { path: path.to_owned(), _folder: folder, is_kept: false })
    }

    /// Leaves the folder there.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.is_kept {
            drop(std::fs::remove_dir_all(&self.path));
        }
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

/// A data directory that is this process's alone, as a server's is.
pub(super) struct OwnData {
    path: PathBuf,
    is_new: bool,
    _hold: Hold,
}

impl OwnData {
    /// Takes it; it is made where it is missing.
    pub(super) fn take(data: &Path) -> Result<OwnData, BackupError> {
        durable::create_directory(data, 0o700).map_err(BackupError::file(data))?;
        let path = data.join(LOCK);
        let is_new = !path.exists();
        let hold = Hold::exclusive(&path).map_err(BackupError::file(&path))?;
        let hold = hold.ok_or_else(|| BackupError::Busy { path: data.to_owned() })?;
        Ok(OwnData { path, is_new, _hold: hold })
    }

    /// Leaves the directory as it was found.
    pub(super) fn give_up(self) {
        if self.is_new {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Whether a folder holds nothing, or is not there. What a fresh filesystem brings along counts as nothing, and
/// so do `but`, the lock, and what an interrupted restore gathered.
pub(super) fn is_empty(path: &Path, but: &[&Path]) -> Result<bool, BackupError> {
    let nothing = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            name == "lost+found" || name == LOCK || name == RESTORING || but.contains(&entry.path().as_path())
        })
    };
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.all(nothing)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(BackupError::file(path)(error)),
    }
}

/// Moves everything in `from` into `into`, which is made when it is missing, makes the names durable, and removes `from`:
/// in several attempts, if need be.
pub(super) fn publish(from: &Path, into: &Path) -> Result<(), BackupError> {
    durable::create_directory(into, 0o700).map_err(BackupError::file(into))?;
    if !from.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(from).map_err(BackupError::file(from))? {
        let entry = entry.map_err(BackupError::file(from))?;
        let target = into.join(entry.file_name());
        std::fs::rename(entry.path(), &target).map_err(BackupError::file(&target))?;
    }
    durable::sync_directory(into).map_err(BackupError::file(into))?;
    std::fs::remove_dir_all(from).map_err(BackupError::file(from))
}
