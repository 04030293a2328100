//! The words of which random cases are made.

use policies::{ContextValue, PolicyKind, Principal};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any};
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::reference::{Asked, Document, Keys, Set};

const HOME: &str = "000000000000";
const OTHER: &str = "111111111111";

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) asked: Asked<'static>,
    pub(super) set: Set,
}

impl Case {
    pub(super) fn described(&self) -> String {
        format!("{:#?}\n{:?}", self.asked, self.set)
    }
}

const ACTIONS: &[&str] = &[
    "ecr:PutImage",
    "ecr:BatchGetImage",
    "ecs:RunTask",
    "iam:PassRole",
    "sts:AssumeRole",
    "ECR:putimage",
    "odd",
];

const ACTION_PATTERNS: &[&str] = &[
    "*",
    "*",
    "ecr:*",
    "ECR:PUT*",
    "ecr:PutImage",
    "ecr:BatchGetImage",
    "ecr:?utImage",
    "ecs:*",
    "ecs:RunTask",
    "iam:PassRole",
    "sts:*",
    "ecr:*Image",
    "sts:AssumeRole",
];

const RESOURCES: &[&str] = &[
    "*",
    "arn:aws:ecr:us-east-1:000000000000:repository/app",
    "arn:aws:ecr:us-east-1:000000000000:repository/team/red:1",
    "arn:aws:ecr:us-east-1:000000000000:repository/r*d",
    "arn:aws:iam::000000000000:role/task",
    "arn:aws:ecr:eu-west-1:111111111111:repository/äpp",
];

const RESOURCE_PATTERNS: &[&str] = &[
    "*",
    "*",
    "arn:aws:ecr:*:*:repository/*",
    "arn:aws:ecr:us-east-1:000000000000:repository/app",
    "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/Team}/*",
    "arn:aws:ecr:*:*:repository/*/${aws:PrincipalTag/Team, 'red'}:1",
    "arn:aws:ecr:*:*:repository/${aws:username}",
    "arn:aws:ecr:*:*:repository/r${*}d",
    "arn:aws:ecr:*:*:repository/?pp",
    "arn:aws:*:*:*:*",
    "arn:aws:ecr:us-*:*:repository/*:?",
    "arn:aws:iam::*:role/t?sk",
    "arn:*:ecr:*:000000000000:*p*",
];

/// Only where incomplete ARNs are allowed.
const INCOMPLETE_PATTERNS: &[&str] = &["arn:aws:ecr", "arn:aws:*", "arn:aws:ecr:us-east-1"];

const TEXTS: &[&str] = &["red", "blue", "Red", "r*d", "r", "", "*", "äpp", "true"];
const TEXT_VALUES: &[&str] = &[
    "red",
    "blue",
    "RED",
    "r*",
    "r?d",
    "*",
    "",
    "${aws:PrincipalTag/Team}",
    "${aws:username, 'red'}",
    "${no:key}",
    "r${*}d",
    "?pp",
    "${aws:TagKeys}",
];
const NUMBERS: &[&str] = &["1", "1.0", "2", "-1", "10", "ten"];
const DATES: &[&str] = &[
    "2026-11-01T00:00:00Z",
    "2026-11-01",
    "1793491200",
    "2026-11-01T00:00:01Z",
    "2026-11-01T01:00:00+01:00",
    "0",
];
const ADDRESSES: &[&str] = &["10.0.0.1", "10.1.0.1", "192.168.0.1", "2001:db8::1", "::1", "nowhere"];
const BLOCKS: &[&str] =
    &["10.0.0.0/8", "10.0.0.0/16", "0.0.0.0/0", "192.168.0.1", "2001:db8::/32", "::/0", "::1"];
const ARNS: &[&str] =
    &["arn:aws:iam::000000000000:role/task", "arn:aws:ecs:us-east-1:000000000000:cluster/red", "task"];
const ARN_VALUES: &[&str] = &[
    "*",
    "arn:aws:iam::*:role/*",
    "arn:aws:ecs:*:*:cluster/${aws:PrincipalTag/Team}",
    "arn:aws:*:*:*:*:*",
    "arn:aws:iam::000000000000:role/t?sk",
    "arn:aws:ecs:*:${no:key}:cluster/*",
    "arn:aws:iam:*:role:task:x",
];

