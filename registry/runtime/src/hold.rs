//! A lock between processes, on a file that means nothing else. The kernel frees it with the process, so nothing
//! can stay held by accident.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::durable;

/// Freed when dropped.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Hold {
    /// Shares it with others: nobody has it alone while this lives. Waits for whoever has. Blocks.
    ///
    /// # Errors
    /// When the file at `path` cannot be made or locked.
    pub fn share(path: &Path) -> io::Result<Hold> {
        let file = open(path)?;
        file.lock_shared()?;
        Ok(Hold { _file: file })
    }

    /// Takes it alone, or gives `None` while somebody else has or shares it.
    ///
    /// # Errors
    /// When the file at `path` cannot be made or locked.
    pub fn exclusive(path: &Path) -> io::Result<Option<Hold>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => durable::hand_over(&file, durable::folder(path)).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn nobody_has_alone_what_somebody_shares() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (one, two) = (Hold::share(&path).unwrap(), Hold::share(&path).unwrap());
        assert!(Hold::exclusive(&path).unwrap().is_none());
        drop(one);
        assert!(Hold::exclusive(&path).unwrap().is_none());
        drop(two);
        let alone = Hold::exclusive(&path).unwrap().unwrap();
        assert!(Hold::exclusive(&path).unwrap().is_none());
        drop(alone);
        Hold::share(&path).unwrap();
    }

    #[test]
    fn what_root_makes_is_its_folders_owners() {
        let folder = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(4711), Some(4712)).unwrap();
        }
        let path = folder.path().join("lock");
        drop(Hold::share(&path).unwrap());
        let (file, owner) = (std::fs::metadata(&path).unwrap(), std::fs::metadata(folder.path()).unwrap());
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (owner.uid(), owner.gid(), 0o600));
    }
}
