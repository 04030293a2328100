//! The recovery key as text: a line a secret, each with four characters that check it.
//!
//! Spaces count for nothing, so that groups can be printed for the eye; lines that begin with `#` are remarks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{is_name, is_secret};
use crate::{KeyError, Secret};

const TITLE: &str = "berth-recovery-key 1";
const INSTALLATION: &str = "installation";

/// What is wrong with a recovery key.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Of another kind altogether, or made by a newer release.
    #[error("this is no recovery key that this release knows: its first line is not `{TITLE}`")]
    NotOne,
    /// The line does not say what was written.
    #[error("line {line} of the recovery key is damaged, or was not typed as it is printed")]
    Damaged { line: usize },
    /// A passphrase is needed to read it.
    #[error("the recovery key is protected by a passphrase")]
    PassphraseNeeded,
    /// Another passphrase, or a changed file.
    #[error("the passphrase does not open this recovery key")]
    Passphrase,
    /// The folder holds secrets under the same names that are others.
    #[error("{} holds the keys of another installation", folder.display())]
    OtherKeys { folder: PathBuf },
    #[error(transparent)]
    Keys(#[from] KeyError),
}

pub(super) fn render(installation: &str, secrets: &BTreeMap<String, Secret>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(256 + secrets.len() * 160));
    text.push_str(TITLE);
    text.push_str(
        "\n# Whoever has this and a backup or a replica can read everything. Keep it apart from both.\n",
    );
    push_line(&mut text, INSTALLATION, installation);
    for (name, secret) in secrets {
        push_line(&mut text, name, &Zeroizing::new(hex::encode(secret.expose())));
    }
    text
}

/// The installation and the secrets by name.
pub(super) fn parse(text: &str) -> Result<(String, BTreeMap<String, Secret>), RecoveryError> {
    let mut lines = numbered(text);
    if lines.next().is_none_or(|(_, first)| first != TITLE) {
        return Err(RecoveryError::NotOne);
    }
    let mut installation = None;
    let mut secrets = BTreeMap::new();
    for (line, content) in lines {
        let damaged = RecoveryError::Damaged { line };
        let Some((name, value)) = checked(content) else { return Err(damaged) };
        if name == INSTALLATION {
            installation = Some(value.as_str().to_owned());
            continue;
        }
        match hex::decode(value.as_bytes()) {
            Ok(bytes) if is_secret(&bytes) && is_name(name) => {
                secrets.insert(name.to_owned(), Secret::new(bytes));
            }
            _ => return Err(damaged),
        }
    }
    let installation = installation.ok_or(RecoveryError::Damaged { line: 2 })?;
    Ok((installation, secrets))
}

/// The lines that count, trimmed, with their numbers.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// `NAME GROUPS = CHECK`.
pub(super) fn push_line(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    for group in value.as_bytes().chunks(8) {
        text.push(' ');
        text.push_str(str::from_utf8(group).expect("names and values are ASCII"));
    }
    text.push_str(" = ");
    text.push_str(&check(name, value));
    text.push('\n');
}

/// Name and value of a line, if its check holds.
pub(super) fn checked(line: &str) -> Option<(&str, Zeroizing<String>)> {
    let (content, expected) = line.rsplit_once('=')?;
    let (name, groups) = content.trim().split_once(char::is_whitespace)?;
    let value = Zeroizing::new(groups.split_whitespace().collect::<String>().to_ascii_lowercase());
    (check(name, &value) == expected.trim().to_ascii_lowercase()).then_some((name, value))
}

fn check(name: &str, value: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update(" ");
    hash.update(value);
    hex::encode(&hash.finalize()[..2])
}
