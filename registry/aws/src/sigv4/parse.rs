//! Reads the signature of a request, and refuses what no honest client sends.
//!
//! After `parse` every header that carries meaning is known to be signed and to occur once;
//! what remains for `verify` needs the secret, the body or the clock.

use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Parts;

use super::ALGORITHM;
use super::canonical::{QueryPair, decoded_pairs};
use super::error::SigV4Error;
use crate::timestamp::parse_amz_date;

/// Longest lifetime of a presigned request, seven days.
const MAX_EXPIRES_S: u32 = 604_800;

/// Where the signature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Header,
    /// Presigned, valid for so many seconds (1 to 604,800).
    Query {
        expires_s: u32,
    },
}

/// What the client says about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the signature covers the hash of the body as read.
    Body,
    /// `X-Amz-Content-Sha256` with a hash, to be compared with the body as read.
    Declared([u8; 32]),
    /// `UNSIGNED-PAYLOAD`, which `Expected::unsigned_payload` must permit.
    Unsigned,
}

/// What the signing key is made for: `<date>/<region>/<service>/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub date: String,
    pub region: String,
    pub service: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// The signature of a request, read but not yet verified.
#[derive(Clone)]
pub struct Signed {
    pub access_key_id: String,
    pub scope: Scope,
    /// Lower case, sorted, each once.
    pub signed_headers: Vec<String>,
    pub session_token: Option<String>,
    /// When it was signed.
    pub timestamp_ms: i64,
    pub form: Form,
    pub payload: Payload,
    pub(super) amz_date: String,
    pub(super) signature: [u8; 32],
}

impl Signed {
    pub fn presigned(&self) -> bool {
        matches!(self.form, Form::Query { .. })
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("access_key_id", &self.access_key_id)
            .field("scope", &self.scope)
            .field("amz_date", &self.amz_date)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// The signature of a request; `None` when it carries none (nothing, Basic or Bearer).
pub fn parse(parts: &Parts) -> Result<Option<Signed>, SigV4Error> {
    let authorization = single(&parts.headers, AUTHORIZATION.as_str())?;
    let query = decoded_pairs(parts.uri.query().unwrap_or_default())?;
    let in_query = query.iter().any(|pair| QUERY_PARAMETERS.iter().any(|name| pair.is(name)));
    let signed = match authorization {
        Some(_) if in_query => return Err(SigV4Error::BothForms),
        Some(value) if value.starts_with("AWS4-") => from_header(&parts.headers, value)?,
        Some(_) => return Ok(None),
        None if in_query => from_query(&parts.headers, &query)?,
        None => return Ok(None),
    };
    check_coverage(parts, &signed.signed_headers)?;
    Ok(Some(signed))
}

/// The parameters that make a query a presigned one. Names are compared without case, so that no
/// other spelling of one slips past as an ordinary parameter.
const QUERY_PARAMETERS: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
];

fn from_header(headers: &HeaderMap, authorization: &str) -> Result<Signed, SigV4Error> {
    let fields = authorization
        .strip_prefix(ALGORITHM)
        .and_then(|rest| rest.strip_prefix(' '))
        .ok_or(SigV4Error::Malformed("the Authorization header must start with AWS4-HMAC-SHA256"))?;
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field
            .trim()
            .split_once('=')
            .ok_or(SigV4Error::Malformed("Authorization: a field has no value"))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(SigV4Error::Malformed("Authorization: unknown field")),
        };
        if slot.replace(value).is_some() {
            return Err(SigV4Error::Duplicate(name.to_owned()));
        }
    }
    let missing = SigV4Error::Malformed("Authorization needs Credential, SignedHeaders and Signature");
    let (Some(credential), Some(signed_headers), Some(signature)) = (credential, signed_headers, signature)
    else {
        return Err(missing);
    };
    let amz_date = single(headers, "x-amz-date")?.ok_or(SigV4Error::Malformed("X-Amz-Date is missing"))?;
    assemble(Fields {
        credential,
        signed_headers,
        signature,
        amz_date,
        session_token: single(headers, "x-amz-security-token")?.map(str::to_owned),
        payload: payload(single(headers, "x-amz-content-sha256")?)?,
        form: Form::Header,
    })
}

fn from_query(headers: &HeaderMap, query: &[QueryPair]) -> Result<Signed, SigV4Error> {
    let algorithm = required(query, "X-Amz-Algorithm")?;
    if algorithm != ALGORITHM {
        return Err(SigV4Error::Malformed("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
    }
    let expires = required(query, "X-Amz-Expires")?;
    let expires_s = Some(expires)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=MAX_EXPIRES_S).contains(seconds))
        .ok_or(SigV4Error::Malformed("X-Amz-Expires must be a number from 1 to 604800"))?;
    let declared = match (optional(query, "X-Amz-Content-Sha256")?, single(headers, "x-amz-content-sha256")?)
    {
        (Some(_), Some(_)) => return Err(SigV4Error::Duplicate("X-Amz-Content-Sha256".into())),
        (in_query, in_header) => in_query.or(in_header),
    };
    let session_token =
        match (optional(query, "X-Amz-Security-Token")?, single(headers, "x-amz-security-token")?) {
            (Some(_), Some(_)) => return Err(SigV4Error::Duplicate("X-Amz-Security-Token".into())),
            (in_query, in_header) => in_query.or(in_header).map(str::to_owned),
        };
    assemble(Fields {
        credential: required(query, "X-Amz-Credential")?,
        signed_headers: required(query, "X-Amz-SignedHeaders")?,
        signature: required(query, "X-Amz-Signature")?,
        amz_date: required(query, "X-Amz-Date")?,
        session_token,
        payload: payload(declared)?,
        form: Form::Query { expires_s },
    })
}

