//! IAM as people use it: `aws iam` and boto3 against the real binary.

mod accounts;
mod boundary;
mod credentials;
mod journey;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use test_support::{Server, aws, run_with_input};

/// A Python script with boto3 in it, as the administrator; what it prints.
fn boto3(server: &Server, script: &str) -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/aws/bin/python3");
    assert!(python.exists(), "boto3 is not there: deploy/test.sh installs what the tests need");
    let mut command = Command::new(python);
    command.arg("-");
    for (name, value) in server.aws_command().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run_with_input(&mut command, script.as_bytes())
}

/// `aws iam ARGS` as the administrator.
fn iam<const N: usize>(server: &Server, args: [&str; N]) -> Value {
    try_iam(server, args).unwrap()
}

fn try_iam<const N: usize>(server: &Server, args: [&str; N]) -> Result<Value, String> {
    aws(server, ["iam"].into_iter().chain(args))
}

/// A policy document with one statement.
fn document(effect: &str, action: &str, resource: &str) -> String {
    let statement = serde_json::json!({"Effect": effect, "Action": action, "Resource": resource});
    serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}
