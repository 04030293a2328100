//! Folders that exist only while something is made in them.

use std::path::{Path, PathBuf};

use registry_runtime::durable;

use super::error::BackupError;

/// A folder of mode 0700, removed with all it holds when dropped.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it anew: what an earlier process left there is removed.
    pub(super) fn make(path: &Path) -> Result<Scratch, BackupError> {
        let failed = BackupError::file(path);
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        durable::create_directory(path, 0o700).map_err(failed)?;
        Ok(Scratch { path: path.to_owned() })
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

/// Whether a folder holds nothing, or is not there. What a fresh filesystem brings along counts as nothing, and
/// so does the folder of the keys.
pub(super) fn is_empty(path: &Path, key_dir: &Path) -> Result<bool, BackupError> {
    let nothing = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name() == "lost+found" || entry.path() == key_dir)
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
