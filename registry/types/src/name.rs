//! Names inside the registry: repositories, tags, references.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::digest::{Digest, ParseDigestError};

/// A repository name as the OCI distribution specification defines it, at most 255 characters:
/// path components of lower-case letters and digits joined by `.`, `_`, `__` or dashes, with `/` between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a string is no repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseNameError {
    #[error("a repository name has 1 to 255 characters")]
    Length,
    #[error(
        "a repository name is made of lower-case letters and digits, joined by '.', '_', '__' or dashes, with '/' between parts"
    )]
    Format,
}

impl FromStr for RepositoryName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 255 || text.is_empty() {
            return Err(ParseNameError::Length);
        }
        if text.split('/').all(is_component) { Ok(Self(text.into())) } else { Err(ParseNameError::Format) }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, in one pass.
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A string that is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a tag has 1 to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'")]
pub struct ParseTagError;

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let well_formed = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if well_formed { Ok(Self(text.into())) } else { Err(ParseTagError) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What a manifest is asked for by: its digest, or a tag that points at it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

/// Why a string is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseReferenceError {
    #[error(transparent)]
    Tag(#[from] ParseTagError),
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    /// Tags hold no colon, so a colon says that a digest is meant.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reference, RepositoryName, Tag};

    #[test]
    fn names_of_the_specification_parse() {
        for name in ["a", "app", "team/app", "a.b_c__d---e/f0", "blobs/uploads/manifests"] {
            assert!(name.parse::<RepositoryName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        let long = "a".repeat(256);
        for name in [
            "", "App", "/app", "app/", "a//b", "a..b", "a___b", "-a", "a-", "../a", "a/../b", "a b", "a\0",
            "é", &long,
        ] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
    }

    #[test]
    fn tags_are_bounded() {
        assert!("v1.0_rc-2".parse::<Tag>().is_ok());
        assert!("x".repeat(128).parse::<Tag>().is_ok());
        for tag in ["", "-v1", ".v1", "a/b", "a:b", "é", &"x".repeat(129)] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }

    #[test]
    fn colon_means_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(matches!(digest.parse(), Ok(Reference::Digest(_))));
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        assert!("sha256:abc".parse::<Reference>().is_err());
    }
}
