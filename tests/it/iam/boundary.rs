//! An administrator who is bounded: whatever its policies allow, its boundary caps it, and it cannot shake it off.

use std::process::Command;

use test_support::{Engine, Server, run, try_run};

use super::iam;

const ARN: &str = "arn:aws:iam::000000000000:policy";

/// Everything of the registry but pushes, and of IAM only what gives users the same boundary.
fn boundary() -> String {
    serde_json::json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["ecr:*", "iam:Get*", "iam:List*"], "Resource": "*"},
        {"Effect": "Deny", "Action": ["ecr:PutImage", "ecr:InitiateLayerUpload"], "Resource": "*"},
        {"Effect": "Allow", "Action": ["iam:CreateUser", "iam:AttachUserPolicy"], "Resource": "*",
         "Condition": {"StringEquals": {"iam:PermissionsBoundary": format!("{ARN}/cap")}}},
    ]})
    .to_string()
}

#[test]
fn a_boundary_caps_an_administrator() {
    let (server, engine) = (Server::start(), Engine::shared());
    let image = server.image("team/app:1");
    engine.build_busybox(&image, &[("/boundary", b"x")]);
    run(server.docker(engine).args(["push", &image]));

    let admin_policy = "arn:aws:iam::aws:policy/AdministratorAccess";
    let cap = format!("{ARN}/cap");
    iam(&server, ["create-policy", "--policy-name", "cap", "--policy-document", &boundary()]);
    iam(&server, ["create-user", "--user-name", "deputy", "--permissions-boundary", &cap]);
    iam(&server, ["attach-user-policy", "--user-name", "deputy", "--policy-arn", admin_policy]);
    let key = iam(&server, ["create-access-key", "--user-name", "deputy"])["AccessKey"].take();
    let (id, secret) = (key["AccessKeyId"].as_str().unwrap(), key["SecretAccessKey"].as_str().unwrap());
    let docker = || -> Command { server.docker_as(engine, id, secret) };
    run(docker().args(["pull", &image]));
    let other = server.image("team/other:1");
    run(engine.docker().args(["tag", &image, &other]));
    let refused = try_run(docker().args(["push", &other])).unwrap_err();
    assert!(refused.contains("denied") || refused.contains("not authorized"), "{refused}");
    run(engine.docker().args(["rmi", &image, &other]));

    let deputy = |args: &[&str]| try_run(server.aws_command_as(id, secret).arg("iam").args(args));
    deputy(&["list-users"]).unwrap();
    for attempt in [
        &["delete-user-permissions-boundary", "--user-name", "deputy"][..],
        &["put-user-permissions-boundary", "--user-name", "deputy", "--permissions-boundary", admin_policy],
        &["create-user", "--user-name", "free"],
        &["create-user", "--user-name", "free", "--permissions-boundary", admin_policy],
        &["create-policy-version", "--policy-arn", &cap, "--policy-document", "{}", "--set-as-default"],
        &["attach-user-policy", "--user-name", "administrator", "--policy-arn", admin_policy],
    ] {
        let refused = deputy(attempt).unwrap_err();
        assert!(refused.contains("(AccessDenied)"), "{attempt:?}: {refused}");
    }
    deputy(&["create-user", "--user-name", "bound", "--permissions-boundary", &cap]).unwrap();
    deputy(&["attach-user-policy", "--user-name", "bound", "--policy-arn", admin_policy]).unwrap();
}
