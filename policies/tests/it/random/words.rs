//! The words of which random cases are made: few, so that they meet.

use policies::Principal;

pub(super) const HOME: &str = "000000000000";
pub(super) const OTHER: &str = "111111111111";

const USER: &str = "arn:aws:iam::000000000000:user/alice";
const ROLE: &str = "arn:aws:iam::000000000000:role/task";
const SESSION: &str = "arn:aws:sts::000000000000:assumed-role/task/one";
const FEDERATED: &str = "arn:aws:sts::000000000000:federated-user/fred";
const FOREIGN_USER: &str = "arn:aws:iam::111111111111:user/alice";
const FOREIGN_ROLE: &str = "arn:aws:iam::111111111111:role/team/task";
const FOREIGN_SESSION: &str = "arn:aws:sts::111111111111:assumed-role/task/one";
const LINKED: &str = "arn:aws:iam::000000000000:role/aws-service-role/AWSServiceRoleForECS";
const LINKED_SESSION: &str = "arn:aws:sts::000000000000:assumed-role/AWSServiceRoleForECS/x";
pub(super) const PROVIDER: &str = "arn:aws:iam::000000000000:oidc-provider/ci.example.com";
const TASKS: &str = "ecs-tasks.amazonaws.com";

const fn role(
    account: &'static str,
    role_arn: &'static str,
    session_arn: &'static str,
) -> Principal<'static> {
    Principal::RoleSession { account, role_arn, session_arn, service_linked: false }
}

pub(super) const PRINCIPALS: &[Principal<'static>] = &[
    Principal::User { account: HOME, arn: USER },
    Principal::User { account: HOME, arn: USER },
    role(HOME, ROLE, SESSION),
    role(HOME, ROLE, SESSION),
    role(HOME, ROLE, ""),
    Principal::User { account: OTHER, arn: FOREIGN_USER },
    role(OTHER, FOREIGN_ROLE, FOREIGN_SESSION),
    Principal::FederatedUser { account: HOME, user_arn: USER, session_arn: FEDERATED },
    Principal::Root { account: HOME },
    Principal::Root { account: OTHER },
    Principal::RoleSession {
        account: HOME,
        role_arn: LINKED,
        session_arn: LINKED_SESSION,
        service_linked: true,
    },
    Principal::Anonymous,
    Principal::Service { name: TASKS },
    Principal::WebIdentity { provider_arn: PROVIDER },
];

/// What stands under `AWS` in a Principal element.
pub(super) const AWS_PRINCIPALS: &[&str] = &[
    "*",
    HOME,
    OTHER,
    "arn:aws:iam::000000000000:root",
    "arn:aws:iam::111111111111:root",
    USER,
    ROLE,
    SESSION,
    FEDERATED,
    FOREIGN_USER,
    FOREIGN_ROLE,
    FOREIGN_SESSION,
    "arn:aws:iam::000000000000:user/Alice",
    "arn:aws:sts::000000000000:assumed-role/task/two",
];
pub(super) const SERVICES: &[&str] = &[TASKS, "ecs.amazonaws.com"];

/// Actions with resources of their service.
pub(super) const ACTIONS: &[(&str, &[&str])] = &[
    ("ecr:PutImage", REPOSITORIES),
    ("ecr:BatchGetImage", REPOSITORIES),
    ("ECR:putimage", REPOSITORIES),
    ("ecr:GetAuthorizationToken", &["*"]),
    ("ecs:RunTask", &["arn:aws:ecs:us-east-1:000000000000:task-definition/web:3", "*"]),
    ("iam:PassRole", &[ROLE]),
    ("sts:AssumeRole", &[ROLE, FOREIGN_ROLE]),
    ("sts:TagSession", &[ROLE]),
    ("sts:GetCallerIdentity", &["*"]),
    ("s3:GetObject", &["arn:aws:s3:::bucket/home/red/a:b", "arn:aws:s3:::bucket/*"]),
    (
        "kms:Decrypt",
        &["arn:aws:kms:us-east-1:000000000000:key/k", "arn:aws:kms:us-east-1:000000000000:alias/a"],
    ),
    ("odd", &["*"]),
];

