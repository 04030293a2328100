//! Secrets of access keys: in files outside the policy directory, readable by their owner alone, or sealed in it.
//!
//! What is sealed opens with the keys of the installation that sealed it, and nowhere else.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry_runtime::{Sealer, SecretString};

use super::finding::FileFinding;
use super::model::{KeySecret, PolicyFiles};
use policies::{Finding, Severity};

const LARGEST: u64 = 4096;

/// What is wrong with a secret's file, as far as it can be told without reading it. True: an error; false:
/// it may be right on another machine.
pub(super) fn look(root: Option<&Path>, path: &Path) -> Result<(), (bool, String)> {
    let Some(root) = root else { return Ok(()) };
    let shown = path.display();
    let inside = |path: &Path| fs::canonicalize(root).is_ok_and(|root| path.starts_with(root));
    match fs::canonicalize(path) {
        Ok(real) if inside(&real) => {
            Err((true, format!("{shown} lies inside the policy directory; keep secrets outside")))
        }
        Ok(real) => match fs::metadata(&real) {
            Ok(metadata) if !metadata.is_file() => Err((true, format!("{shown} is not a file"))),
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                Err((true, format!("{shown} can be read by others: chmod 600 {shown}")))
            }
            Ok(_) => Ok(()),
            Err(error) => Err((false, unreadable(path, &error))),
        },
        // It is not there: the names alone tell where it would be.
        Err(_) if path.starts_with(root) => {
            Err((true, format!("{shown} would lie inside the policy directory; keep secrets outside")))
        }
        Err(error) => Err((false, unreadable(path, &error))),
    }
}

/// A secret that only one installation can open.
#[derive(Debug, Clone)]
pub struct SealedSecret(Vec<u8>);

const SEALED: &str = "berth-sealed:";
const SEALED_COLUMN: &str = "policy_files.secret";
const LONGEST_SEALED: usize = 512;

/// Seals a secret for the policy files of the installation whose keys these are.
///
/// # Errors
/// When it could not be the secret of an access key.
pub fn seal_secret(sealer: &Sealer, secret: &SecretString) -> Result<String, String> {
    let secret = secret.expose().trim_end_matches(['\r', '\n']);
    if !is_secret(secret) {
        return Err(format!("this is no secret: {SECRET_FORM}"));
    }
    let sealed = sealer.seal(SEALED_COLUMN, &[], secret.as_bytes());
    Ok(format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(sealed)))
}

impl SealedSecret {
    pub(super) fn parse(text: &str) -> Option<SealedSecret> {
        let encoded = text.strip_prefix(SEALED).filter(|text| text.len() <= LONGEST_SEALED)?;
        URL_SAFE_NO_PAD.decode(encoded).ok().filter(|bytes| bytes.len() > 48).map(SealedSecret)
    }

    fn open(&self, sealer: &Sealer) -> Option<SecretString> {
        sealer.open(SEALED_COLUMN, &[], &self.0).ok()?.to_secret_string()
    }
}

/// The secret of every access key, in the order of the users and their keys.
pub(super) fn read(files: &PolicyFiles, sealer: &Sealer) -> Result<Vec<SecretString>, Vec<FileFinding>> {
    let mut secrets = Vec::new();
    let mut findings = Vec::new();
    for user in &files.users {
        for key in &user.access_keys {
            let secret = match &key.secret {
                KeySecret::File(path) => read_one(path),
                KeySecret::Sealed(sealed) => sealed.open(sealer).ok_or_else(|| {
                    "this secret was sealed for another installation, or changed: seal it again with `berth secret \
                     seal` on this server's machine"
                        .to_owned()
                }),
            };
            match secret {
                Ok(secret) => secrets.push(secret),
                Err(message) => {
                    let (line, column) = key.place;
                    let finding = Finding { line, column, severity: Severity::Error, message };
                    findings.push(FileFinding { file: user.file.clone(), finding });
                }
            }
        }
    }
    if findings.is_empty() { Ok(secrets) } else { Err(findings) }
}

fn read_one(path: &Path) -> Result<SecretString, String> {
    let shown = path.display();
    if path.is_relative() {
        return Err(format!("{shown} is relative: a set that comes without its directory names whole paths"));
    }
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("{shown} can be read by others: chmod 600 {shown}"));
    }
    if metadata.len() > LARGEST {
        return Err(format!("{shown} is larger than {LARGEST} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let text = SecretString::new(text);
    let secret = text.expose().trim_end_matches(['\r', '\n']);
    if !is_secret(secret) {
        return Err(format!("{shown} does not hold a secret: {SECRET_FORM}"));
    }
    Ok(SecretString::new(secret.to_owned()))
}

const SECRET_FORM: &str = "32 to 128 printable characters in one line";

fn is_secret(text: &str) -> bool {
    (32..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
