//! Nothing is called before the gate has said yes, and every refusal has AWS's form.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use http::request::Parts;
use http::{Request, StatusCode};
use parking_lot::Mutex;
use registry_aws::{AwsError, Credentials, sigv4};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{AwsApi, serve_aws};
use crate::testing::{Fixture, policy, repository, signing};
use crate::{Caller, Check, Identity, RequestContext};

/// An API that notes what it was called with.
#[derive(Default)]
struct Notes {
    calls: Mutex<Vec<String>>,
    /// Where set, what large bodies hold during a call is noted.
    budget: Option<(Identity, AtomicUsize)>,
}

#[async_trait]
impl AwsApi for Notes {
    fn signing_name(&self) -> &'static str {
        "notes"
    }
    fn target_prefix(&self) -> &'static str {
        "Notes_1"
    }
    fn operations(&self) -> &'static [&'static str] {
        &["PutNote", "PutNotes", "Forgotten", "Once"]
    }
    fn single_use(&self, operation: &str) -> bool {
        operation == "Once"
    }
    fn answers_with_secret(&self, operation: &str) -> bool {
        operation == "Once"
    }
    fn body_limit(&self) -> usize {
        if self.budget.is_some() { 1 << 20 } else { 1024 }
    }
    async fn checks(
        &self,
        _: &RequestContext,
        _: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        let on = |name: &str| Check::on("ecr:PutImage", repository(name).parse().unwrap());
        match operation {
            "PutNotes" => Ok(vec![on("app"), on("other")]),
            "Forgotten" => Ok(Vec::new()),
            _ => Ok(vec![on(input["name"].as_str().unwrap_or("app"))]),
        }
    }
    async fn call(
        &self,
        _: &RequestContext,
        _: &Caller,
        operation: &str,
        _: Value,
    ) -> Result<Value, AwsError> {
        self.calls.lock().push(operation.to_owned());
        if let Some((identity, held)) = &self.budget {
            held.store(identity.inner().bodies.large_in_use(), Ordering::Relaxed);
        }
        Ok(json!({"done": operation}))
    }
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Value,
}

fn head(fixture: &Fixture, target: &str, credentials: Option<&Credentials>, body: &[u8]) -> Parts {
    let mut parts = crate::testing::unsigned(&[("content-type", "application/x-amz-json-1.1")]);
    parts.headers.insert("x-amz-target", target.parse().unwrap());
    if let Some(credentials) = credentials {
        sigv4::sign(&mut parts, credentials, "us-east-1", "notes", body, fixture.clock.now_ms());
    }
    parts.extensions.insert(fixture.ctx());
    parts
}

async fn answer(fixture: &Fixture, api: &Notes, parts: Parts, body: &[u8]) -> Answer {
    let request = Request::from_parts(parts, Body::from(body.to_vec()));
    let response = serve_aws(&fixture.identity, api, request).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).unwrap() }
}

#[tokio::test]
async fn an_allowed_request_is_called_and_answered_with_its_id() {
    let (fixture, api) = (Fixture::new().await, Notes::default());
    let key = signing(&fixture.administrator);
    let parts = head(&fixture, "Notes_1.PutNote", Some(&key), b"{}");
    let answer = answer(&fixture, &api, parts, b"{}").await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({"done": "PutNote"})));
    assert_eq!(answer.headers["x-amzn-requestid"], "request-1");
    assert_eq!(*api.calls.lock(), ["PutNote"]);
    let line = fixture.audit_lines().await.pop().unwrap();
    assert_eq!(
        [&line["operation"], &line["action"], &line["decision"], &line["requestId"]],
        ["PutNote", "ecr:PutImage", "allow", "request-1"]
    );
}

