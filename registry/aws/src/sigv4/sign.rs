//! Signing requests, in the header form.

use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::parse::Scope;
use super::verify::signature;
use super::{ALGORITHM, canonical};
use crate::credentials::Credentials;
use crate::timestamp::amz_date;

/// Signs a request: adds `X-Amz-Date`, `X-Amz-Security-Token` for a session, `Host` from the URI when
/// it is missing, and `Authorization`, each in place of what was there. Signed are `host`,
/// `content-type` and all `x-amz-*` headers; add nothing of those afterwards.
///
/// # Panics
/// When the request has neither a `Host` header nor an authority in its URI, or credentials or host hold
/// control characters: mistakes in the caller's code.
pub fn sign(
    request: &mut Parts,
    credentials: &Credentials,
    region: &str,
    service: &str,
    body: &[u8],
    now_ms: i64,
) {
    let date = amz_date(now_ms);
    let headers = &mut request.headers;
    headers.insert("x-amz-date", header_value(&date));
    headers.remove("x-amz-security-token");
    if let Some(token) = &credentials.session_token {
        headers.insert("x-amz-security-token", secret_value(token));
    }
    if !headers.contains_key(HOST) {
        let authority = request.uri.authority().expect("a request to sign has a host");
        headers.insert(HOST, header_value(authority.as_str()));
    }
    let mut signed_headers: Vec<String> = headers
        .keys()
        .filter(|name| *name == HOST || *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-"))
        .map(|name| name.as_str().to_owned())
        .collect();
    signed_headers.sort();

    let payload_hash = hex::encode(Sha256::digest(body));
    let canonical_request = canonical::request(request, &signed_headers, &payload_hash)
        .expect("a request made by this process has a well-formed query and one host");
    let scope = Scope { date: date[..8].to_owned(), region: region.to_owned(), service: service.to_owned() };
    let secret = credentials.secret_access_key.as_bytes();
    let signature = signature(secret, &scope, &date, &canonical_request);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
        credentials.access_key_id,
        signed_headers.join(";"),
        hex::encode(signature)
    );
    request.headers.insert(AUTHORIZATION, secret_value(&authorization));
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hosts and credentials hold no control characters")
}

fn secret_value(text: &str) -> HeaderValue {
    let mut value = header_value(text);
    value.set_sensitive(true);
    value
}
