//! The canonical request: one spelling of method, path, query, headers and body that both sides hash.
//!
//! Path as all services but S3 have it: normalized, then every byte encoded once more.

use http::request::Parts;

use super::error::SigV4Error;

/// One parameter of a query, percent-decoded. `+` is a plus, not a space.
pub(super) struct QueryPair {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl QueryPair {
    /// Whether this is the parameter of that name, in any case.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The parameters of a raw query in order of appearance; a broken escape is an error.
pub(super) fn decoded_pairs(query: &str) -> Result<Vec<QueryPair>, SigV4Error> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok(QueryPair { name: percent_decode(name)?, value: percent_decode(value)? })
        })
        .collect()
}

/// The bytes whose SHA-256 stands in the string to sign.
pub(super) fn request(
    parts: &Parts,
    signed_headers: &[String],
    payload_hash: &str,
) -> Result<Vec<u8>, SigV4Error> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    encode(normalize(parts.uri.path()).as_bytes(), true, &mut out);
    out.push(b'\n');
    query(parts.uri.query().unwrap_or_default(), &mut out)?;
    out.push(b'\n');
    for name in signed_headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        header_values(parts, name, &mut out)?;
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload_hash.as_bytes());
    Ok(out)
}

/// Sorted by encoded name, then encoded value; the signature itself is left out.
fn query(raw: &str, out: &mut Vec<u8>) -> Result<(), SigV4Error> {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = decoded_pairs(raw)?
        .iter()
        .filter(|pair| !pair.is("X-Amz-Signature"))
        .map(|pair| (encoded(&pair.name), encoded(&pair.value)))
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
    Ok(())
}

/// All values of a header joined by commas, each trimmed and with runs of white space folded.
fn header_values(parts: &Parts, name: &str, out: &mut Vec<u8>) -> Result<(), SigV4Error> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if name == "host" && !parts.headers.contains_key("host") {
        // HTTP/2 carries the host as :authority.
        out.extend_from_slice(authority.ok_or_else(|| SigV4Error::Absent("host".into()))?);
        return Ok(());
    }
    for (index, value) in parts.headers.get_all(name).iter().enumerate() {
        if name == "host"
            && authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(value.as_bytes()))
        {
            return Err(SigV4Error::Malformed("the Host header and the request's authority differ"));
        }
        if index > 0 {
            out.push(b',');
        }
        let words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (index, word) in words.enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
    }
    Ok(())
}

/// Without empty, `.` and `..` segments; a trailing slash stays.
pub(super) fn normalize(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let trailing = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{trailing}", kept.join("/"))
}

fn encoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    encode(bytes, false, &mut out);
    out
}

/// RFC 3986: everything but the unreserved characters is escaped, in upper-case hex.
pub(super) fn encode(bytes: &[u8], keep_slash: bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if unreserved || (keep_slash && byte == b'/') {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn percent_decode(text: &str) -> Result<Vec<u8>, SigV4Error> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let mut decoded = [0];
        let digits = tail.get(..2).ok_or(SigV4Error::Malformed("the query holds a broken escape"))?;
        hex::decode_to_slice(digits, &mut decoded)
            .map_err(|_| SigV4Error::Malformed("the query holds a broken escape"))?;
        out.push(decoded[0]);
        rest = &tail[2..];
    }
    Ok(out)
}
