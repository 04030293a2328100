//! A lock between processes: a backup holds up the deletion of objects, and both may die without a trace.
//!
//! Whoever copies shares it; whoever deletes takes it alone, for one batch. The kernel frees it with the
//! process, so nothing can stay held by accident.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Freed when dropped.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Hold {
    /// Nothing is deleted while this lives. Waits for a batch of deletions to end. Blocks.
    ///
    /// # Errors
    /// When the file at `path` cannot be made or locked.
    pub fn share(path: &Path) -> io::Result<Hold> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockShared)?;
        Ok(Hold { _file: file })
    }

    /// The right to delete, or `None` while somebody copies.
    ///
    /// # Errors
    /// When the file at `path` cannot be made or locked.
    pub fn exclusive(path: &Path) -> io::Result<Option<Hold>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Hold { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_deleted_while_somebody_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deletions.lock");
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
}