const REPOSITORIES: &[&str] = &[
    "arn:aws:ecr:us-east-1:000000000000:repository/app",
    "arn:aws:ecr:us-east-1:000000000000:repository/team/red:1",
    "arn:aws:ecr:us-east-1:000000000000:repository/r*d",
    "arn:aws:ecr:eu-west-1:111111111111:repository/äpp",
];

pub(super) const TEXTS: &[&str] = &["red", "blue", "Red", "r*d", "r", "", "*", "äpp", "true", "alice", "?"];
pub(super) const NUMBERS: &[&str] = &["1", "1.0", "2", "-1", "10", "+2", "0.5", "ten"];
pub(super) const DATES: &[&str] = &[
    "2026-11-01T00:00:00Z",
    "2026-11-01",
    "1793491200",
    "2026-11-01T00:00:01Z",
    "2026-11-01T01:00:00+01:00",
    "0",
];
pub(super) const BOOLS: &[&str] = &["true", "false", "TRUE", "maybe"];
pub(super) const BINARIES: &[&str] = &["QQ==", "Qg==", "qQ=="];
pub(super) const ADDRESSES: &[&str] =
    &["10.0.0.1", "10.1.0.1", "192.168.0.1", "2001:db8::1", "::1", "nowhere"];
pub(super) const BLOCKS: &[&str] =
    &["10.0.0.0/8", "10.0.0.0/16", "0.0.0.0/0", "192.168.0.1", "2001:db8::/32", "::/0", "::1", "10.0.0.1"];
pub(super) const ARNS: &[&str] =
    &[ROLE, "arn:aws:ecs:us-east-1:000000000000:cluster/red", "arn:aws:s3:::bucket", "task"];

/// What a key holds, and how it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Number,
    Date,
    Bool,
    Binary,
    Address,
    Arn,
}

impl Type {
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Type::Text => TEXTS,
            Type::Number => NUMBERS,
            Type::Date => DATES,
            Type::Bool => BOOLS,
            Type::Binary => BINARIES,
            Type::Address => ADDRESSES,
            Type::Arn => ARNS,
        }
    }

    pub(super) fn operators(self) -> &'static [&'static str] {
        match self {
            Type::Text => &[
                "StringEquals",
                "StringNotEquals",
                "StringEqualsIgnoreCase",
                "StringNotEqualsIgnoreCase",
                "StringLike",
                "StringNotLike",
            ],
            Type::Number => &[
                "NumericEquals",
                "NumericNotEquals",
                "NumericLessThan",
                "NumericLessThanEquals",
                "NumericGreaterThan",
                "NumericGreaterThanEquals",
            ],
            Type::Date => &[
                "DateEquals",
                "DateNotEquals",
                "DateLessThan",
                "DateLessThanEquals",
                "DateGreaterThan",
                "DateGreaterThanEquals",
            ],
            Type::Bool => &["Bool"],
            Type::Binary => &["BinaryEquals"],
            Type::Address => &["IpAddress", "NotIpAddress"],
            Type::Arn => &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
        }
    }
}

pub(super) const TYPES: [Type; 7] =
    [Type::Text, Type::Number, Type::Date, Type::Bool, Type::Binary, Type::Address, Type::Arn];

/// Condition keys, some of them as a policy would write them.
pub(super) const KEYS: &[(&str, Type)] = &[
    ("aws:PrincipalTag/Team", Type::Text),
    ("aws:ResourceTag/Team", Type::Text),
    ("aws:username", Type::Text),
    ("aws:TagKeys", Type::Text),
    ("x:Number", Type::Number),
    ("aws:CurrentTime", Type::Date),
    ("aws:SecureTransport", Type::Bool),
    ("x:Binary", Type::Binary),
    ("aws:SourceIp", Type::Address),
    ("aws:SourceArn", Type::Arn),
    ("ecs:cluster", Type::Arn),
];
