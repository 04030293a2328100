//! The official vectors: every signature in them must be made by the signer and accepted by the verifier.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Uri};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::canonical::{encode, normalize, request as canonical_request};
use super::parse::{Payload, Signed};
use super::{Expected, SigV4Error, parse, sign};
use crate::credentials::Credentials;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SIGNED_AT_MS: i64 = 1_440_938_160_000;

fn vectors() -> Vec<Value> {
    let lines = include_str!("../../tests/sigv4-vectors/vectors.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The vectors that hold a whole signature.
fn whole_vectors() -> Vec<Value> {
    vectors().into_iter().filter(|vector| vector["header_request"].is_string()).collect()
}

fn field<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

/// The target of a request line, whose path may hold raw spaces.
fn target(text: &str) -> &str {
    let line = text.lines().next().unwrap();
    line.split_once(' ').unwrap().1.rsplit_once(' ').unwrap().0
}

/// A request as it stands in a vector; `None` when its target cannot travel in HTTP (a raw space).
fn read(text: &str) -> Option<(Parts, Vec<u8>)> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines: Vec<String> = Vec::new();
    for line in head.lines() {
        match lines.last_mut() {
            // A folded header: HTTP's obsolete line continuation.
            Some(last) if line.starts_with(' ') => last.push_str(line),
            _ => lines.push(line.to_owned()),
        }
    }
    let uri: Uri = target(text).parse().ok()?;
    let method = text.split(' ').next().unwrap();
    let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').unwrap();
        request
            .headers_mut()
            .append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    Some((request.into_parts().0, body.trim_end_matches('\n').as_bytes().to_vec()))
}

fn expected() -> Expected<'static> {
    Expected {
        services: &["service"],
        regions: &["us-east-1"],
        now_ms: SIGNED_AT_MS,
        skew_ms: super::DEFAULT_SKEW_MS,
        unsigned_payload: false,
    }
}

fn verify(text: &str, secret: &[u8]) -> Option<Result<Signed, SigV4Error>> {
    let (parts, body) = read(text)?;
    let hash: [u8; 32] = Sha256::digest(&body).into();
    Some(parse(&parts).and_then(|signed| {
        let signed = signed.expect("the vector is signed");
        signed.verify(&parts, secret, &hash, &expected()).map(|()| signed)
    }))
}

#[test]
fn both_forms_of_every_vector_are_accepted() {
    let mut accepted = 0;
    for vector in whole_vectors() {
        for form in ["header_request", "query_request"] {
            let Some(result) = verify(field(&vector, form), SECRET.as_bytes()) else { continue };
            let name = field(&vector, "name");
            if vector["token_signed"] == true {
                assert!(result.is_ok(), "{name} {form}: {result:?}");
                accepted += 1;
            } else {
                // A session token added after signing is refused: it would not be bound to the request.
                assert!(result.is_err(), "{name} {form}");
            }
            assert!(verify(field(&vector, form), b"another secret").unwrap().is_err(), "{name} {form}");
        }
    }
    assert!(accepted >= 54, "only {accepted} vectors were read");
}

#[test]
fn canonical_requests_are_those_of_the_vectors() {
    for vector in whole_vectors().iter().filter(|vector| vector["token_signed"] == true) {
        for (form, canonical) in
            [("header_request", "header_canonical"), ("query_request", "query_canonical")]
        {
            let Some((parts, body)) = read(field(vector, form)) else { continue };
            let signed = parse(&parts).unwrap().unwrap();
            let hash = match signed.payload {
                Payload::Declared(hash) => hash,
                Payload::Body | Payload::Unsigned => Sha256::digest(&body).into(),
            };
            let made = canonical_request(&parts, &signed.signed_headers, &hex::encode(hash)).unwrap();
            assert_eq!(
                String::from_utf8(made).unwrap(),
                field(vector, canonical),
                "{}",
                field(vector, "name")
            );
        }
    }
}

#[test]
fn paths_are_normalized_and_encoded_once_more() {
    for vector in vectors() {
        let (path, canonical) = match vector["path"].as_str() {
            Some(path) => (path, field(&vector, "canonical_path")),
            None => {
                let path = target(field(&vector, "header_request")).split('?').next().unwrap();
                (path, field(&vector, "header_canonical").lines().nth(1).unwrap())
            }
        };
        let mut made = Vec::new();
        encode(normalize(path).as_bytes(), true, &mut made);
        assert_eq!(String::from_utf8(made).unwrap(), canonical, "{}", field(&vector, "name"));
    }
}

#[test]
fn signer_makes_the_signatures_of_the_vectors() {
    let mut made = 0;
    for vector in whole_vectors().iter().filter(|vector| vector["token_signed"] == true) {
        let Some((mut parts, body)) = read(field(vector, "header_request")) else { continue };
        // The signer signs what must be signed; vectors that sign further headers are for the verifier alone.
        let signed = parse(&parts).unwrap().unwrap();
        let beyond = |name: &String| name != "host" && name != "content-type" && !name.starts_with("x-amz-");
        if signed.signed_headers.iter().any(beyond) {
            continue;
        }
        parts.headers.remove("authorization");
        let mut credentials = Credentials::new("AKIDEXAMPLE", SECRET);
        credentials.session_token = vector["token"].as_str().map(str::to_owned);
        sign(&mut parts, &credentials, "us-east-1", "service", &body, SIGNED_AT_MS);
        let authorization = parts.headers["authorization"].to_str().unwrap();
        assert!(authorization.ends_with(field(vector, "header_signature")), "{}", field(vector, "name"));
        made += 1;
    }
    assert!(made >= 18, "only {made} vectors were signed");
}