/// Base operators, the key they are tried on, values of policies.
const OPERATORS: &[(&str, &[&str], &[&str])] = &[
    ("StringEquals", &["aws:PrincipalTag/Team", "AWS:principaltag/TEAM", "aws:TagKeys"], TEXT_VALUES),
    ("StringNotEquals", &["aws:PrincipalTag/Team", "aws:TagKeys"], TEXT_VALUES),
    ("StringEqualsIgnoreCase", &["aws:PrincipalTag/Team", "aws:TagKeys"], TEXT_VALUES),
    ("StringNotEqualsIgnoreCase", &["aws:PrincipalTag/Team", "aws:TagKeys"], TEXT_VALUES),
    ("StringLike", &["aws:PrincipalTag/Team", "aws:TagKeys", "aws:username"], TEXT_VALUES),
    ("StringNotLike", &["aws:PrincipalTag/Team", "aws:TagKeys", "aws:username"], TEXT_VALUES),
    ("NumericEquals", &["x:Number"], &["1", "2", "-1"]),
    ("NumericNotEquals", &["x:Number"], &["1", "2", "-1"]),
    ("NumericLessThan", &["x:Number"], &["1", "2", "-1"]),
    ("NumericLessThanEquals", &["x:Number"], &["1", "2", "-1"]),
    ("NumericGreaterThan", &["x:Number"], &["1", "2", "-1"]),
    ("NumericGreaterThanEquals", &["x:Number"], &["1", "2", "-1"]),
    ("DateEquals", &["aws:CurrentTime"], DATES),
    ("DateNotEquals", &["aws:CurrentTime"], DATES),
    ("DateLessThan", &["aws:CurrentTime"], DATES),
    ("DateLessThanEquals", &["aws:CurrentTime"], DATES),
    ("DateGreaterThan", &["aws:CurrentTime"], DATES),
    ("DateGreaterThanEquals", &["aws:CurrentTime"], DATES),
    ("Bool", &["aws:SecureTransport"], &["true", "false", "TRUE"]),
    ("BinaryEquals", &["x:Binary"], &["QQ==", "Qg=="]),
    ("IpAddress", &["aws:SourceIp"], BLOCKS),
    ("NotIpAddress", &["aws:SourceIp"], BLOCKS),
    ("ArnEquals", &["aws:SourceArn", "ecs:cluster"], ARN_VALUES),
    ("ArnLike", &["aws:SourceArn", "ecs:cluster"], ARN_VALUES),
    ("ArnNotEquals", &["aws:SourceArn", "ecs:cluster"], ARN_VALUES),
    ("ArnNotLike", &["aws:SourceArn", "ecs:cluster"], ARN_VALUES),
];

/// Keys of requests, with values.
const KEYS: &[(&str, &[&str])] = &[
    ("aws:principaltag/team", TEXTS),
    ("aws:username", TEXTS),
    ("aws:tagkeys", TEXTS),
    ("x:number", NUMBERS),
    ("aws:currenttime", DATES),
    ("aws:securetransport", &["true", "false", "True", "maybe"]),
    ("x:binary", &["QQ==", "qq=="]),
    ("aws:sourceip", ADDRESSES),
    ("aws:sourcearn", ARNS),
    ("ecs:cluster", ARNS),
];

const USER: &str = "arn:aws:iam::000000000000:user/alice";
const ROLE: &str = "arn:aws:iam::000000000000:role/task";
const SESSION: &str = "arn:aws:sts::000000000000:assumed-role/task/one";
const FEDERATED: &str = "arn:aws:sts::000000000000:federated-user/fred";
const PROVIDER: &str = "arn:aws:iam::000000000000:oidc-provider/ci.example.com";

const PRINCIPALS: &[Principal<'static>] = &[
    Principal::User { account: HOME, arn: USER },
    Principal::RoleSession { account: HOME, role_arn: ROLE, session_arn: SESSION, service_linked: false },
    Principal::RoleSession { account: HOME, role_arn: ROLE, session_arn: SESSION, service_linked: true },
    Principal::FederatedUser { account: HOME, user_arn: USER, session_arn: FEDERATED },
    Principal::Root { account: HOME },
    Principal::Anonymous,
    Principal::Service { name: "ecs-tasks.amazonaws.com" },
    Principal::WebIdentity { provider_arn: PROVIDER },
];

