//! Opaque page tokens: a cursor that callers hand back and cannot misread.
//!
//! A token protects nothing: it says where to go on, and every page is authorized anew. The check
//! catches tokens that were cut, mixed up or typed, so that they are errors and not wrong pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::error::AwsError;

const VERSION: u8 = 1;
const CHECK_LEN: usize = 4;
const MAX_TOKEN_LEN: usize = 4096;

/// The token for a cursor, e.g. the last name of a page.
pub fn encode(cursor: &str) -> String {
    let mut bytes = Vec::with_capacity(1 + CHECK_LEN + cursor.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&check(cursor.as_bytes()));
    bytes.extend_from_slice(cursor.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor of a token that `encode` made, else `InvalidParameterException`.
pub fn decode(token: &str) -> Result<String, AwsError> {
    parse(token).ok_or_else(|| {
        AwsError::invalid_parameter("Invalid parameter at 'nextToken': it is no token of an earlier answer.")
    })
}

fn parse(token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN_LEN {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (found, cursor) = rest.split_at_checked(CHECK_LEN)?;
    if *version != VERSION || found != check(cursor) {
        return None;
    }
    String::from_utf8(cursor.to_vec()).ok()
}

fn check(cursor: &[u8]) -> [u8; CHECK_LEN] {
    let hash = Sha256::digest(cursor);
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn cursors_round_trip() {
        for cursor in ["", "team/app", "naïve\u{0}"] {
            assert_eq!(decode(&encode(cursor)).unwrap(), cursor);
        }
    }

    #[test]
    fn altered_tokens_are_refused() {
        let token = encode("team/app");
        let mut altered = token.clone().into_bytes();
        altered[9] = if altered[9] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        for token in ["", "x", &token[..token.len() - 2], &altered, &"A".repeat(5000), "a b"] {
            assert_eq!(decode(token).unwrap_err().code, "InvalidParameterException", "{token}");
        }
    }
}
