//! Where the secrets that encrypt everything come from: one secret per (domain, epoch).
//!
//! The local provider keeps them as files in a folder of their own, which no backup contains. Invariant: a
//! secret, once created, is never replaced by other bytes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{Secret, durable, random_bytes};

/// Length of a secret in bytes.
pub(crate) const SECRET_BYTES: usize = 32;

/// A source of secrets. Implementations may block: they are asked once per epoch and process.
pub trait KeyProvider: Send + Sync {
    /// The secret of an epoch of a key domain; [`KeyError::Missing`] when there is none.
    fn secret(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError>;

    /// The same, created when there is none. Of several processes that create at once all get the same one.
    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError>;

    /// Destroys the secret of an epoch: whatever it still wraps is lost for good. One that is gone is no error.
    fn destroy(&self, _domain: &str, _epoch: u32) -> Result<(), KeyError> {
        Err(KeyError::Kept)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such secret: what it encrypted cannot be read.
    #[error("there is no secret for epoch {epoch} of key domain `{domain}`")]
    Missing { domain: String, epoch: u32 },
    /// Several servers need the same secret, so that none makes one by itself.
    #[error(
        "{} is not there: several servers use these keys, so make it on one of them (openssl rand -hex 32), copy it \
         into key_dir of each (mode 0600), and try again",
        path.display()
    )]
    NotShared { path: PathBuf },
    /// This source only gives secrets.
    #[error("this source of keys destroys none")]
    Kept,
    /// The file is not what was written.
    #[error("{} does not hold a secret", path.display())]
    Damaged { path: PathBuf },
    /// Others than the owner may look into the folder.
    #[error("{} is open to other users (mode {mode:o}); run: chmod 700 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} cannot be read or written", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Secrets as files of 32 random bytes in hexadecimal, mode 0600, in a folder of mode 0700.
#[derive(Debug)]
pub struct LocalKeys {
    folder: PathBuf,
}

impl LocalKeys {
    /// Opens the folder, creating it when it is missing.
    pub fn open(folder: &Path) -> Result<LocalKeys, KeyError> {
        let failed = |source| KeyError::Io { path: folder.to_owned(), source };
        durable::create_directory(folder, 0o700).map_err(failed)?;
        let mode = std::fs::metadata(folder).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: folder.to_owned(), mode });
        }
        durable::sweep(folder);
        Ok(LocalKeys { folder: folder.to_owned() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the secret of an epoch lies, or would.
    pub fn path(&self, domain: &str, epoch: u32) -> PathBuf {
        self.folder.join(format!("{}.key", file_stem(domain, epoch)))
    }

    /// The secret in one file; `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Secret>, KeyError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeyError::Io { path: path.to_owned(), source }),
        };
        match hex::decode(text.trim_end()) {
            Ok(bytes) if bytes.len() == SECRET_BYTES => Ok(Some(Secret::new(bytes))),
            _ => Err(KeyError::Damaged { path: path.to_owned() }),
        }
    }
}

/// `<domain>-<epoch>`; a domain that is no plain word (a key's ARN) goes by its hash.
pub(crate) fn file_stem(domain: &str, epoch: u32) -> String {
    let plain = (1..=48).contains(&domain.len())
        && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if plain { domain.to_owned() } else { hex::encode(Sha256::digest(domain)) };
    format!("{name}-{epoch}")
}

impl KeyProvider for LocalKeys {
    fn secret(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        let missing = || KeyError::Missing { domain: domain.to_owned(), epoch };
        LocalKeys::read(&self.path(domain, epoch))?.ok_or_else(missing)
    }

    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        match self.secret(domain, epoch) {
            Err(KeyError::Missing { .. }) => {}
            found => return found,
        }
        let path = self.path(domain, epoch);
        let secret = Zeroizing::new(random_bytes::<SECRET_BYTES>());
        let text = Zeroizing::new(hex::encode(&secret[..]) + "\n");
        match durable::create_file_atomically(&path, text.as_bytes(), 0o600) {
            // Read back: what counts is what lies there, whoever wrote it.
            Ok(()) => self.secret(domain, epoch),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.secret(domain, epoch),
            Err(source) => Err(KeyError::Io { path, source }),
        }
    }

    fn destroy(&self, domain: &str, epoch: u32) -> Result<(), KeyError> {
        let path = self.path(domain, epoch);
        match destroy_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            destroyed => destroyed.map_err(|source| KeyError::Io { path, source }),
        }
    }
}

/// Writes zeros over a file before it is removed, for disks that keep blocks in place.
fn destroy_file(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let len = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(len), &mut file)?;
    file.sync_all()?;
    std::fs::remove_file(path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, LocalKeys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = LocalKeys::open(&folder.path().join("keys")).unwrap();
        (folder, keys)
    }

    #[test]
    fn a_secret_is_created_once_and_found_again() {
        let (folder, keys) = keys();
        assert!(matches!(keys.secret("system", 1), Err(KeyError::Missing { epoch: 1, .. })));
        let made = keys.create("system", 1).unwrap();
        assert_eq!(made.expose().len(), 32);
        assert_eq!(keys.create("system", 1).unwrap(), made);
        let reopened = LocalKeys::open(&folder.path().join("keys")).unwrap();
        assert_eq!(reopened.secret("system", 1).unwrap(), made);
        assert_ne!(keys.create("system", 2).unwrap(), made);
        assert_ne!(keys.create("arn:aws:kms:us-east-1:000000000000:key/../x", 1).unwrap(), made);
    }

    #[test]
    fn creators_at_once_get_the_same_secret() {
        let (_folder, keys) = keys();
        let made: Vec<Secret> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| keys.create("default", 1).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|secret| *secret == made[0]));
    }

    #[test]
    fn files_and_folder_are_closed_to_others() {
        let (folder, keys) = keys();
        keys.create("default", 1).unwrap();
        let path = folder.path().join("keys");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("default-1.key"))), (0o700, 0o600));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(LocalKeys::open(&path), Err(KeyError::Exposed { mode: 0o755, .. })));
    }

    #[test]
    fn a_destroyed_secret_is_gone_and_not_made_anew_by_reading() {
        let (folder, keys) = keys();
        keys.create("default", 1).unwrap();
        keys.create("default", 2).unwrap();
        keys.destroy("default", 1).unwrap();
        keys.destroy("default", 1).unwrap();
        assert!(matches!(keys.secret("default", 1), Err(KeyError::Missing { epoch: 1, .. })));
        assert!(!folder.path().join("keys/default-1.key").exists());
        keys.secret("default", 2).unwrap();
    }

    #[test]
    fn a_cut_off_file_is_an_error_and_not_a_new_secret() {
        let (folder, keys) = keys();
        std::fs::write(folder.path().join("keys/default-1.key"), "abcd\n").unwrap();
        assert!(matches!(keys.create("default", 1), Err(KeyError::Damaged { .. })));
    }
}
