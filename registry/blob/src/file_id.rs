//! Names of objects.
//!
//! An object is named by 16 random bytes chosen when its upload begins, the same on every replica. It
//! is never named by digest: two pushes of one digest have two objects, and neither can hurt the other.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::cipher::random;

/// The random name of one object; text form is 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId([u8; 16]);

/// A string that is no file id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a file id is 32 lower-case hex digits")]
pub struct ParseFileIdError;

impl FileId {
    /// A name that no object has.
    pub fn random() -> Self {
        Self(random())
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FileId {
    type Err = ParseFileIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseFileIdError),
        };
        let text: &[u8; 32] = text.as_bytes().try_into().map_err(|_| ParseFileIdError)?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::FileId;

    #[test]
    fn text_round_trips_and_other_spellings_are_refused() {
        let id = FileId::from_bytes(std::array::from_fn(|i| (i * 17) as u8));
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
        for text in
            ["", "00", &"A".repeat(32), &"g".repeat(32), &"0".repeat(33), "../../../../../../etc/passwd/aaaa"]
        {
            assert!(text.parse::<FileId>().is_err(), "{text}");
        }
    }
}
