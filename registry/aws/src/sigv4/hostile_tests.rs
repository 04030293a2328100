//! Requests that a client did not sign as they stand, one fact a test.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
use sha2::{Digest, Sha256};

use super::canonical::{encode, request as canonical_request};
use super::parse::Scope;
use super::verify::signature;
use super::{ALGORITHM, DEFAULT_SKEW_MS, Expected, ReplayGuard, SigV4Error, parse, sign};
use crate::credentials::Credentials;
use crate::timestamp::amz_date;

const NOW_MS: i64 = 1_793_534_400_000;
const BODY: &[u8] = br#"{"cluster":"default"}"#;
const SECRET: &str = "a secret of thirty-two characters";

fn credentials() -> Credentials {
    let mut credentials = Credentials::new("BRTHEXAMPLEEXAMPLE00", SECRET);
    credentials.session_token = Some("token/of+session==".into());
    credentials
}

fn expected() -> Expected<'static> {
    Expected {
        services: &["ecs"],
        regions: &["us-east-1"],
        now_ms: NOW_MS,
        skew_ms: DEFAULT_SKEW_MS,
        unsigned_payload: false,
    }
}

fn unsigned() -> Parts {
    let request = Request::builder()
        .method("POST")
        .uri("/?list=a%2Fb&list=%20c")
        .header("host", "berth.example:5000")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AmazonEC2ContainerServiceV20141113.RunTask")
        .body(());
    request.unwrap().into_parts().0
}

fn signed() -> Parts {
    let mut parts = unsigned();
    sign(&mut parts, &credentials(), "us-east-1", "ecs", BODY, NOW_MS);
    parts
}

/// A presigned request; `extra` is further parameters, encoded and with a leading `&`.
fn presigned(expires: &str, extra: &str) -> Parts {
    let date = amz_date(NOW_MS);
    let scope = Scope { date: date[..8].into(), region: "us-east-1".into(), service: "ecs".into() };
    let mut credential = Vec::new();
    encode(format!("{}/{scope}", credentials().access_key_id).as_bytes(), false, &mut credential);
    let credential = String::from_utf8(credential).unwrap();
    let query = format!(
        "/ws?X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={date}\
         &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host{extra}"
    );
    let request = Request::builder().uri(&query).header("host", "berth.example:5000").body(());
    let mut parts = request.unwrap().into_parts().0;
    let payload =
        if extra.contains("UNSIGNED") { "UNSIGNED-PAYLOAD".into() } else { hex::encode(Sha256::digest(b"")) };
    let canonical = canonical_request(&parts, &["host".into()], &payload).unwrap();
    let signature = hex::encode(signature(SECRET.as_bytes(), &scope, &date, &canonical));
    parts.uri = format!("{query}&X-Amz-Signature={signature}").parse().unwrap();
    parts
}

fn check(parts: &Parts, body: &[u8], expected: &Expected<'_>) -> Result<(), SigV4Error> {
    let hash: [u8; 32] = Sha256::digest(body).into();
    match parse(parts)? {
        Some(signed) => {
            // The access key id is signed by nothing but its secret.
            let known = signed.access_key_id == credentials().access_key_id;
            let secret = if known { SECRET } else { "the secret of another key" };
            signed.verify(parts, secret.as_bytes(), &hash, expected)
        }
        None => Err(SigV4Error::Malformed("unsigned")),
    }
}

fn refused(parts: &Parts) -> SigV4Error {
    check(parts, BODY, &expected()).unwrap_err()
}

fn set(parts: &mut Parts, name: &'static str, value: &str) {
    parts.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
}

#[test]
fn what_the_signer_signs_the_verifier_accepts() {
    check(&signed(), BODY, &expected()).unwrap();
    let signed = parse(&signed()).unwrap().unwrap();
    assert_eq!(signed.session_token.as_deref(), Some("token/of+session=="));
    assert_eq!(signed.timestamp_ms, NOW_MS);
    assert!(!format!("{signed:?}").contains("token/"));
    assert!(!format!("{:?}", credentials()).contains("secret of"));
}

