//! Policy documents: endless, ambiguous, or written to make matching slow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Response, Server};

use crate::signed::{ECR, Signer};

fn set(signer: &Signer, text: &str) -> Response {
    let body = json!({"repositoryName": "app", "policyText": text}).to_string();
    signer.call(&ECR, "SetRepositoryPolicy", &body)
}

fn statement(action: &str) -> Value {
    json!({"Effect": "Allow", "Principal": "*", "Action": action})
}

fn document(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

#[test]
fn documents_that_cannot_be_meant_are_refused_quickly() {
    let server = Server::start();
    server.http().push_blob("app", b"{}");
    let signer = Signer::administrator(&server);
    let many = document(&Value::Array(vec![statement("ecr:BatchGetImage"); 100_000]));
    let nested = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let good = document(&json!([statement("ecr:BatchGetImage")]));
    for (what, text) in [
        ("ten mebibytes", document(&json!([statement(&"a".repeat(10 << 20))]))),
        ("a hundred thousand statements", many),
        ("nested lists", good.replace("\"ecr:BatchGetImage\"", &nested)),
        ("a list in a list", good.replace("\"ecr:BatchGetImage\"", "[[\"ecr:BatchGetImage\"]]")),
        ("duplicate keys", good.replace("\"Effect\":", "\"Effect\":\"Deny\",\"Effect\":")),
        ("letters beyond Latin-1", good.replace("BatchGetImage", "Batch\u{4e2d}")),
        ("an unknown member", good.replace("\"Effect\":", "\"Efect\":1,\"Effect\":")),
        ("no JSON", "{".to_owned()),
    ] {
        let begin = Instant::now();
        let answer = set(&signer, &text);
        assert!([400, 413].contains(&answer.status), "{what}: {}", answer.status);
        assert!(begin.elapsed() < Duration::from_secs(5), "{what} took {:?}", begin.elapsed());
    }
    let none = signer.call(&ECR, "GetRepositoryPolicy", r#"{"repositoryName":"app"}"#);
    assert_eq!(none.json()["__type"], "RepositoryPolicyNotFoundException");
}

#[test]
fn a_pattern_of_stars_costs_no_more_than_its_length() {
    let server = Server::start();
    server.http().push_blob("app", b"{}");
    let signer = Signer::administrator(&server);
    let stars = "*a".repeat(1000);
    let conditions = json!({"StringLike": {"aws:UserAgent": format!("{stars}b")}});
    let mut slow = statement("ecr:BatchGetImage");
    slow["Condition"] = conditions;
    let answer = set(&signer, &document(&json!([slow])));
    assert_eq!(answer.status, 200, "{answer:?}");
    let agent = "a".repeat(8000);
    let begin = Instant::now();
    for _ in 0..20 {
        let answer = server.anonymous().send("GET", "/v2/app/manifests/x", &[("user-agent", &agent)], b"");
        assert_eq!(answer.status, 401);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn members_that_the_model_does_not_have_change_nothing() {
    let server = Server::start();
    let signer = Signer::administrator(&server);
    let body =
        r#"{"repositoryName":"app","isAdmin":true,"repositoryArn":"x","owner":"y","repositoryUri":"z"}"#;
    let answer = signer.call(&ECR, "CreateRepository", body);
    let made = &answer.json()["repository"];
    assert_eq!(made["repositoryArn"], "arn:aws:ecr:us-east-1:000000000000:repository/app", "{made}");
    assert!(made.get("isAdmin").is_none() && made["repositoryUri"] != "z", "{made}");
}