const AWS_PRINCIPALS: &[&str] =
    &["*", HOME, OTHER, "arn:aws:iam::000000000000:root", USER, ROLE, SESSION, FEDERATED];

fn words(from: &'static [&'static str], most: usize) -> BoxedStrategy<Value> {
    let single = select(from).prop_map(|word| json!(word));
    let several = vec(select(from), 1..=most).prop_map(|words| json!(words));
    proptest::prop_oneof![single, several].boxed()
}

fn principal_element() -> BoxedStrategy<Value> {
    let aws = words(AWS_PRINCIPALS, 4).prop_map(|names| json!({"AWS": names}));
    let everyone = Just(json!("*"));
    let service = Just(json!({"Service": ["ecs.amazonaws.com", "ecs-tasks.amazonaws.com"]}));
    let mixed = words(AWS_PRINCIPALS, 2)
        .prop_map(|names| json!({"AWS": names, "Service": "ecs-tasks.amazonaws.com", "Federated": PROVIDER}));
    proptest::prop_oneof![4 => aws, 1 => everyone, 1 => service, 2 => mixed].boxed()
}

fn condition() -> BoxedStrategy<(String, String, Value)> {
    let prefix = select(&["", "", "", "ForAllValues:", "ForAnyValue:"][..]);
    let suffix = select(&["", "", "IfExists"][..]);
    let compared =
        (select(OPERATORS), prefix, suffix).prop_flat_map(|((name, keys, values), prefix, suffix)| {
            (Just(format!("{prefix}{name}{suffix}")), select(keys).prop_map(str::to_owned), words(values, 3))
        });
    let null = (select(KEYS), any::<bool>())
        .prop_map(|((key, _), absent)| ("Null".to_owned(), (*key).to_owned(), json!(absent.to_string())));
    proptest::prop_oneof![8 => compared, 1 => null].boxed()
}

fn statement(kind: PolicyKind) -> BoxedStrategy<Value> {
    let trust = kind == PolicyKind::Trust;
    let actions = if trust { words(&["sts:*", "sts:AssumeRole"], 2) } else { words(ACTION_PATTERNS, 3) };
    let pads = matches!(kind, PolicyKind::Identity | PolicyKind::Session | PolicyKind::Boundary);
    let complete = words(RESOURCE_PATTERNS, 3);
    let resources = if pads {
        proptest::prop_oneof![9 => complete, 1 => words(INCOMPLETE_PATTERNS, 1)].boxed()
    } else {
        complete
    };
    let conditions = vec(condition(), 1..=2);
    let shape = (
        proptest::bool::weighted(0.85),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
        any::<u8>(),
    );
    (shape, actions, resources, principal_element(), option::weighted(0.6, conditions))
        .prop_map(
            move |((allow, not_action, not_resource, coin), actions, resources, principal, conditions)| {
                let mut statement = json!({"Effect": if allow { "Allow" } else { "Deny" }});
                statement[if not_action { "NotAction" } else { "Action" }] = actions;
                if !matches!(kind, PolicyKind::RepositoryPolicy | PolicyKind::Trust) {
                    statement[if not_resource { "NotResource" } else { "Resource" }] = resources;
                }
                match kind {
                    PolicyKind::ResourceControl => statement["Principal"] = json!("*"),
                    PolicyKind::RepositoryPolicy | PolicyKind::RegistryPolicy | PolicyKind::Trust => {
                        // Trust in a provider without conditions is refused when it is written.
                        let principal = if trust { without_provider(principal) } else { principal };
                        let not = !allow && coin % 4 == 0;
                        statement[if not { "NotPrincipal" } else { "Principal" }] = principal;
                    }
                    _ => {}
                }
                for (operator, key, values) in conditions.into_iter().flatten() {
                    let folded = key.to_lowercase();
                    let keys = &statement["Condition"][&operator];
                    let taken = keys
                        .as_object()
                        .is_some_and(|keys| keys.keys().any(|known| known.to_lowercase() == folded));
                    if !taken {
                        statement["Condition"][&operator][key] = values;
                    }
                }
                statement
            },
        )
        .boxed()
}

