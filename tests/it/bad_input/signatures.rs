//! Signatures that do not hold for what was sent (SigV4), each of which would let somebody else's request in.

use axum::http::request::Parts;
use axum::http::{HeaderValue, Request};
use registry_aws::{Credentials, sigv4};
use std::time::{SystemTime, UNIX_EPOCH};
use test_support::{Response, Server};

use crate::signed::Signer;

const BODY: &[u8] = br#"{"clusterName":"made"}"#;

struct Made<'a> {
    server: &'a Server,
    region: &'a str,
    service: &'a str,
    skew_s: i64,
}

impl Made<'_> {
    fn sign(&self, extra: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::post("/")
            .header("host", self.server.authority())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "AmazonEC2ContainerServiceV20141113.CreateCluster");
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        let credentials = Credentials::new(self.server.access_key_id(), self.server.secret());
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now_ms = i64::try_from(now_ms).unwrap() + self.skew_s * 1000;
        sigv4::sign(&mut parts, &credentials, self.region, self.service, BODY, now_ms);
        parts
    }
}

fn send(server: &Server, path: &str, parts: &Parts, body: &[u8]) -> Response {
    let headers: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != "host")
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    server.anonymous().send("POST", path, &headers, body)
}

#[test]
fn a_signature_holds_for_one_request_at_one_time_and_place() {
    let server = Server::start();
    let good = Made { server: &server, region: "us-east-1", service: "ecs", skew_s: 0 };
    let change = |name: &'static str, value: &str| {
        let mut parts = good.sign(&[]);
        parts.headers.insert(name, HeaderValue::from_str(value).unwrap());
        parts
    };
    let twice = |name: &'static str| {
        let mut parts = good.sign(&[]);
        let value = parts.headers[name].clone();
        parts.headers.append(name, value);
        parts
    };
    let authorization = good.sign(&[]).headers["authorization"].to_str().unwrap().to_owned();
    let cases = [
        ("expired", "/", Made { skew_s: -360, ..good }.sign(&[]), BODY),
        ("of the future", "/", Made { skew_s: 360, ..good }.sign(&[]), BODY),
        ("of another region", "/", Made { region: "eu-west-1", ..good }.sign(&[]), BODY),
        ("of another service", "/", Made { service: "ecr", ..good }.sign(&[]), BODY),
        ("of another body", "/", good.sign(&[]), br#"{"clusterName":"evil"}"#),
        (
            "of another operation",
            "/",
            change("x-amz-target", "AmazonEC2ContainerServiceV20141113.DeleteCluster"),
            BODY,
        ),
        ("with an unsigned header", "/", change("x-amz-meta", "a"), BODY),
        ("with an unsigned session", "/", change("x-amz-security-token", "a"), BODY),
        ("with another hash", "/", change("x-amz-content-sha256", &"0".repeat(64)), BODY),
        ("with no hash", "/", change("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), BODY),
        ("with two dates", "/", twice("x-amz-date"), BODY),
        ("with two signatures", "/", twice("authorization"), BODY),
        ("with a query", "/?a=b", good.sign(&[]), BODY),
        ("in both forms", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", good.sign(&[]), BODY),
        ("of another day", "/", change("authorization", &authorization.replace("/20", "/19")), BODY),
        ("of no headers", "/", change("authorization", &authorization.replace("content-type;", "")), BODY),
        (
            "in upper case",
            "/",
            change("authorization", &authorization.replace("Signature=", "Signature=F")),
            BODY,
        ),
        (
            "without a signature",
            "/",
            change("authorization", authorization.split(", Signature").next().unwrap()),
            BODY,
        ),
    ];
    for (what, path, parts, body) in &cases {
        let answer = send(&server, path, parts, body);
        let name = answer.json()["__type"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "a signature {what}: {answer:?}");
        let names =
            ["InvalidSignatureException", "IncompleteSignatureException", "UnrecognizedClientException"];
        assert!(names.contains(&name.as_str()), "a signature {what}: {name}");
    }
    assert_eq!(send(&server, "/", &good.sign(&[("x-amz-meta", "signed")]), BODY).status, 200);
}

#[test]
fn a_request_for_credentials_is_answered_once() {
    let server = Server::start();
    let signer = Signer::administrator(&server);
    let body = b"Version=2011-06-15&Action=GetSessionToken";
    let headers = signer.headers("sts", &[("content-type", "application/x-www-form-urlencoded")], body);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let send = || server.anonymous().post("/", &headers, body);
    assert_eq!(send().status, 200);
    let again = send();
    assert!([400, 403].contains(&again.status), "{again:?}");
    assert!(!String::from_utf8_lossy(&again.body).contains("SecretAccessKey"));
}
