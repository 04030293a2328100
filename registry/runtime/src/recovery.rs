//! The recovery key: every secret of a key folder in one file that can be printed and typed in again.
//!
//! A backup or a replica together with this file gives everything back; without it they give nothing. Each
//! line ends with a check of its own, so that a typing error is found where it is. Invariant: a recovery key
//! never replaces a secret by another one.

mod sealed;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::keys::{KeyError, KeyProvider, LocalKeys, SECRET_BYTES, file_stem};
use crate::{Sealer, Secret, SecretString, durable};

pub use text::RecoveryError;

/// Beside the secrets: the names of those that an exported recovery key holds.
const EXPORTED: &str = "exported";
/// Key domain and epoch that name the installation and seal what is kept of it elsewhere.
const SYSTEM: (&str, u32) = ("system", 1);

/// All secrets of one installation.
#[derive(Debug)]
pub struct RecoveryKey {
    installation: String,
    /// By the name of their file without its ending.
    secrets: BTreeMap<String, Secret>,
}

/// The name of the installation that these keys belong to: 32 hex characters that tell nothing of the keys.
/// Backups, replicas and the recovery key bear it.
///
/// # Errors
/// When the folder lacks the key of the metadata.
pub fn installation_id(keys: &dyn KeyProvider) -> Result<String, KeyError> {
    let system = keys.secret(SYSTEM.0, SYSTEM.1)?;
    Ok(hex::encode(&Sealer::new(&system, SYSTEM.1).derive("installation id").expose()[..16]))
}

impl RecoveryKey {
    /// The installation whose key this is.
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// How many secrets it holds.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// A recovery key holds the key of the metadata at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether [`RecoveryKey::install`] would find other secrets in a key folder, which need not be there.
    ///
    /// # Errors
    /// [`RecoveryError::OtherKeys`] for a folder of another installation.
    pub fn check(&self, folder: &Path) -> Result<(), RecoveryError> {
        if !folder.exists() {
            return Ok(());
        }
        let there = LocalKeys::open(folder)?.secrets()?;
        if there.iter().any(|(name, secret)| self.secrets.get(name).is_some_and(|own| own != secret)) {
            return Err(RecoveryError::OtherKeys { folder: folder.to_owned() });
        }
        Ok(())
    }

    /// Writes the secrets into a key folder, which is made when it is missing. Those that are there already
    /// stay; nothing is written when one of them is another secret.
    ///
    /// # Errors
    /// [`RecoveryError::OtherKeys`] for a folder of another installation.
    pub fn install(&self, folder: &Path) -> Result<(), RecoveryError> {
        self.check(folder)?;
        let keys = LocalKeys::open(folder)?;
        let there = keys.secrets()?;
        for (name, secret) in self.secrets.iter().filter(|(name, _)| !there.contains_key(*name)) {
            keys.put(name, secret)?;
        }
        keys.note_exported(self)?;
        Ok(())
    }

    fn new(installation: String, secrets: BTreeMap<String, Secret>) -> Result<RecoveryKey, RecoveryError> {
        let key = RecoveryKey { installation, secrets };
        match installation_id(&key) {
            Ok(id) if id == key.installation => Ok(key),
            _ => Err(RecoveryError::Damaged { line: 2 }),
        }
    }
}

impl KeyProvider for RecoveryKey {
    fn secret(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        let missing = || KeyError::Missing { domain: domain.to_owned(), epoch };
        self.secrets.get(&file_stem(domain, epoch)).cloned().ok_or_else(missing)
    }

    /// A recovery key makes no secrets: what it lacks is missing.
    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.secret(domain, epoch)
    }
}

impl LocalKeys {
    /// Every secret of the folder. Blocks.
    ///
    /// # Errors
    /// When a secret cannot be read, or the folder lacks the key of the metadata.
    pub fn export(&self) -> Result<RecoveryKey, RecoveryError> {
        let (installation, secrets) = (installation_id(self)?, self.secrets()?);
        RecoveryKey::new(installation, secrets)
    }

    /// Notes that the operator has a recovery key with these secrets.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_exported(&self, key: &RecoveryKey) -> Result<(), KeyError> {
        let path = self.folder().join(EXPORTED);
        let names: Vec<&str> = key.secrets.keys().map(String::as_str).collect();
        let text = names.join("\n") + "\n";
        durable::write_file_atomically(&path, text.as_bytes(), 0o600)
            .map_err(|source| KeyError::Io { path, source })
    }

    /// How many secrets of the folder no exported recovery key holds. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn unexported(&self) -> Result<usize, KeyError> {
        let path = self.folder().join(EXPORTED);
        let exported: BTreeSet<String> = match std::fs::read_to_string(&path) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(source) => return Err(KeyError::Io { path, source }),
        };
        let (files, _) = self.files()?;
        Ok(files.iter().filter(|name| !exported.contains(*name)).count())
    }

    /// The names of the secrets, and where each lies.
    fn files(&self) -> Result<(Vec<String>, Vec<PathBuf>), KeyError> {
        let failed = |source| KeyError::Io { path: self.folder().to_owned(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.folder()).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(stem) = name.and_then(|name| name.strip_suffix(".key")) {
                found.push((stem.to_owned(), path.clone()));
            }
        }
        found.sort();
        Ok(found.into_iter().unzip())
    }

    fn secrets(&self) -> Result<BTreeMap<String, Secret>, KeyError> {
        let (names, paths) = self.files()?;
        names
            .into_iter()
            .zip(paths)
            .map(|(name, path)| {
                let secret = LocalKeys::read(&path)?.ok_or(KeyError::Damaged { path })?;
                Ok((name, secret))
            })
            .collect()
    }

    fn put(&self, name: &str, secret: &Secret) -> Result<(), KeyError> {
        let path = self.folder().join(format!("{name}.key"));
        let text = zeroize::Zeroizing::new(hex::encode(secret.expose()) + "\n");
        durable::create_file_atomically(&path, text.as_bytes(), 0o600)
            .map_err(|source| KeyError::Io { path, source })
    }
}

/// A name that a secret's file may have: it becomes one.
fn is_name(name: &str) -> bool {
    (1..=80).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && name.contains('-')
}

/// Whether these are the bytes of a secret.
fn is_secret(bytes: &[u8]) -> bool {
    bytes.len() == SECRET_BYTES
}

impl RecoveryKey {
    /// The file: text, to be printed if need be. With a passphrase only its bearer can read it.
    pub fn to_text(&self, passphrase: Option<&SecretString>) -> zeroize::Zeroizing<String> {
        let plain = text::render(&self.installation, &self.secrets);
        match passphrase {
            None => plain,
            Some(passphrase) => sealed::seal(&plain, passphrase),
        }
    }

    /// Reads the file, or what was typed off its print.
    ///
    /// # Errors
    /// [`RecoveryError::PassphraseNeeded`] when it was sealed and `passphrase` is `None`; every other variant
    /// says what is wrong with the text.
    pub fn parse(text: &str, passphrase: Option<&SecretString>) -> Result<RecoveryKey, RecoveryError> {
        let plain = match (sealed::is_sealed(text), passphrase) {
            (false, _) => zeroize::Zeroizing::new(text.to_owned()),
            (true, None) => return Err(RecoveryError::PassphraseNeeded),
            (true, Some(passphrase)) => sealed::open(text, passphrase)?,
        };
        let (installation, secrets) = text::parse(&plain)?;
        RecoveryKey::new(installation, secrets)
    }
}

#[cfg(test)]
mod tests;