/// The texts of either form.
struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    amz_date: &'a str,
    session_token: Option<String>,
    payload: Payload,
    form: Form,
}

fn assemble(fields: Fields<'_>) -> Result<Signed, SigV4Error> {
    let mut parts = fields.credential.split('/');
    let (Some(access_key_id), Some(date), Some(region), Some(service), Some("aws4_request"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SigV4Error::Malformed(
            "Credential must be <access key id>/<date>/<region>/<service>/aws4_request",
        ));
    };
    let is_word = |text: &str| {
        !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if ![access_key_id, date, region, service].into_iter().all(is_word) {
        return Err(SigV4Error::Malformed("Credential holds an empty or malformed part"));
    }
    let timestamp_ms = parse_amz_date(fields.amz_date)
        .ok_or(SigV4Error::Malformed("X-Amz-Date must be written like 20150830T123600Z"))?;
    if !fields.amz_date.starts_with(date) || date.len() != 8 {
        return Err(SigV4Error::Scope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' != '{}'",
            &fields.amz_date[..8]
        )));
    }
    let signed_headers: Vec<String> = fields.signed_headers.split(';').map(str::to_owned).collect();
    let in_order = signed_headers.windows(2).all(|pair| pair[0] < pair[1]);
    let lower_case =
        signed_headers.iter().all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    if !in_order || !lower_case {
        return Err(SigV4Error::Malformed("SignedHeaders must be lower case, sorted, and each once"));
    }
    Ok(Signed {
        access_key_id: access_key_id.to_owned(),
        scope: Scope { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() },
        signed_headers,
        session_token: fields.session_token,
        timestamp_ms,
        form: fields.form,
        payload: fields.payload,
        amz_date: fields.amz_date.to_owned(),
        signature: hash_from_hex(fields.signature)
            .ok_or(SigV4Error::Malformed("Signature must be 64 lower-case hex digits"))?,
    })
}

/// `host`, `content-type` and every `x-amz-*` header must be signed and single, and what is named must be there.
fn check_coverage(parts: &Parts, signed_headers: &[String]) -> Result<(), SigV4Error> {
    let is_signed = |name: &str| signed_headers.iter().any(|signed| signed == name);
    if !is_signed(HOST.as_str()) {
        return Err(SigV4Error::Unsigned("host".into()));
    }
    for name in parts.headers.keys() {
        let matters = name == HOST || name == CONTENT_TYPE || name.as_str().starts_with("x-amz-");
        if matters && parts.headers.get_all(name).iter().count() > 1 {
            return Err(SigV4Error::Duplicate(name.as_str().to_owned()));
        }
        if matters && !is_signed(name.as_str()) {
            return Err(SigV4Error::Unsigned(name.as_str().to_owned()));
        }
    }
    for name in signed_headers {
        let present = parts.headers.contains_key(name.as_str())
            || (name == HOST.as_str() && parts.uri.authority().is_some());
        if !present {
            return Err(SigV4Error::Absent(name.clone()));
        }
    }
    Ok(())
}

fn payload(declared: Option<&str>) -> Result<Payload, SigV4Error> {
    match declared {
        None => Ok(Payload::Body),
        Some("UNSIGNED-PAYLOAD") => Ok(Payload::Unsigned),
        Some(hex) => hash_from_hex(hex).map(Payload::Declared).ok_or(SigV4Error::Malformed(
            "X-Amz-Content-Sha256 must be the hash of the body or UNSIGNED-PAYLOAD",
        )),
    }
}

fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower_case && hex::decode_to_slice(text, &mut hash).is_ok()).then_some(hash)
}

/// The value of a header that may occur once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SigV4Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(SigV4Error::Duplicate(name.to_owned()));
    }
    value
        .to_str()
        .map(|text| Some(text.trim()))
        .map_err(|_| SigV4Error::Malformed("a header is not ASCII text"))
}

fn optional<'a>(query: &'a [QueryPair], name: &str) -> Result<Option<&'a str>, SigV4Error> {
    let mut pairs = query.iter().filter(|pair| pair.is(name));
    let Some(pair) = pairs.next() else { return Ok(None) };
    if pairs.next().is_some() {
        return Err(SigV4Error::Duplicate(name.to_owned()));
    }
    std::str::from_utf8(&pair.value)
        .map(Some)
        .map_err(|_| SigV4Error::Malformed("a query parameter is not UTF-8"))
}

fn required<'a>(query: &'a [QueryPair], name: &'static str) -> Result<&'a str, SigV4Error> {
    optional(query, name)?.ok_or(SigV4Error::Malformed(
        "a presigned query needs X-Amz-Algorithm, -Credential, -Date, -Expires, -SignedHeaders and -Signature",
    ))
}