#[test]
fn unsigned_and_docker_requests_are_not_ours() {
    assert!(parse(&unsigned()).unwrap().is_none());
    for value in ["Basic QVdTOng=", "Bearer abc"] {
        let mut parts = unsigned();
        set(&mut parts, "authorization", value);
        assert!(parse(&parts).unwrap().is_none());
    }
}

#[test]
fn every_part_of_the_request_is_bound() {
    let mut parts = signed();
    parts.method = Method::PUT;
    assert_eq!(refused(&parts), SigV4Error::Mismatch);
    for uri in
        ["/", "/x?list=a%2Fb&list=%20c", "/?list=a/b&list=%20d", "/?list=a%2Fb&list=+c", "/?list=a%2Fb"]
    {
        let mut parts = signed();
        parts.uri = Uri::from_static(uri);
        assert_eq!(refused(&parts), SigV4Error::Mismatch, "{uri}");
    }
    for (name, value) in [
        ("host", "other.example:5000"),
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", "AmazonEC2ContainerServiceV20141113.StopTask"),
        ("x-amz-security-token", "another token"),
    ] {
        let mut parts = signed();
        set(&mut parts, name, value);
        assert_eq!(refused(&parts), SigV4Error::Mismatch, "{name}");
    }
    assert_eq!(check(&signed(), b"{}", &expected()), Err(SigV4Error::Mismatch));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_changed_byte_passes(header in 0usize..6, at in any::<prop::sample::Index>(), byte in 0x21u8..0x7f) {
        let names = ["authorization", "host", "content-type", "x-amz-target", "x-amz-date", "x-amz-security-token"];
        let mut parts = signed();
        let mut value = parts.headers[names[header]].as_bytes().to_vec();
        let at = at.index(value.len());
        if value[at] != byte {
            value[at] = byte;
            parts.headers.insert(names[header], HeaderValue::from_bytes(&value).unwrap());
            prop_assert!(check(&parts, BODY, &expected()).is_err());
        }
    }

    #[test]
    fn no_changed_byte_of_a_presigned_query_passes(at in any::<prop::sample::Index>(), byte in b'0'..b'z') {
        let mut parts = presigned("60", "");
        let mut uri = parts.uri.to_string().into_bytes();
        let at = 1 + at.index(uri.len() - 1);
        // Case of an escape's hex digit and of a parameter's name aside, no byte may change.
        if !uri[at].eq_ignore_ascii_case(&byte) {
            uri[at] = byte;
            if let Ok(uri) = Uri::try_from(uri) {
                parts.uri = uri;
                prop_assert!(check(&parts, b"", &expected()).is_err());
            }
        }
    }

    #[test]
    fn reading_never_panics(authorization in "AWS4-HMAC-SHA256 .{0,200}|.{0,100}", query in "[ -~&&[^# ]]{0,200}") {
        let mut parts = unsigned();
        if let Ok(value) = HeaderValue::from_str(&authorization) {
            parts.headers.insert("authorization", value);
        }
        if let Ok(uri) = Uri::try_from(format!("/?{query}")) {
            parts.uri = uri;
        }
        let _ = check(&parts, BODY, &expected());
    }
}

#[test]
fn headers_that_carry_meaning_must_be_signed() {
    for name in ["x-amz-meta", "x-amz-content-sha256"] {
        let mut parts = signed();
        set(&mut parts, name, &"0".repeat(64));
        assert_eq!(refused(&parts), SigV4Error::Unsigned(name.into()));
    }
    let mut parts = unsigned();
    let content_type = parts.headers.remove("content-type").unwrap();
    sign(&mut parts, &credentials(), "us-east-1", "ecs", BODY, NOW_MS);
    parts.headers.insert("content-type", content_type);
    assert_eq!(refused(&parts), SigV4Error::Unsigned("content-type".into()));

    let mut parts = signed();
    let authorization = parts.headers["authorization"].to_str().unwrap().replace(";host;", ";");
    set(&mut parts, "authorization", &authorization);
    assert_eq!(refused(&parts), SigV4Error::Unsigned("host".into()));

    let mut parts = signed();
    parts.headers.remove("x-amz-security-token");
    assert_eq!(refused(&parts), SigV4Error::Absent("x-amz-security-token".into()));
}

