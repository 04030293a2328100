//! The file that shows the administrator's first key to its owner.
//!
//! It is written under another name before the commit and takes its own after it, so that neither a crash
//! nor a race leaves a key that nobody knows, or a file that shows a key of nobody.

use std::io;
use std::path::{Path, PathBuf};

use registry_runtime::SecretString;
use registry_runtime::durable::{sync_directory, write_file_atomically};

use crate::config::IdentityConfig;
use crate::credentials::AccessKey;
use crate::error::IdentityError;

/// Writes the key that is about to be made.
pub(super) fn prepare(config: &IdentityConfig, key: &AccessKey) -> Result<(), IdentityError> {
    let Some(path) = &config.credentials_file else { return Ok(()) };
    write_file_atomically(&pending(path), text(key).expose().as_bytes(), 0o600).map_err(failed)
}

/// Writes a key that exists already.
pub(super) fn replace(config: &IdentityConfig, key: &AccessKey) -> Result<(), IdentityError> {
    let Some(path) = &config.credentials_file else { return Ok(()) };
    write_file_atomically(path, text(key).expose().as_bytes(), 0o600).map_err(failed)
}

/// Gives the file its name when it holds the account's key, and removes it when it does not.
pub(super) fn settle(
    config: &IdentityConfig,
    is_of_account: impl Fn(&AccessKey) -> bool,
) -> Result<(), IdentityError> {
    let Some(path) = &config.credentials_file else { return Ok(()) };
    let pending = pending(path);
    let text = match std::fs::read_to_string(&pending) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let settled = if parse(&text).is_some_and(|key| is_of_account(&key)) {
        std::fs::rename(&pending, path)
    } else {
        std::fs::remove_file(&pending)
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    settled.and_then(|()| sync_directory(folder.unwrap_or(Path::new(".")))).map_err(failed)
}

fn text(key: &AccessKey) -> SecretString {
    SecretString::new(format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        key.access_key_id,
        key.secret_access_key.expose()
    ))
}

fn pending(path: &Path) -> PathBuf {
    path.with_extension("pending")
}

fn parse(text: &str) -> Option<AccessKey> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
        Some(line.to_owned())
    };
    Some(AccessKey {
        access_key_id: value("aws_access_key_id")?,
        secret_access_key: value("aws_secret_access_key")?.into(),
    })
}

fn failed(source: io::Error) -> IdentityError {
    IdentityError::File { what: "writing the credentials file", source }
}
