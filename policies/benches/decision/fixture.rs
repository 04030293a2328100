//! Twenty policies with two hundred statements, such as a user of a large team carries.

use policies::{Context, ContextValue, Named, Policy, PolicyKind};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "000000000000";
pub(crate) const USER: &str = "arn:aws:iam::000000000000:user/alice";
/// Allowed by the last policy alone.
pub(crate) const REPOSITORY: &str = "arn:aws:ecr:us-east-1:000000000000:repository/team-19/red/app";

const ACTIONS: [&[&str]; 10] = [
    &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
    &["ecr:PutImage", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"],
    &["ecr:Describe*", "ecr:List*"],
    &["ecs:RunTask", "ecs:StopTask"],
    &["ecs:Describe*"],
    &["ecr:DeleteRepository", "ecr:BatchDeleteImage"],
    &["iam:PassRole"],
    &["logs:*"],
    &["ecr:*"],
    &["sts:AssumeRole"],
];

fn statement(policy: usize, number: usize) -> Value {
    let resource = match number {
        3 | 4 => format!("arn:aws:ecs:*:*:cluster/team-{policy}"),
        6 | 9 => format!("arn:aws:iam::*:role/team-{policy}/*"),
        1 => format!("arn:aws:ecr:*:*:repository/team-{policy}/${{aws:PrincipalTag/Team}}/*"),
        7 => "*".to_owned(),
        _ => format!("arn:aws:ecr:us-east-1:*:repository/team-{policy}/*"),
    };
    let mut statement = json!({
        "Sid": format!("S{number}"),
        "Effect": if number == 8 { "Deny" } else { "Allow" },
        "Action": ACTIONS[number],
        "Resource": resource,
    });
    match number {
        8 => {
            statement["Resource"] = json!("*");
            statement["Condition"] = json!({"Bool": {"aws:SecureTransport": "false"}});
        }
        1 => {
            statement["Condition"] = json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.168.0.0/16"]}})
        }
        5 => statement["Condition"] = json!({"StringLike": {"aws:PrincipalTag/Role": ["admin*", "lead"]}}),
        _ => {}
    }
    statement
}

pub(crate) fn policies() -> Vec<Named> {
    let policy = |policy: usize| {
        let statements: Vec<Value> = (0..ACTIONS.len()).map(|number| statement(policy, number)).collect();
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let parsed = Policy::parse(&text, PolicyKind::Identity).expect("well formed");
        Named::new(format!("arn:aws:iam::{ACCOUNT}:policy/team-{policy}"), parsed)
    };
    (0..20).map(policy).collect()
}

/// What the gate knows about every request.
pub(crate) fn context() -> Context {
    let keys = [
        ("aws:CurrentTime", "2026-11-01T00:00:00Z"),
        ("aws:EpochTime", "1793491200"),
        ("aws:PrincipalAccount", ACCOUNT),
        ("aws:PrincipalArn", USER),
        ("aws:PrincipalTag/Role", "engineer"),
        ("aws:PrincipalTag/Team", "red"),
        ("aws:PrincipalType", "User"),
        ("aws:ResourceAccount", ACCOUNT),
        ("aws:SecureTransport", "true"),
        ("aws:SourceIp", "192.168.7.9"),
        ("aws:UserAgent", "docker/27.3.1 go/go1.22.7 os/linux arch/amd64"),
        ("aws:userid", "AIDAEXAMPLE"),
        ("aws:username", "alice"),
    ];
    let mut context: Context = keys.into_iter().collect();
    context.set("aws:TagKeys", ContextValue::Many(vec!["team".to_owned()]));
    context
}