fn without_provider(mut principal: Value) -> Value {
    if let Some(members) = principal.as_object_mut() {
        members.remove("Federated");
    }
    principal
}

fn document(kind: PolicyKind, name: &'static str) -> BoxedStrategy<Document> {
    let version = select(&["2012-10-17", "2012-10-17", "2012-10-17", "2008-10-17", ""][..]);
    (vec(statement(kind), 1..=4), version)
        .prop_map(move |(statements, version)| {
            let mut json = json!({"Statement": statements});
            if !version.is_empty() {
                json["Version"] = json!(version);
            }
            Document { name: name.to_owned(), kind, json }
        })
        .boxed()
}

/// A document that allows what it can, so that others get to decide.
fn generous(kind: PolicyKind, name: &'static str) -> BoxedStrategy<Document> {
    let mut statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    if kind == PolicyKind::ResourceControl {
        statement["Principal"] = json!("*");
    }
    let json = json!({"Version": "2012-10-17", "Statement": statement});
    let all = Document { name: name.to_owned(), kind, json };
    proptest::prop_oneof![1 => Just(all), 1 => document(kind, name)].boxed()
}

fn levels(kind: PolicyKind, name: &'static str) -> BoxedStrategy<Vec<Vec<Document>>> {
    let present = vec(vec(generous(kind, name), 1..=2), 1..=2);
    proptest::prop_oneof![3 => Just(Vec::new()), 1 => present].boxed()
}

fn resource_documents() -> BoxedStrategy<Vec<Document>> {
    proptest::prop_oneof![
        2 => Just(Vec::new()),
        3 => vec(document(PolicyKind::RepositoryPolicy, "repository"), 1..=1),
        1 => vec(document(PolicyKind::RegistryPolicy, "registry"), 1..=2),
        1 => vec(document(PolicyKind::Trust, "trust"), 1..=1),
    ]
    .boxed()
}

fn context() -> BoxedStrategy<Keys> {
    let keys = subsequence(KEYS, 0..=KEYS.len());
    let values = (vec(any::<proptest::sample::Index>(), KEYS.len() * 2), vec(0u8..8, KEYS.len()));
    (keys, values)
        .prop_map(|(keys, (picks, shapes))| {
            let mut context = Keys::new();
            for (number, (key, words)) in keys.into_iter().enumerate() {
                let first = picks[2 * number].get(words).to_owned().to_owned();
                let second = picks[2 * number + 1].get(words).to_owned().to_owned();
                let value = match shapes[number] {
                    0 => ContextValue::Many(vec![first, second]),
                    1 => ContextValue::Many(vec![first]),
                    2 if number % 2 == 0 => ContextValue::Many(Vec::new()),
                    _ => ContextValue::One(first),
                };
                context.insert(key.to_owned(), value);
            }
            context
        })
        .boxed()
}

pub(super) fn case() -> BoxedStrategy<Case> {
    let set = (
        vec(generous(PolicyKind::Identity, "identity"), 0..=3),
        option::weighted(0.25, generous(PolicyKind::Boundary, "boundary")),
        option::weighted(0.25, vec(generous(PolicyKind::Session, "session"), 1..=2)),
        resource_documents(),
        levels(PolicyKind::ServiceControl, "scp"),
        levels(PolicyKind::ResourceControl, "rcp"),
    );
    let set = set.prop_map(|(identity, boundary, session, resource, scps, rcps)| Set {
        identity,
        boundary,
        session,
        resource,
        scps,
        rcps,
    });
    let account = select(&[HOME, HOME, HOME, OTHER][..]);
    (select(ACTIONS), select(RESOURCES), account, select(PRINCIPALS), context(), set)
        .prop_map(|(action, resource, account, principal, context, set)| Case {
            asked: Asked {
                action: action.to_owned(),
                resource: resource.to_owned(),
                resource_account: account.to_owned(),
                principal,
                context,
                has_boundary: set.boundary.is_some(),
            },
            set,
        })
        .boxed()
}
