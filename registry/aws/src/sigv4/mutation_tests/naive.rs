//! What a signed request says, written from the documentation and slowly: the judge of the changes.

use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

use super::Asked;

/// Everything but the unreserved characters.
pub(super) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a changed request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judgement {
    /// The same request in another spelling.
    Same,
    /// The same canonical request, scope and signature, with something beside them that should have been signed.
    Forbidden,
    /// Another canonical request, scope, key or signature, or none that can be read.
    Another,
}

/// What a signature is about.
#[derive(PartialEq, Eq)]
pub(super) struct Meaning {
    canonical: String,
    credential: String,
    signature: String,
    signed_headers: Vec<String>,
}

pub(super) fn judge(before: &Meaning, changed: &Asked) -> Judgement {
    match meaning(changed) {
        Some(after) if after == *before => match forbidden(&changed.parts, &after.signed_headers) {
            true => Judgement::Forbidden,
            false => Judgement::Same,
        },
        Some(_) | None => Judgement::Another,
    }
}

pub(super) fn meaning(asked: &Asked) -> Option<Meaning> {
    let (credential, names, signature) = match asked.parts.headers.get("authorization") {
        Some(value) => {
            let fields = value.to_str().ok()?.trim().strip_prefix("AWS4-HMAC-SHA256 ")?;
            let fields: Vec<(&str, &str)> =
                fields.split(',').map(|field| field.trim().split_once('=')).collect::<Option<_>>()?;
            let one = |name: &str| fields.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
            if fields.len() != 3 {
                return None;
            }
            (one("Credential")?.to_owned(), one("SignedHeaders")?.to_owned(), one("Signature")?.to_owned())
        }
        None => {
            let pairs = pairs(&asked.parts)?;
            let one = |wanted: &str| {
                let found = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
                String::from_utf8(found?.1.clone()).ok()
            };
            (one("X-Amz-Credential")?, one("X-Amz-SignedHeaders")?, one("X-Amz-Signature")?)
        }
    };
    let signed_headers: Vec<String> = names.split(';').map(str::to_owned).collect();
    let canonical = canonical(asked, &signed_headers)?;
    Some(Meaning { canonical, credential, signature, signed_headers })
}

/// The canonical request; None where something in it cannot be read.
pub(super) fn canonical(asked: &Asked, signed_headers: &[String]) -> Option<String> {
    let Asked { parts, body } = asked;
    let mut path: Vec<&str> = Vec::new();
    for segment in parts.uri.path().split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match segment {
            ".." => path.truncate(path.len().saturating_sub(1)),
            _ => path.push(segment),
        }
    }
    let slash = if parts.uri.path().ends_with('/') && !path.is_empty() { "/" } else { "" };
    let encoded_path: Vec<String> =
        path.iter().map(|segment| percent_encode(segment.as_bytes(), ENCODED).to_string()).collect();
    let mut query: Vec<(String, String)> = pairs(parts)?
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(b"X-Amz-Signature"))
        .map(|(name, value)| {
            (percent_encode(name, ENCODED).to_string(), percent_encode(value, ENCODED).to_string())
        })
        .collect();
    query.sort();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in signed_headers {
        headers += &format!("{name}:{}\n", header(parts, name)?);
    }
    Some(format!(
        "{}\n/{}{slash}\n{}\n{headers}\n{}\n{}",
        parts.method,
        encoded_path.join("/"),
        query.join("&"),
        signed_headers.join(";"),
        hex::encode(Sha256::digest(body)),
    ))
}

fn header(parts: &Parts, name: &str) -> Option<String> {
    let values: Vec<String> = parts
        .headers
        .get_all(name)
        .iter()
        .map(|value| Some(value.to_str().ok()?.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect::<Option<_>>()?;
    let authority = parts.uri.authority().filter(|_| name == "host");
    match (authority, values.is_empty()) {
        (Some(authority), true) => Some(authority.to_string()),
        (Some(authority), false)
            if !values.iter().all(|value| value.eq_ignore_ascii_case(authority.as_str())) =>
        {
            None
        }
        (None, true) => None,
        (Some(_) | None, false) => Some(values.join(",")),
    }
}

/// Names and values of the query's parameters, decoded.
fn pairs(parts: &Parts) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let decoded = |text: &str| {
        let whole = text
            .split('%')
            .skip(1)
            .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
        whole.then(|| percent_decode_str(text).collect::<Vec<u8>>())
    };
    let query = parts.uri.query().unwrap_or_default();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        })
        .collect()
}

/// Whether there is something that must be signed and is not, something twice, or two signatures.
fn forbidden(parts: &Parts, signed_headers: &[String]) -> bool {
    let matters = |name: &str| matches!(name, "host" | "content-type") || name.starts_with("x-amz-");
    let mut names: Vec<&str> = parts.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let twice =
        names.windows(2).any(|pair| pair[0] == pair[1] && (matters(pair[0]) || pair[0] == "authorization"));
    let unsigned =
        names.iter().any(|name| matters(name) && !signed_headers.iter().any(|signed| signed == name));
    let of_signatures = pairs(parts).unwrap_or_default();
    let of_signatures: Vec<String> = of_signatures
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase())
        .filter(|name| name.starts_with("x-amz-"))
        .collect();
    let again =
        of_signatures.iter().any(|name| of_signatures.iter().filter(|other| *other == name).count() > 1);
    twice || unsigned || again || (parts.headers.contains_key("authorization") && !of_signatures.is_empty())
}
