//! Publishing over the API: the same check as on the disk, one generation, and only for those who may.

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use registry_aws::{Credentials, sigv4};
use serde_json::{Value, json};

use super::BerthIdentity;
use crate::serve_aws;
use crate::testing::{Fixture, policy, repository, signing};

async fn call(
    fixture: &Fixture,
    credentials: &Credentials,
    operation: &str,
    input: &Value,
) -> (StatusCode, Value) {
    let body = input.to_string();
    let mut parts = crate::testing::unsigned(&[("content-type", "application/x-amz-json-1.1")]);
    parts.headers.insert("x-amz-target", format!("Berth_20261101.{operation}").parse().unwrap());
    sigv4::sign(&mut parts, credentials, "us-east-1", "berth", body.as_bytes(), fixture.clock.now_ms());
    parts.extensions.insert(fixture.ctx());
    let api = BerthIdentity::new(fixture.identity.clone());
    let response = serve_aws(&fixture.identity, &api, Request::from_parts(parts, Body::from(body))).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn file(path: &str, content: &Value) -> Value {
    json!({ "path": path, "content": content.to_string() })
}

fn set(effect: &str) -> Value {
    let statement = json!({ "Effect": effect, "Principal": "*", "Action": "ecr:BatchGetImage" });
    json!({ "files": [
        file("berth-policies.json", &json!({ "format": 1, "account": "000000000000" })),
        file("repositories/public.json", &json!({ "Version": "2012-10-17", "Statement": [statement] })),
        { "path": "README.md", "content": "# Our policies" },
    ] })
}

#[tokio::test]
async fn a_published_set_is_live_and_described() {
    let fixture = Fixture::new().await;
    let admin = signing(&fixture.administrator);
    let (status, none) = call(&fixture, &admin, "DescribePolicyGeneration", &json!({})).await;
    assert_eq!((status, &none["generation"]), (StatusCode::OK, &json!(0)), "{none}");

    let (status, published) = call(&fixture, &admin, "PublishPolicies", &set("Allow")).await;
    assert_eq!((status, &published["generation"]), (StatusCode::OK, &json!(1)), "{published}");
    let anonymous = fixture.identity.anonymous();
    assert!(fixture.allowed(&anonymous, "ecr:BatchGetImage", &repository("public")));
    assert_eq!(fixture.audit_lines().await.pop().unwrap()["policyGeneration"], 1);

    let (_, again) = call(&fixture, &admin, "PublishPolicies", &set("Allow")).await;
    assert_eq!((&again["generation"], &again["changed"]), (&json!(1), &json!(false)));
    let (_, described) = call(&fixture, &admin, "DescribePolicyGeneration", &json!({})).await;
    assert_eq!(described["generation"], 1);
    assert_eq!(described["publishedBy"], "arn:aws:iam::000000000000:user/administrator");
}

#[tokio::test]
async fn a_set_with_an_error_changes_nothing_and_every_finding_is_told() {
    let fixture = Fixture::new().await;
    let admin = signing(&fixture.administrator);
    call(&fixture, &admin, "PublishPolicies", &set("Allow")).await;
    let (status, refused) = call(&fixture, &admin, "PublishPolicies", &set("Perhaps")).await;
    assert_eq!((status.as_u16(), &refused["__type"]), (400, &json!("InvalidPolicyFilesException")));
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("repositories/public.json:1:"), "{message}");
    let anonymous = fixture.identity.anonymous();
    assert!(fixture.allowed(&anonymous, "ecr:BatchGetImage", &repository("public")));
    for malformed in [json!({}), json!({ "files": [{}] }), json!({ "files": [] })] {
        let (status, _) = call(&fixture, &admin, "PublishPolicies", &malformed).await;
        assert_eq!(status.as_u16(), 400, "{malformed}");
    }
}

