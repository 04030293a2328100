//! Lifecycle policies through the AWS CLI: previewed, applied, recorded; what a service runs stays.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Http, Server, aws, eventually_within};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SOON: Duration = Duration::from_secs(60);

/// Pushes an image of one layer; gives its digest.
pub(crate) fn push(http: &Http, repository: &str, tag: &str) -> String {
    let config = http.push_blob(repository, b"{}");
    let layer = format!("the layer of {tag}");
    let content = http.push_blob(repository, layer.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": content, "size": layer.len() }],
    });
    let path = format!("/v2/{repository}/manifests/{tag}");
    let put = http.put(&path, &[("content-type", MANIFEST)], manifest.to_string().as_bytes());
    assert_eq!(put.status, 201, "{put:?}");
    put.header("docker-content-digest").unwrap().to_owned()
}

/// A policy with one rule for all images, of the length that the AWS CLI wants.
pub(crate) fn keep(count: u32) -> String {
    json!({ "rules": [{
        "rulePriority": 1,
        "description": "Keep only the youngest images of this repository",
        "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": count },
        "action": { "type": "expire" },
    }] })
    .to_string()
}

/// The definition of tasks that run an image, and the service of it.
pub(crate) fn definition(family: &str, image: &str) -> String {
    json!({
        "family": family,
        "containerDefinitions": [{ "name": "one", "image": image, "memory": 16 }],
    })
    .to_string()
}

fn tags(server: &Server, repository: &str) -> Vec<String> {
    let list = server.http().get(&format!("/v2/{repository}/tags/list")).json();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

#[test]
fn a_policy_is_previewed_and_takes_all_but_the_youngest_and_what_runs() {
    let server = Server::builder().config("lifecycle_interval = 1").start();
    let http = server.http();
    for tag in ["v1", "v2", "v3", "v4"] {
        push(&http, "app", tag);
    }
    // A service runs the oldest one; there is no host, but it may come.
    aws(
        &server,
        ["ecs", "register-task-definition", "--cli-input-json", &definition("app", &server.image("app:v1"))],
    )
    .unwrap();
    aws(
        &server,
        [
            "ecs",
            "create-service",
            "--service-name",
            "app",
            "--task-definition",
            "app",
            "--desired-count",
            "1",
        ],
    )
    .unwrap();

    let (of_app, text) = (["--repository-name", "app"], keep(1));
    let lifecycle = |operation: &str, arguments: &[&str]| {
        aws(&server, [&["ecr", operation][..], &of_app, arguments].concat())
    };
    let missing = lifecycle("get-lifecycle-policy", &[]).unwrap_err();
    assert!(missing.contains("LifecyclePolicyNotFoundException"), "{missing}");
    lifecycle("start-lifecycle-policy-preview", &["--lifecycle-policy-text", &text]).unwrap();
    let preview: Value = eventually_within(SOON, "the preview is complete", || {
        let preview = lifecycle("get-lifecycle-policy-preview", &[]).unwrap();
        (preview["status"] == "COMPLETE").then_some(preview)
    });
    let shown = preview["previewResults"].as_array().unwrap();
    assert_eq!((shown.len(), &preview["summary"]["expiringImageTotalCount"]), (2, &json!(2)), "{preview}");
    assert_eq!(tags(&server, "app"), ["v1", "v2", "v3", "v4"]);

    let unit = text.replace("\"countNumber\"", "\"countUnit\":\"days\",\"countNumber\"");
    let refused = lifecycle("put-lifecycle-policy", &["--lifecycle-policy-text", &unit]).unwrap_err();
    assert!(refused.contains("InvalidParameterException"), "{refused}");
    assert!(refused.contains("Lifecycle policy validation failure"), "{refused}");
    let put = lifecycle("put-lifecycle-policy", &["--lifecycle-policy-text", &text]).unwrap();
    assert_eq!(put["lifecyclePolicyText"], json!(text));
    eventually_within(SOON, "the policy was applied", || {
        (tags(&server, "app") == ["v1", "v4"]).then_some(())
    });
    let got = lifecycle("get-lifecycle-policy", &[]).unwrap();
    assert_eq!(got["lifecyclePolicyText"], json!(text));
    let log = eventually_within(SOON, "what went is in the audit log", || {
        let log = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
        (log.matches("\"operation\":\"PolicyExecutionEvent\"").count() >= 2).then_some(log)
    });
    let line = log.lines().find(|line| line.contains("PolicyExecutionEvent")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["action"], "ecr:BatchDeleteImage");
    assert_eq!(line["resource"], "arn:aws:ecr:us-east-1:000000000000:repository/app");
    assert!(line["reason"].as_str().unwrap().starts_with("rule 1 expires sha256:"), "{line}");

    lifecycle("delete-lifecycle-policy", &[]).unwrap();
    push(&http, "app", "v5");
    let again = lifecycle("delete-lifecycle-policy", &[]).unwrap_err();
    assert!(again.contains("LifecyclePolicyNotFoundException"), "{again}");
    assert_eq!(tags(&server, "app"), ["v1", "v4", "v5"]);
}
