//! The files that secrets of access keys lie in: outside the policy directory, readable by their owner alone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use registry_runtime::SecretString;

use super::finding::FileFinding;
use super::model::PolicyFiles;
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

/// The secret of every access key, in the order of the users and their keys.
pub(super) fn read(files: &PolicyFiles) -> Result<Vec<SecretString>, Vec<FileFinding>> {
    let mut secrets = Vec::new();
    let mut findings = Vec::new();
    for user in &files.users {
        for key in &user.access_keys {
            match read_one(&key.secret_file) {
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
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("{shown} can be read by others: chmod 600 {shown}"));
    }
    if metadata.len() > LARGEST {
        return Err(format!("{shown} is larger than {LARGEST} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let text = SecretString::new(text);
    let secret = text.expose().trim_end_matches(['\r', '\n']);
    let good = (32..=128).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !good {
        return Err(format!("{shown} does not hold a secret: 32 to 128 printable characters in one line"));
    }
    Ok(SecretString::new(secret.to_owned()))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
