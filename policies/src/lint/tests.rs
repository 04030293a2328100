use super::lint;
use crate::document::{Policy, PolicyKind};
use crate::json;

/// The remarks about statements in an otherwise sound document, one to a line.
fn of_kind(statements: &str, kind: PolicyKind) -> String {
    let text = format!("{{\"Version\": \"2012-10-17\", \"Statement\":\n{statements}}}");
    Policy::parse(&text, kind).unwrap();
    let document = json::parse(&text).unwrap();
    lint(&text, &document, kind).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn remarks(statements: &str) -> String {
    of_kind(statements, PolicyKind::Identity)
}

const APP: &str = "arn:aws:ecr:*:*:repository/app";

#[test]
fn a_statement_that_another_covers_is_told() {
    let pull = format!(r#"{{"Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": "{APP}"}}"#);
    let wide = r#"{"Sid": "Reads", "Effect": "Allow", "Action": "ecr:Batch*", "Resource": "arn:aws:ecr:*"}"#;
    assert_eq!(
        remarks(&format!("[{pull},\n{wide}]")),
        "2:2: warning: this statement adds nothing: \"Reads\" (line 3) covers all of it; remove one"
    );
    assert_eq!(
        remarks(&format!("[{pull},\n{pull}]")),
        "3:1: warning: this statement adds nothing: statement 1 (line 2) covers all of it; remove one"
    );
    let deny = r#"{"Effect": "Deny", "NotAction": "ecr:PutImage", "Resource": "*"}"#;
    assert_eq!(
        remarks(&format!("[{pull},\n{deny}]")),
        "2:2: warning: this Allow never takes effect: statement 2 (line 3) denies all of it"
    );
}

#[test]
fn what_goes_further_in_any_respect_is_not_shadowed() {
    let narrow = r#"{"Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": "arn:aws:ecr:*:*:repository/app/*"}"#;
    for wide in [
        r#"{"Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": "arn:aws:ecr:*:*:repository/app/x"}"#,
        r#"{"Effect": "Allow", "Action": "ecr:PutImage", "Resource": "*"}"#,
        r#"{"Effect": "Allow", "NotAction": "ecr:*", "Resource": "*"}"#,
        r#"{"Effect": "Allow", "Action": "ecr:BatchGetImage", "NotResource": "arn:aws:ecr:*:*:repository/app/x"}"#,
        r#"{"Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}"#,
        r#"{"Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": ["arn:aws:ecr:*:*:repository/app/*", "arn:aws:ecr:*:*:repository/${aws:username}"]}"#,
        r#"{"Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "arn:aws:ecr:*:*:repository/app/secret"}"#,
    ] {
        let found = remarks(&format!("[{narrow}, {wide}]"));
        assert!(!found.contains("2:2:"), "{wide}: {found}");
    }
}

#[test]
fn a_policy_for_everyone_covers_no_stronger_grant() {
    let statement = |principal: &str| {
        format!(r#"{{"Effect": "Allow", "Action": "ecr:BatchGetImage", "Principal": {principal}}}"#)
    };
    let of = |principal: &str| {
        let both = format!("[{}, {}]", statement("\"*\""), statement(principal));
        of_kind(&both, PolicyKind::RepositoryPolicy)
    };
    assert!(of(r#"{"AWS": "111122223333"}"#).contains("adds nothing"));
    assert!(of(r#"{"AWS": "arn:aws:iam::111122223333:role/a"}"#).contains("adds nothing"));
    // A user who is named is not bounded by a permissions boundary.
    assert_eq!(of(r#"{"AWS": "arn:aws:iam::111122223333:user/a"}"#), "");
    assert_eq!(of(r#"{"Service": "ecs-tasks.amazonaws.com"}"#), "");
}

#[test]
fn resources_and_actions_that_never_meet_are_told() {
    assert_eq!(
        remarks(
            r#"{"Effect": "Allow", "Action": ["ecr:PutImage", "ecr:GetAuthorizationToken"],
"Resource": ["arn:aws:ecr:*:*:repository/app", "arn:aws:ecs:*:*:cluster/default", "arn:aws:ecr:*:*:app"]}"#
        ),
        "2:48: warning: ecr:GetAuthorizationToken never matches here: it knows no resources, so it needs a \
         statement with \"Resource\": \"*\"\n\
         3:48: warning: no action of this statement is ever about arn:aws:ecs:*:*:cluster/default; ecr:PutImage \
         is about arn:*:ecr:*:*:repository/*\n\
         3:83: warning: no action of this statement is ever about arn:aws:ecr:*:*:app; ecr:PutImage is about \
         arn:*:ecr:*:*:repository/*"
    );
    assert!(
        remarks(r#"{"Effect": "Deny", "Action": ["ecs:RunTask", "ecr:PutImage"], "Resource": "arn:aws:ecr:*:*:repository/*"}"#)
            .contains("ecs:RunTask never matches here: it is about")
    );
    for sound in [
        r#"{"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/*"}"#,
        r#"{"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::000000000000:role/tasks/*"}"#,
        r#"{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}"#,
        r#"{"Effect": "Allow", "Action": "ecr:PutImage", "Resource": "arn:aws:ecr"}"#,
        r#"{"Effect": "Allow", "Action": "ecr:PutImage", "Resource": "arn:aws:ecr:*:*:repository/${aws:username}/*"}"#,
        r#"{"Effect": "Allow", "Action": ["berth:PutQuota", "ecs:RunTask"], "Resource": "arn:aws:ecs:*:*:task-definition/web:*"}"#,
    ] {
        assert_eq!(remarks(sound), "", "{sound}");
    }
    assert_eq!(
        of_kind(
            r#"{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "ecs:RunTask"}"#,
            PolicyKind::RepositoryPolicy
        ),
        "2:69: warning: ecs:RunTask is nothing that is done to a repository: here it never matches"
    );
}

#[test]
fn wildcards_that_grant_administration_are_told() {
    for (action, expected) in [
        ("*", "every action on everything"),
        ("iam:*", "iam:* includes iam:AddUserToGroup"),
        ("iam:Pass*", "iam:Pass* includes iam:PassRole"),
        ("berth:*", "berth:* includes berth:PublishPolicies"),
        ("ecr:*", ""),
        ("iam:Get*", ""),
        ("iam:PassRole", ""),
    ] {
        let statement = format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}"#);
        let found = remarks(&statement);
        assert_eq!(found.contains("grants administration"), !expected.is_empty(), "{action}: {found}");
        assert!(found.contains(expected), "{found}");
        assert_eq!(of_kind(&statement, PolicyKind::Boundary), "");
        assert_eq!(remarks(&statement.replace("Allow", "Deny")), "");
    }
}

/// The remarks about one Condition element.
fn condition(text: &str) -> String {
    remarks(&format!(
        "{{\"Effect\": \"Allow\", \"Action\": \"ecr:PutImage\", \"Resource\": \"{APP}\",\n\"Condition\": {text}}}"
    ))
}

#[test]
fn keys_that_no_request_has_are_told() {
    assert_eq!(
        condition(r#"{"StringEquals": {"aws:SourceIP4": "x"}}"#),
        "3:32: warning: no request has the condition key aws:SourceIP4; is aws:SourceIp meant?"
    );
    assert!(
        condition(r#"{"StringEquals": {"aws:PrincipleTag/Team": "x"}}"#)
            .contains("is aws:PrincipalTag/* meant?")
    );
    assert!(
        condition(r#"{"StringEquals": {"foo:Bar": "x"}}"#)
            .contains("no request has the condition key foo:Bar")
    );
    for known in ["token.example.org:sub", "localhost:8443:sub", "aws:RequestTag/any", "AWS:USERNAME"] {
        assert_eq!(condition(&format!(r#"{{"StringEquals": {{"{known}": "x"}}}}"#)), "", "{known}");
    }
}

#[test]
fn operators_that_do_not_suit_their_key_are_told() {
    assert_eq!(
        condition(r#"{"NumericEquals": {"aws:SourceIp": "10"}}"#),
        "3:33: warning: aws:SourceIp is an IP address, so NumericEquals never holds: compare it with IpAddress"
    );
    assert!(condition(r#"{"ArnNotLike": {"aws:CurrentTime": "*"}}"#).contains("so ArnNotLike holds always"));
    assert!(
        condition(r#"{"StringEquals": {"aws:TagKeys": "a"}}"#)
            .contains("which StringEquals alone never matches: write ForAnyValue:StringEquals")
    );
    for sound in [
        r#"{"StringLike": {"aws:SourceIp": "10.*"}}"#,
        r#"{"ForAnyValue:StringEquals": {"aws:TagKeys": "a"}}"#,
        r#"{"Null": {"aws:TagKeys": "false"}}"#,
        r#"{"NumericLessThan": {"aws:EpochTime": "5"}}"#,
        r#"{"NumericLessThan": {"aws:RequestTag/size": "5"}}"#,
    ] {
        assert_eq!(condition(sound), "", "{sound}");
    }
}

#[test]
fn conditions_that_exclude_each_other_are_told() {
    for (text, contradicts) in [
        (
            r#"{"StringEquals": {"aws:username": ["a", "b"]}, "StringNotEquals": {"aws:username": ["a", "b"]}}"#,
            true,
        ),
        (
            r#"{"StringEquals": {"aws:username": ["a", "b"]}, "StringNotEquals": {"aws:username": "a"}}"#,
            false,
        ),
        (r#"{"StringEquals": {"aws:username": "a"}, "StringLike": {"aws:username": "b*"}}"#, true),
        (r#"{"StringEquals": {"aws:username": "a"}, "StringLikeIfExists": {"aws:username": "b*"}}"#, true),
        (
            r#"{"StringEqualsIfExists": {"aws:username": "a"}, "StringLikeIfExists": {"aws:username": "b*"}}"#,
            false,
        ),
        (r#"{"StringEquals": {"aws:username": "a"}, "Null": {"aws:username": "true"}}"#, true),
        (
            r#"{"StringEquals": {"aws:username": "a"}, "StringNotEquals": {"aws:username": "${aws:userid}"}}"#,
            false,
        ),
        (r#"{"NumericGreaterThan": {"ecs:task-cpu": "5"}, "NumericLessThan": {"ecs:task-cpu": "5"}}"#, true),
        (r#"{"NumericGreaterThan": {"ecs:task-cpu": "5"}, "NumericLessThan": {"ecs:task-cpu": "6"}}"#, false),
        (r#"{"NumericGreaterThan": {"ecs:task-cpu": "5"}}"#, false),
        (
            r#"{"DateGreaterThan": {"aws:CurrentTime": "2026-02-01"}, "DateLessThan": {"aws:CurrentTime": "2026-01-01"}}"#,
            true,
        ),
        (
            r#"{"DateGreaterThan": {"aws:CurrentTime": "2026-01-01"}, "DateLessThan": {"aws:CurrentTime": "2026-02-01"}}"#,
            false,
        ),
        (
            r#"{"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "NotIpAddress": {"aws:SourceIp": "10.0.0.0/7"}}"#,
            true,
        ),
        (
            r#"{"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "NotIpAddress": {"aws:SourceIp": "10.1.0.0/16"}}"#,
            false,
        ),
        (
            r#"{"Bool": {"aws:SecureTransport": "true"}, "BoolIfExists": {"aws:SecureTransport": "false"}}"#,
            true,
        ),
    ] {
        assert_eq!(condition(text).contains("no value of"), contradicts, "{text}: {}", condition(text));
    }
}

#[test]
fn what_berth_ships_is_worth_no_remark_but_for_the_administrator() {
    for policy in crate::managed::all() {
        let document = json::parse(policy.document).unwrap();
        let found = lint(policy.document, &document, PolicyKind::Identity);
        assert_eq!(!found.is_empty(), policy.name == "AdministratorAccess", "{}: {found:?}", policy.name);
    }
}
