//! Rule 4: what an Allow of a resource policy stands in for, by how it names the caller.

use policies::{Context, Named, Policy, PolicyKind, PolicySet, Principal, Reason, Request, evaluate};

const HOME: &str = "000000000000";
const USER: &str = "arn:aws:iam::000000000000:user/alice";
const ROLE: &str = "arn:aws:iam::000000000000:role/deploy";
const SESSION: &str = "arn:aws:sts::000000000000:assumed-role/deploy/one";
const FEDERATED: &str = "arn:aws:sts::000000000000:federated-user/fred";

const ALICE: Principal<'static> = Principal::User { account: HOME, arn: USER };
const DEPLOY: Principal<'static> =
    Principal::RoleSession { account: HOME, role_arn: ROLE, session_arn: SESSION, service_linked: false };
const FRED: Principal<'static> =
    Principal::FederatedUser { account: HOME, user_arn: USER, session_arn: FEDERATED };

/// A policy of a kind that allows everything, or something else.
fn policy(kind: PolicyKind, allows: bool) -> Named {
    let action = if allows { "*" } else { "s3:GetObject" };
    let text = format!(r#"{{"Statement": {{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}}}"#);
    Named::new("attached", Policy::parse(&text, kind).expect("well formed"))
}

fn resource(kind: PolicyKind, principal: &str, action: &str) -> Named {
    let text =
        format!(r#"{{"Statement": {{"Effect": "Allow", "Action": "{action}", "Principal": {principal}}}}}"#);
    Named::new("resource", Policy::parse(&text, kind).expect("well formed"))
}

struct Asked<'a> {
    principal: &'a Principal<'a>,
    action: &'a str,
    owner: &'a str,
    resource: &'a [Named],
    identity: bool,
    boundary: Option<bool>,
    session: Option<bool>,
}

fn decide(asked: &Asked<'_>) -> Reason {
    let identity = [policy(PolicyKind::Identity, asked.identity)];
    let boundary = asked.boundary.map(|allows| policy(PolicyKind::Boundary, allows));
    let session = asked.session.map(|allows| [policy(PolicyKind::Session, allows)]);
    let set = PolicySet {
        identity: &identity,
        boundary: boundary.as_slice(),
        session: session.as_ref().map(|policies| &policies[..]),
        resource: asked.resource,
        ..PolicySet::default()
    };
    let request = Request {
        action: asked.action,
        resource: "arn:aws:ecr:us-east-1:000000000000:repository/app",
        resource_account: asked.owner,
        principal: asked.principal,
        context: &Context::new(),
    };
    evaluate(&request, &set).reason
}

/// The table, row by row: needs an identity Allow, limited by a boundary, limited by a session policy.
const ROWS: &[(Principal<'static>, &str, [bool; 3])] = &[
    (ALICE, r#"{"AWS": "arn:aws:iam::000000000000:user/alice"}"#, [false, false, false]),
    (DEPLOY, r#"{"AWS": "arn:aws:sts::000000000000:assumed-role/deploy/one"}"#, [false, false, false]),
    (DEPLOY, r#"{"AWS": "arn:aws:iam::000000000000:role/deploy"}"#, [false, true, true]),
    (FRED, r#"{"AWS": "arn:aws:sts::000000000000:federated-user/fred"}"#, [false, false, false]),
    (FRED, r#"{"AWS": "arn:aws:iam::000000000000:user/alice"}"#, [false, true, true]),
    (ALICE, r#""*""#, [false, true, true]),
    (DEPLOY, r#"{"AWS": "*"}"#, [false, true, true]),
    (ALICE, r#"{"AWS": "000000000000"}"#, [true, true, true]),
    (DEPLOY, r#"{"AWS": "arn:aws:iam::000000000000:root"}"#, [true, true, true]),
    (FRED, r#"{"AWS": ["000000000000", "111111111111"]}"#, [true, true, true]),
    // Nobody of these is the caller: as if the resource had no policy.
    (ALICE, r#"{"AWS": "arn:aws:iam::000000000000:user/bob"}"#, [true, true, true]),
    (ALICE, r#"{"AWS": "arn:aws:iam::111111111111:user/alice"}"#, [true, true, true]),
    (DEPLOY, r#"{"AWS": "arn:aws:sts::000000000000:assumed-role/deploy/two"}"#, [true, true, true]),
];

#[test]
fn inside_one_account_naming_decides_what_else_must_allow() {
    for (principal, named, [needs_identity, by_boundary, by_session]) in ROWS {
        let resource = [resource(PolicyKind::RepositoryPolicy, named, "ecr:*")];
        for identity in [true, false] {
            for boundary in [None, Some(true), Some(false)] {
                for session in [None, Some(true), Some(false)] {
                    let asked = Asked {
                        principal,
                        action: "ecr:PutImage",
                        owner: HOME,
                        resource: &resource,
                        identity,
                        boundary,
                        session,
                    };
                    let expected = if *needs_identity && !identity {
                        Reason::ImplicitDeny(PolicyKind::Identity)
                    } else if *by_boundary && boundary == Some(false) {
                        Reason::ImplicitDeny(PolicyKind::Boundary)
                    } else if *by_session && session == Some(false) {
                        Reason::ImplicitDeny(PolicyKind::Session)
                    } else {
                        Reason::Allowed
                    };
                    let got = decide(&asked);
                    assert_eq!(got, expected, "{principal:?} {named} {identity} {boundary:?} {session:?}");
                }
            }
        }
    }
}

#[test]
fn between_accounts_both_sides_must_allow() {
    for (principal, named, _) in ROWS {
        let names_caller =
            !named.contains("bob") && !named.contains("/two") && !named.contains("111111111111:user");
        let resource = [resource(PolicyKind::RepositoryPolicy, named, "ecr:*")];
        for identity in [true, false] {
            for session in [None, Some(false)] {
                let asked = Asked {
                    principal,
                    action: "ecr:PutImage",
                    owner: "222222222222",
                    resource: &resource,
                    identity,
                    boundary: None,
                    session,
                };
                let expected = match (names_caller, identity, session) {
                    (false, ..) => Reason::ImplicitDeny(PolicyKind::RepositoryPolicy),
                    (_, false, _) => Reason::ImplicitDeny(PolicyKind::Identity),
                    (_, _, Some(false)) => Reason::ImplicitDeny(PolicyKind::Session),
                    _ => Reason::Allowed,
                };
                assert_eq!(decide(&asked), expected, "{principal:?} {named} {identity} {session:?}");
            }
        }
    }
}

#[test]
fn a_role_is_taken_only_by_those_it_trusts() {
    let assume = |principal: &Principal<'_>, trust: &[Named], identity: bool| {
        let asked = Asked {
            principal,
            action: "sts:AssumeRole",
            owner: HOME,
            resource: trust,
            identity,
            boundary: None,
            session: None,
        };
        decide(&asked)
    };
    let trust = |principal: &str| [resource(PolicyKind::Trust, principal, "sts:AssumeRole")];
    let untrusted = Reason::ImplicitDeny(PolicyKind::Trust);
    assert_eq!(
        assume(&ALICE, &trust(r#"{"AWS": "arn:aws:iam::000000000000:user/alice"}"#), false),
        Reason::Allowed
    );
    assert_eq!(assume(&ALICE, &trust(r#"{"AWS": "000000000000"}"#), true), Reason::Allowed);
    let delegated = assume(&ALICE, &trust(r#"{"AWS": "000000000000"}"#), false);
    assert_eq!(delegated, Reason::ImplicitDeny(PolicyKind::Identity));
    assert_eq!(assume(&ALICE, &trust(r#"{"Service": "ecs-tasks.amazonaws.com"}"#), true), untrusted);
    assert_eq!(assume(&ALICE, &[], true), untrusted);
    let root = Principal::Root { account: HOME };
    assert_eq!(assume(&root, &trust(r#"{"AWS": "000000000000"}"#), false), Reason::Allowed);
    assert_eq!(assume(&root, &trust(r#"{"Service": "ecs-tasks.amazonaws.com"}"#), false), untrusted);
    let tasks = Principal::Service { name: "ecs-tasks.amazonaws.com" };
    assert_eq!(assume(&tasks, &trust(r#"{"Service": "ecs-tasks.amazonaws.com"}"#), false), Reason::Allowed);
    assert_eq!(assume(&tasks, &trust(r#"{"Service": "ecs.amazonaws.com"}"#), true), untrusted);
}

#[test]
fn strangers_need_everyone_to_be_named() {
    for (named, expected) in [
        (r#""*""#, true),
        (r#"{"AWS": "*"}"#, true),
        (r#"{"AWS": "000000000000"}"#, false),
        (r#"{"Service": "ecs.amazonaws.com"}"#, false),
    ] {
        let resource = [resource(PolicyKind::RepositoryPolicy, named, "ecr:BatchGetImage")];
        let asked = |action| Asked {
            principal: &Principal::Anonymous,
            action,
            owner: HOME,
            resource: &resource,
            identity: true,
            boundary: None,
            session: None,
        };
        assert_eq!(decide(&asked("ecr:BatchGetImage")) == Reason::Allowed, expected, "{named}");
        assert_ne!(decide(&asked("ecr:PutImage")), Reason::Allowed);
    }
}