#[tokio::test]
async fn refusals_have_the_names_of_aws_and_nothing_is_called() {
    let (fixture, api) = (Fixture::new().await, Notes::default());
    let admin = signing(&fixture.administrator);
    let alice = signing(&fixture.user("alice", &policy("Allow", "ecr:*", &repository("app"))).await);
    let mut wrong = admin.clone();
    wrong.secret_access_key = "x".repeat(40);
    let large = vec![b' '; 1025];
    for (what, target, credentials, body, status, code) in [
        ("unsigned", "Notes_1.PutNote", None, &b"{}"[..], 400, "MissingAuthenticationTokenException"),
        ("unsigned and unknown", "Notes_1.No", None, b"{}", 400, "MissingAuthenticationTokenException"),
        ("a wrong secret", "Notes_1.PutNote", Some(&wrong), b"{}", 400, "InvalidSignatureException"),
        ("an unknown operation", "Notes_1.No", Some(&admin), b"{}", 400, "UnknownOperationException"),
        ("another version", "Notes_2.PutNote", Some(&admin), b"{}", 400, "UnknownOperationException"),
        ("no JSON", "Notes_1.PutNote", Some(&admin), b"{", 400, "SerializationException"),
        ("a large body", "Notes_1.PutNote", Some(&admin), &large, 413, "RequestEntityTooLargeException"),
        ("no right", "Notes_1.PutNote", Some(&alice), br#"{"name":"x"}"#, 400, "AccessDeniedException"),
        ("half the rights", "Notes_1.PutNotes", Some(&alice), b"{}", 400, "AccessDeniedException"),
        ("no authorization case", "Notes_1.Forgotten", Some(&admin), b"{}", 400, "AccessDeniedException"),
    ] {
        let answer = answer(&fixture, &api, head(&fixture, target, credentials, body), body).await;
        assert_eq!(answer.status.as_u16(), status, "{what}");
        assert_eq!(answer.body["__type"], code, "{what}");
        assert_eq!(answer.headers["x-amzn-errortype"], code, "{what}");
        assert_eq!(answer.headers["x-amzn-requestid"], "request-1", "{what}");
    }
    assert!(api.calls.lock().is_empty());
}

#[tokio::test]
async fn the_replay_of_a_single_use_request_is_refused() {
    let (fixture, api) = (Fixture::new().await, Notes::default());
    let key = signing(&fixture.administrator);
    for (target, second) in [("Notes_1.PutNote", 200), ("Notes_1.Once", 400)] {
        let parts = head(&fixture, target, Some(&key), b"{}");
        assert_eq!(answer(&fixture, &api, parts.clone(), b"{}").await.status, 200);
        assert_eq!(answer(&fixture, &api, parts, b"{}").await.status.as_u16(), second, "{target}");
    }
}

#[tokio::test]
async fn what_was_sent_has_its_share_of_memory_until_the_answer() {
    let fixture = Fixture::new().await;
    let api = Notes { budget: Some((fixture.identity.clone(), AtomicUsize::new(0))), ..Notes::default() };
    let body = json!({ "note": "a".repeat(100_000) }).to_string();
    let key = signing(&fixture.administrator);
    let parts = head(&fixture, "Notes_1.PutNote", Some(&key), body.as_bytes());
    let answer = answer(&fixture, &api, parts, body.as_bytes()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let (identity, held) = api.budget.as_ref().unwrap();
    assert_eq!((held.load(Ordering::Relaxed), identity.inner().bodies.large_in_use()), (body.len(), 0));
}

#[tokio::test]
async fn a_request_past_the_front_door_is_refused() {
    let (fixture, api) = (Fixture::new().await, Notes::default());
    let mut parts = head(&fixture, "Notes_1.PutNote", Some(&signing(&fixture.administrator)), b"{}");
    parts.extensions.clear();
    assert_eq!(answer(&fixture, &api, parts, b"{}").await.status, 500);
}

#[tokio::test]
async fn whoever_has_no_key_is_told_what_a_wrong_secret_is_told() {
    let (fixture, api) = (Fixture::new().await, Notes::default());
    let mut wrong = signing(&fixture.administrator);
    wrong.secret_access_key = "x".repeat(40);
    let unknown = Credentials::new("AKIAUNKNOWNUNKNOWN12", "x".repeat(40));
    let mut token = unknown.clone();
    token.session_token = Some("A".repeat(400));
    let body = br#"{"name":"app"}"#;
    // What a request can be found fault with before and after its key is looked up.
    type Fault<'a> = (&'a str, fn(&mut Parts), &'a [u8]);
    let faults: [Fault<'_>; 6] = [
        ("nothing else", |_| {}, body),
        ("another body", |_| {}, b"{}"),
        ("a long body", |_| {}, &[b' '; 2000]),
        (
            "an older signature",
            |parts| {
                let ctx = parts.extensions.get_mut::<RequestContext>().unwrap();
                ctx.now_ms += 301_000;
            },
            body,
        ),
        ("an unsigned header", |parts| drop(parts.headers.insert("x-amz-meta", "a".parse().unwrap())), body),
        (
            "another operation",
            |parts| drop(parts.headers.insert("x-amz-target", "x.y".parse().unwrap())),
            body,
        ),
    ];
    for declared in [false, true] {
        for (what, change, sent) in faults {
            let mut told = Vec::new();
            for credentials in [&wrong, &unknown] {
                let mut parts = crate::testing::unsigned(&[("content-type", "application/x-amz-json-1.1")]);
                parts.headers.insert("x-amz-target", "Notes_1.PutNote".parse().unwrap());
                if declared {
                    let hash = hex::encode(Sha256::digest(body));
                    parts.headers.insert("x-amz-content-sha256", hash.parse().unwrap());
                }
                let now_ms = fixture.clock.now_ms();
                sigv4::sign(&mut parts, credentials, "us-east-1", "notes", body, now_ms);
                parts.extensions.insert(fixture.ctx());
                change(&mut parts);
                let answer = answer(&fixture, &api, parts, sent).await;
                told.push((answer.status, answer.body));
            }
            assert_eq!(told[0], told[1], "{what}, hash declared: {declared}");
            assert!(told[0].0.is_client_error());
        }
    }
    let parts = head(&fixture, "Notes_1.PutNote", Some(&token), body);
    let answer = answer(&fixture, &api, parts, body).await;
    assert_eq!(answer.body["__type"], "UnrecognizedClientException", "whatever key it names");
    assert!(api.calls.lock().is_empty());
}

#[tokio::test]
async fn an_answer_with_a_secret_crosses_no_network_in_clear_unless_the_operator_wants_it() {
    let (fixture, api) = (Fixture::new().await, Notes::default());
    let key = signing(&fixture.administrator);
    let ask = async |target: &str| {
        let mut parts = head(&fixture, target, Some(&key), b"{}");
        parts.extensions.insert(RequestContext { confidential: false, ..fixture.ctx() });
        answer(&fixture, &api, parts, b"{}").await
    };
    assert_eq!(ask("Notes_1.PutNote").await.status, 200);
    let refused = ask("Notes_1.Once").await;
    assert_eq!(refused.body["__type"], "AccessDeniedException");
    assert!(refused.body["message"].as_str().unwrap().contains("over TLS or loopback only"));
    assert_eq!(*api.calls.lock(), ["PutNote"]);
    fixture.identity.answer_secrets_in_clear();
    assert_eq!(ask("Notes_1.Once").await.status, 200);
}
