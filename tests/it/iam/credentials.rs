//! Taking back what was given: a role's older sessions, and all sessions at once.

use serde_json::{Value, json};
use test_support::{Server, aws, run, try_run};

use super::{document, iam};

const ROLE: &str = "arn:aws:iam::000000000000:role/deployer";

/// A role that the administrator may assume, and that may see repositories.
fn role(server: &Server) {
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::000000000000:user/administrator"},
    }]})
    .to_string();
    iam(server, ["create-role", "--role-name", "deployer", "--assume-role-policy-document", &trust]);
    let may = document("Allow", "ecr:DescribeRepositories", "*");
    iam(
        server,
        ["put-role-policy", "--role-name", "deployer", "--policy-name", "see", "--policy-document", &may],
    );
}

fn assume(server: &Server) -> Value {
    let made = aws(server, ["sts", "assume-role", "--role-arn", ROLE, "--role-session-name", "ci"]);
    made.unwrap()["Credentials"].clone()
}

fn see(server: &Server, session: &Value) -> Result<String, String> {
    let text = |member: &str| session[member].as_str().unwrap();
    let mut command = server.aws_command_as(text("AccessKeyId"), text("SecretAccessKey"));
    try_run(command.env("AWS_SESSION_TOKEN", text("SessionToken")).args(["ecr", "describe-repositories"]))
}

#[test]
fn older_sessions_of_a_role_are_revoked_as_the_console_of_aws_does_it() {
    let server = Server::start();
    role(&server);
    let older = assume(&server);
    see(&server, &older).unwrap();
    // A minute ahead: nothing has to wait for the clock, and what counts is the time of issue.
    let soon = time::OffsetDateTime::now_utc() + time::Duration::minutes(1);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let revoke = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Action": ["*"], "Resource": ["*"],
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": soon}},
    }]})
    .to_string();
    let name = "AWSRevokeOlderSessions";
    iam(
        &server,
        ["put-role-policy", "--role-name", "deployer", "--policy-name", name, "--policy-document", &revoke],
    );
    let refused = see(&server, &older).unwrap_err();
    assert!(refused.contains("explicit deny"), "{refused}");
    iam(&server, ["delete-role-policy", "--role-name", "deployer", "--policy-name", name]);
    see(&server, &older).unwrap();
}

#[test]
fn all_sessions_of_a_role_end_with_one_command() {
    let server = Server::start();
    role(&server);
    let session = assume(&server);
    see(&server, &session).unwrap();
    let printed = run(&mut server.berth(["session", "revoke", "role/deployer"]));
    assert_eq!(printed, format!("the sessions and tokens of {ROLE} are void"));
    let refused = see(&server, &session).unwrap_err();
    assert!(refused.contains("UnrecognizedClientException"), "{refused}");
    see(&server, &assume(&server)).unwrap();
    let printed = try_run(&mut server.berth(["session", "revoke", "role/nobody"])).unwrap_err();
    assert!(printed.contains("There is no arn:aws:iam::000000000000:role/nobody"), "{printed}");
}