#[test]
fn repeated_headers_are_refused() {
    for name in
        ["authorization", "host", "content-type", "x-amz-date", "x-amz-target", "x-amz-security-token"]
    {
        let mut parts = signed();
        let value = parts.headers[name].clone();
        parts.headers.append(name, value);
        assert_eq!(refused(&parts), SigV4Error::Duplicate(name.into()));
    }
}

#[test]
fn one_form_at_a_time() {
    let mut both = presigned("60", "");
    set(&mut both, "authorization", "Bearer abc");
    assert_eq!(refused(&both), SigV4Error::BothForms);

    let mut parts = signed();
    parts.uri = Uri::from_static("/?x-amz-signature=0");
    assert_eq!(refused(&parts), SigV4Error::BothForms);
}

#[test]
fn malformed_authorizations_are_refused() {
    let parts = signed();
    let good = parts.headers["authorization"].to_str().unwrap();
    let signature = good.rsplit('=').next().unwrap();
    for bad in [
        good.replace("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "),
        good.replace("aws4_request", "aws4"),
        good.replace("/aws4_request", "/aws4_request/x"),
        good.replace("/ecs/", "//"),
        good.replace("content-type;host", "host;content-type"),
        good.replace("host;", "host;host;"),
        good.replace(";host", ";Host"),
        good.replace(signature, &signature[..62]),
        good.replace(signature, &signature.to_uppercase()),
        format!("{good}, Signature={signature}"),
        format!("{good}, Extra=1"),
        good.split(", Signature").next().unwrap().to_owned(),
        "AWS4-HMAC-SHA256".into(),
    ] {
        let mut parts = signed();
        set(&mut parts, "authorization", &bad);
        assert!(check(&parts, BODY, &expected()).is_err(), "{bad}");
    }
}

#[test]
fn scope_must_be_this_service_region_and_day() {
    let expected = expected();
    for (services, regions) in [(&["ecr"][..], &["us-east-1"][..]), (&["ecs"], &["eu-west-1"]), (&[], &[])] {
        let result = check(&signed(), BODY, &Expected { services, regions, ..expected });
        assert!(matches!(result, Err(SigV4Error::Scope(_))), "{services:?} {regions:?}");
    }
    check(&signed(), BODY, &Expected { regions: &[], ..expected }).unwrap();

    let mut parts = signed();
    let other_day = parts.headers["authorization"].to_str().unwrap().replacen("/2026", "/2025", 1);
    set(&mut parts, "authorization", &other_day);
    assert!(matches!(refused(&parts), SigV4Error::Scope(_)));
}

#[test]
fn skew_counts_in_both_directions() {
    let at = |offset_ms: i64| check(&signed(), BODY, &Expected { now_ms: NOW_MS + offset_ms, ..expected() });
    at(DEFAULT_SKEW_MS).unwrap();
    at(-DEFAULT_SKEW_MS).unwrap();
    assert!(matches!(at(DEFAULT_SKEW_MS + 1), Err(SigV4Error::Expired { .. })));
    assert!(matches!(at(-DEFAULT_SKEW_MS - 1), Err(SigV4Error::NotYetValid { .. })));
}

