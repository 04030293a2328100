//! Content digests as the OCI image specification writes them: `algorithm:hex`.
//!
//! Only sha256 and sha512 in canonical lower case are digests here. Anything else is refused when
//! parsed, so that no path, key or comparison ever sees a second spelling of the same content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Hash algorithms a digest may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes.
    pub fn hash_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The byte that stands for the algorithm in BRF1 footers and key rows.
    pub fn code(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(ParseDigestError::Algorithm),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A digest of content, `sha256:<64 hex>` or `sha512:<128 hex>`, always lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

impl Digest {
    /// A digest from the bytes of a finished hash.
    ///
    /// # Panics
    /// When `hash` has not the length of the algorithm: that is a mistake in the caller's code.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        assert_eq!(hash.len(), algorithm.hash_len(), "a {algorithm} hash has a fixed length");
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(7 + hash.len() * 2);
        text.push_str(algorithm.as_str());
        text.push(':');
        for byte in hash {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Self { algorithm, text: text.into_boxed_str() }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The whole digest, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The hash as bytes, 32 or 64 of them.
    pub fn hash(&self) -> Vec<u8> {
        let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        self.hex().as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }
}

/// Why a string is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseDigestError {
    #[error("a digest is written algorithm:hex")]
    Format,
    #[error("the digest algorithm must be sha256 or sha512")]
    Algorithm,
    #[error("the hash must be lower-case hex of the algorithm's length")]
    Hash,
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.split_once(':').ok_or(ParseDigestError::Format)?;
        let algorithm: Algorithm = algorithm.parse()?;
        let well_formed = hex.len() == algorithm.hash_len() * 2
            && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !well_formed {
            return Err(ParseDigestError::Hash);
        }
        Ok(Self { algorithm, text: text.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Digest, ParseDigestError};

    #[test]
    fn hash_round_trips_through_text() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let hash: Vec<u8> = (0..algorithm.hash_len()).map(|i| (i * 7) as u8).collect();
            let digest = Digest::from_hash(algorithm, &hash);
            assert_eq!(digest.hash(), hash);
            assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let zeros = "0".repeat(64);
        for (text, error) in [
            (zeros.clone(), ParseDigestError::Format),
            (format!("md5:{}", "0".repeat(32)), ParseDigestError::Algorithm),
            (format!("SHA256:{zeros}"), ParseDigestError::Algorithm),
            (format!("sha256:{}", "A".repeat(64)), ParseDigestError::Hash),
            (format!("sha512:{zeros}"), ParseDigestError::Hash),
            ("sha256:../../etc/passwd".to_owned(), ParseDigestError::Hash),
            (format!("sha256:{zeros}\n"), ParseDigestError::Hash),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }
}