#[tokio::test]
async fn only_those_who_may_publish_do() {
    let fixture = Fixture::new().await;
    let alice = signing(&fixture.user("alice", &policy("Allow", "berth:Describe*", "*")).await);
    let (status, _) = call(&fixture, &alice, "DescribePolicyGeneration", &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (_, refused) = call(&fixture, &alice, "PublishPolicies", &set("Allow")).await;
    assert_eq!(refused["__type"], "AccessDeniedException");
    let (_, unknown) = call(&fixture, &alice, "DestroyEverything", &json!({})).await;
    assert_eq!(unknown["__type"], "UnknownOperationException");
}

#[tokio::test]
async fn the_files_in_effect_can_be_read_and_asked() {
    let fixture = Fixture::new().await;
    let admin = signing(&fixture.administrator);
    let question = json!({ "action": "ecr:BatchGetImage", "resource": "repository/public" });
    let named = |answer: &Value| -> Vec<String> {
        let principals = answer["principals"].as_array().unwrap().iter();
        principals.map(|who| who["principal"].as_str().unwrap().to_owned()).collect()
    };
    let administrator = "arn:aws:iam::000000000000:user/administrator".to_owned();
    let (_, before) = call(&fixture, &admin, "WhoCan", &question).await;
    assert!(named(&before).contains(&administrator), "users of the API are asked about: {before}");
    assert!(!named(&before).contains(&"anonymous".to_owned()));
    call(&fixture, &admin, "PublishPolicies", &set("Allow")).await;
    let (_, files) = call(&fixture, &admin, "GetPolicyFiles", &json!({})).await;
    assert_eq!(files["files"][1]["path"], "repositories/public.json");
    assert!(files.get("existing").is_none());
    let (_, files) = call(&fixture, &admin, "GetPolicyFiles", &json!({ "includeExisting": true })).await;
    let mut existing = files["existing"].as_array().unwrap().iter();
    assert!(existing.any(|file| file["path"] == "users/administrator.json"), "{files}");
    let (_, everyone) = call(&fixture, &admin, "WhoCan", &question).await;
    assert!(named(&everyone).contains(&"anonymous".to_owned()) && named(&everyone).contains(&administrator));
    for malformed in [json!({}), json!({ "action": "ecr:PutImage", "resource": "nonsense" })] {
        let (status, _) = call(&fixture, &admin, "WhoCan", &malformed).await;
        assert_eq!(status.as_u16(), 400, "{malformed}");
    }
}

#[tokio::test]
async fn sessions_of_a_principal_end_and_its_keys_stay() {
    let fixture = Fixture::new().await;
    let admin = signing(&fixture.administrator);
    let key = fixture.user("alice", &policy("Allow", "ecr:*", "*")).await;
    let caller = fixture.caller(&key).await;
    let made = fixture.identity.session_of_user(&caller, None).unwrap();
    let session = fixture.session(&made).await;
    assert!(fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    let by_name = json!({ "principal": "user/Alice" });
    let alice = signing(&key);
    let (status, refused) = call(&fixture, &alice, "RevokeSessions", &by_name).await;
    assert_eq!((status.as_u16(), &refused["__type"]), (400, &json!("AccessDeniedException")), "{refused}");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.contains("on resource: user/Alice because"), "no path is told: {message}");
    let (status, answer) = call(&fixture, &admin, "RevokeSessions", &by_name).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["principalArn"], "arn:aws:iam::000000000000:user/alice");
    assert!(!fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    let again = fixture.caller(&key).await;
    assert!(fixture.allowed(&again, "ecr:PutImage", &repository("app")));
    let one = fixture.session(&fixture.identity.session_of_user(&again, None).unwrap()).await;
    let other = fixture.session(&fixture.identity.session_of_user(&again, None).unwrap()).await;
    let named = json!({ "accessKeyId": one.access_key_id() });
    assert_eq!(call(&fixture, &alice, "RevokeSessions", &named).await.1["__type"], "AccessDeniedException");
    let (status, answer) = call(&fixture, &admin, "RevokeSessions", &named).await;
    assert_eq!((status, &answer), (StatusCode::OK, &named));
    assert!(!fixture.allowed(&one, "ecr:PutImage", &repository("app")));
    assert!(fixture.allowed(&other, "ecr:PutImage", &repository("app")), "the others go on");
    let long_lived = json!({ "accessKeyId": again.access_key_id() });
    let (_, refused) = call(&fixture, &admin, "RevokeSessions", &long_lived).await;
    assert_eq!(refused["__type"], "InvalidParameterException");
    for (principal, exception) in [
        ("user/nobody", "PrincipalNotFoundException"),
        ("arn:aws:sts::000000000000:assumed-role/web/ci", "InvalidParameterException"),
        ("group/team", "InvalidParameterException"),
    ] {
        let (_, refused) = call(&fixture, &admin, "RevokeSessions", &json!({ "principal": principal })).await;
        assert_eq!(refused["__type"], exception, "{principal}");
    }
}