#[test]
fn presigned_requests_end_when_they_say() {
    let parts = presigned("60", "");
    let at = |offset_ms: i64| check(&parts, b"", &Expected { now_ms: NOW_MS + offset_ms, ..expected() });
    at(0).unwrap();
    at(60_000).unwrap();
    assert!(matches!(at(60_001), Err(SigV4Error::Expired { .. })));
    assert!(matches!(at(-DEFAULT_SKEW_MS - 1), Err(SigV4Error::NotYetValid { .. })));
    assert_eq!(check(&parts, b"body", &expected()), Err(SigV4Error::Mismatch));
    for expires in ["0", "604801", "-1", "+60", "", "1e3", "99999999999"] {
        assert!(check(&presigned(expires, ""), b"", &expected()).is_err(), "{expires}");
    }
    check(&presigned("604800", ""), b"", &expected()).unwrap();
}

#[test]
fn presigned_parameters_occur_once_and_completely() {
    for name in ["X-Amz-Date", "x-amz-date", "X-Amz-Expires", "X-Amz-Credential", "X-Amz-Security-Token"] {
        let extra = format!("&{name}=1&{name}=2");
        assert!(
            matches!(check(&presigned("60", &extra), b"", &expected()), Err(SigV4Error::Duplicate(_))),
            "{name}"
        );
    }
    let whole = presigned("60", "").uri.to_string();
    for name in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"] {
        let mut parts = presigned("60", "");
        parts.uri = whole.replace(&format!("X-Amz-{name}="), "other=").parse().unwrap();
        assert!(matches!(refused(&parts), SigV4Error::Malformed(_)), "{name}");
    }
}

#[test]
fn declared_payloads_are_compared_and_unsigned_ones_need_leave() {
    let declare = |value: &str| {
        let mut parts = unsigned();
        set(&mut parts, "x-amz-content-sha256", value);
        sign(&mut parts, &credentials(), "us-east-1", "ecs", BODY, NOW_MS);
        parts
    };
    check(&declare(&hex::encode(Sha256::digest(BODY))), BODY, &expected()).unwrap();
    assert_eq!(refused(&declare(&"0".repeat(64))), SigV4Error::PayloadMismatch);
    assert_eq!(refused(&declare("UNSIGNED-PAYLOAD")), SigV4Error::PayloadUnsigned);
    assert!(matches!(refused(&declare("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")), SigV4Error::Malformed(_)));

    let parts = presigned("60", "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD");
    assert_eq!(check(&parts, b"any", &expected()), Err(SigV4Error::PayloadUnsigned));
    check(&parts, b"any", &Expected { unsigned_payload: true, ..expected() }).unwrap();
}

#[test]
fn http2_requests_are_bound_to_their_authority() {
    let mut parts = signed();
    parts.headers.remove("host");
    parts.uri = Uri::from_static("http://berth.example:5000/?list=a%2Fb&list=%20c");
    check(&parts, BODY, &expected()).unwrap();
    parts.uri = Uri::from_static("http://other.example:5000/?list=a%2Fb&list=%20c");
    assert_eq!(refused(&parts), SigV4Error::Mismatch);
    set(&mut parts, "host", "berth.example:5000");
    assert!(matches!(refused(&parts), SigV4Error::Malformed(_)));
}

#[test]
fn a_signature_is_admitted_once_while_it_is_valid() {
    let mut guard = ReplayGuard::new(2, DEFAULT_SKEW_MS);
    let first = parse(&signed()).unwrap().unwrap();
    guard.admit(&first, NOW_MS).unwrap();
    assert_eq!(guard.admit(&first, NOW_MS), Err(SigV4Error::Replayed));

    let later = |offset_ms: i64| {
        let mut parts = unsigned();
        sign(&mut parts, &credentials(), "us-east-1", "ecs", BODY, NOW_MS + offset_ms);
        parse(&parts).unwrap().unwrap()
    };
    guard.admit(&later(1000), NOW_MS).unwrap();
    assert_eq!(
        guard.admit(&later(2000), NOW_MS),
        Err(SigV4Error::Replayed),
        "full: refused, nothing forgotten"
    );
    guard.admit(&later(2000), NOW_MS + DEFAULT_SKEW_MS + 1).unwrap();
}
