use super::{Policy, PolicyKind};

const ALL_KINDS: [PolicyKind; 9] = [
    PolicyKind::Identity,
    PolicyKind::RepositoryPolicy,
    PolicyKind::RegistryPolicy,
    PolicyKind::ResourcePolicy,
    PolicyKind::Trust,
    PolicyKind::Session,
    PolicyKind::Boundary,
    PolicyKind::ServiceControl,
    PolicyKind::ResourceControl,
];

fn complaints(text: &str, kind: PolicyKind) -> String {
    match Policy::parse(text, kind) {
        Ok(policy) => policy.warnings().iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(findings) => findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

/// A statement in an otherwise sound document of version 2012-10-17.
fn statement(text: &str, kind: PolicyKind) -> String {
    complaints(&format!("{{\"Version\": \"2012-10-17\", \"Statement\":\n{text}}}"), kind)
}

#[test]
fn every_kind_has_its_own_elements() {
    let with_resource = r#"{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}"#;
    let with_principal = r#"{"Effect": "Deny", "Action": "sts:*", "Principal": "*"}"#;
    let with_both = r#"{"Effect": "Deny", "Action": "sts:*", "Principal": "*", "Resource": "*"}"#;
    for kind in ALL_KINDS {
        let sound = [with_resource, with_principal, with_both].map(|text| statement(text, kind).is_empty());
        let expected = match kind {
            PolicyKind::Identity
            | PolicyKind::Session
            | PolicyKind::Boundary
            | PolicyKind::ServiceControl => [true, false, false],
            PolicyKind::RepositoryPolicy | PolicyKind::Trust => [false, true, false],
            PolicyKind::RegistryPolicy | PolicyKind::ResourceControl => [false, false, true],
            PolicyKind::ResourcePolicy => [false, true, true],
        };
        assert_eq!(sound, expected, "{kind:?}");
    }
}

#[test]
fn every_error_is_reported_with_its_place() {
    let text = "{\n  \"Version\": \"2012\",\n  \"Id\": \"x\",\n  \"Statment\": [],\n  \"Statement\": [\n    \
                {\"Effect\": \"allow\", \"Action\": \"ecr\", \"NotAction\": \"ecr:*\", \"Resource\": [\"app\"]},\n    \
                {\"Action\": [], \"Resource\": 5}\n  ]\n}";
    let expected = [
        "2:14: error: Version is \"2012-10-17\" (or the older \"2008-10-17\")",
        "3:3: error: an identity policy has no Id",
        "4:3: error: \"Statment\" is not an element of a policy document",
        "6:16: error: Effect is \"Allow\" or \"Deny\"",
        "6:42: error: a statement has Action or NotAction, not both",
        "6:77: error: \"app\": a resource is an ARN (`arn:…`) or `*`",
        "7:5: error: the statement has no Effect",
        "7:16: error: Action is an empty list",
        "7:32: error: Resource holds strings, not a number",
    ];
    assert_eq!(complaints(text, PolicyKind::Identity), expected.join("; "));
}

#[test]
fn duplicate_keys_are_errors() {
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    assert!(
        complaints(text, PolicyKind::Identity)
            .contains("error: the key \"Effect\" stands here a second time")
    );
}

#[test]
fn sids_are_unique() {
    let text = r#"[{"Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*"},
{"Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*"},
{"Sid": "", "Effect": "Allow", "Action": "*", "Resource": "*"},
{"Sid": "", "Effect": "Allow", "Action": "*", "Resource": "*"}]"#;
    assert_eq!(statement(text, PolicyKind::Identity), "3:1: error: a second statement with the Sid \"A\"");
}

#[test]
fn repository_policies_allow_blanks_in_sids() {
    let text = r#"{"Sid": "new statement", "Effect": "Allow", "Action": "ecr:*", "Principal": {"AWS": "000000000000"}}"#;
    assert_eq!(statement(text, PolicyKind::RepositoryPolicy), "");
    assert!(
        statement(&text.replace("ecr:*", "sts:*"), PolicyKind::Trust).contains("a Sid is letters and digits")
    );
}

#[test]
fn principals_are_whole_or_refused() {
    let with = |principal: &str| {
        let text = format!(r#"{{"Effect": "Allow", "Action": "ecr:*", "Principal": {principal}}}"#);
        statement(&text, PolicyKind::RepositoryPolicy)
    };
    for good in [
        r#"{"AWS": "000000000000"}"#,
        r#"{"AWS": ["arn:aws:iam::000000000000:root", "arn:aws:iam::000000000000:user/a/b"]}"#,
        r#"{"AWS": "arn:aws:iam::000000000000:role/r"}"#,
        r#"{"AWS": "arn:aws:sts::000000000000:assumed-role/r/s"}"#,
        r#"{"AWS": "arn:aws:sts::000000000000:federated-user/f"}"#,
        r#"{"Service": ["ecs-tasks.amazonaws.com", "ecs.amazonaws.com"]}"#,
        r#"{"Federated": "arn:aws:iam::000000000000:oidc-provider/example.com/a"}"#,
    ] {
        assert_eq!(with(good), "", "{good}");
    }
    for bad in [
        r#""arn:aws:iam::000000000000:user/a""#,
        r#""**""#,
        "{}",
        "[]",
        r#"{"AWS": []}"#,
        r#"{"AWS": 5}"#,
        r#"{"AWS": "alice"}"#,
        r#"{"AWS": "00000000000"}"#,
        r#"{"AWS": "arn:aws:iam::000000000000:user/*"}"#,
        r#"{"AWS": "arn:aws:iam::*:root"}"#,
        r#"{"AWS": "arn:aws:iam::000000000000:group/g"}"#,
        r#"{"AWS": "arn:aws:iam::000000000000:user/"}"#,
        r#"{"AWS": "arn:aws:sts::000000000000:assumed-role/r"}"#,
        r#"{"AWS": "arn:aws:s3:::bucket"}"#,
        r#"{"Service": "*"}"#,
        r#"{"Service": "ecs"}"#,
        r#"{"Federated": "*"}"#,
        r#"{"Federated": "example.com"}"#,
        r#"{"CanonicalUser": "abc"}"#,
        r#"{"aws": "000000000000"}"#,
    ] {
        assert!(with(bad).contains("error"), "{bad}");
    }
    assert!(with(r#""*""#).contains("warning: this allows everyone"));
    assert!(with(r#"{"AWS": "*"}"#).contains("warning: this allows everyone"));
}

#[test]
fn not_principal_is_refused_with_allow_and_warned_of_with_deny() {
    let text = r#"{"Effect": "Allow", "Action": "ecr:*", "NotPrincipal": {"AWS": "000000000000"}}"#;
    assert!(statement(text, PolicyKind::RepositoryPolicy).contains("error: NotPrincipal with Allow"));
    let text = text.replace("Allow", "Deny");
    assert!(statement(&text, PolicyKind::RepositoryPolicy).starts_with("2:39: warning: NotPrincipal spares"));
}

#[test]
fn a_trust_policy_speaks_of_sts_only() {
    let text = r#"{"Effect": "Allow", "Action": ["sts:AssumeRole", "ecr:PutImage", "*"], "Principal": {"AWS": "000000000000"}}"#;
    assert_eq!(
        statement(text, PolicyKind::Trust).matches("a trust policy speaks of sts actions only").count(),
        2
    );
}

#[test]
fn web_identity_needs_audience_and_subject() {
    let with = |condition: &str| {
        let text = format!(
            r#"{{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {{"Federated": "arn:aws:iam::000000000000:oidc-provider/ci.example.com"}}{condition}}}"#
        );
        statement(&text, PolicyKind::Trust).matches("error").count()
    };
    let conditioned = |sub: &str, operator: &str| {
        with(&format!(
            r#", "Condition": {{"StringEquals": {{"ci.example.com:aud": "berth"}}, "{operator}": {{"ci.example.com:SUB": {sub}}}}}"#
        ))
    };
    assert_eq!(with(""), 2);
    assert_eq!(conditioned(r#""repo:me/app:*""#, "StringLike"), 0);
    assert_eq!(conditioned(r#""*""#, "StringLike"), 1);
    assert_eq!(conditioned(r#"["repo:me/app:*", "?*"]"#, "StringLike"), 1);
    assert_eq!(conditioned(r#""x""#, "StringNotEquals"), 1);
    assert_eq!(conditioned(r#""x""#, "StringEqualsIfExists"), 1);
    assert_eq!(conditioned(r#""x""#, "ForAllValues:StringEquals"), 1);
    assert_eq!(conditioned(r#""false""#, "Null"), 1);
    assert_eq!(conditioned(r#""${ci.example.com:sub}""#, "StringLike"), 1, "every subject equals itself");
}

#[test]
fn sizes_are_counted_without_white_space() {
    let statement = r#"{"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}"#;
    let small = format!("{{\"Statement\": [{statement}{}]}}", " ".repeat(5000));
    let policy = Policy::parse(&small, PolicyKind::Session).unwrap();
    assert_eq!(policy.size(), 66);
    let large = format!("{{\"Statement\": [{}]}}", vec![statement; 150].join(","));
    assert!(complaints(&large, PolicyKind::Session).contains("at most 6144 characters"));
    assert_eq!(complaints(&large, PolicyKind::Identity), "");
    let hostile = format!("{{\"Statement\": [{}]}}", vec![statement; 100_000].join(","));
    assert!(complaints(&hostile, PolicyKind::Identity).contains("is too large"));
}

#[test]
fn characters_beyond_latin_1_are_refused() {
    let with = |text: &str| {
        statement(
            &format!(r#"{{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ecr:::{text}"}}"#),
            PolicyKind::Identity,
        )
    };
    assert_eq!(with("é"), "");
    assert!(with("日").contains("is not allowed in policies"));
    assert!(with("\\u65e5").contains("is not allowed in policies"));
    assert!(with("\\u0000").contains("is not allowed in policies"));
}

#[test]
fn what_widens_silently_is_warned_of() {
    let text = r#"{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*",
        "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}}"#;
    let warnings = statement(text, PolicyKind::Identity);
    assert!(warnings.contains("NotAction with Allow"), "{warnings}");
    assert!(warnings.contains("ForAllValues is also true when aws:TagKeys is missing"), "{warnings}");
    let guarded =
        text.replace("\"Condition\": {", "\"Condition\": {\"Null\": {\"aws:TAGKEYS\": \"false\"}, ");
    assert!(!statement(&guarded, PolicyKind::Identity).contains("ForAllValues"));
}

#[test]
fn variables_in_the_older_version_are_text() {
    let text =
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ecr:::${aws:username"}}"#;
    assert!(complaints(text, PolicyKind::Identity).contains("warning: without \"Version\""));
    let newer = text.replacen('{', "{\"Version\": \"2012-10-17\", ", 1);
    assert!(complaints(&newer, PolicyKind::Identity).contains("error"));
}

#[test]
fn any_mutilated_document_is_answered_with_findings_and_never_a_panic() {
    let text = r#"{"Version": "2012-10-17", "Statement": [{"Sid": "A", "Effect": "Allow", "Principal": {"AWS": "000000000000"},
        "Action": ["ecr:*"], "Resource": "arn:aws:ecr:*:*:repository/${aws:username, 'x'}/*", "Condition": {"StringLike": {"a:b": "c*"}}}]}"#;
    for kind in ALL_KINDS {
        for end in 0..text.len() {
            assert!(Policy::parse(&text[..end], kind).is_err());
            let _answer = Policy::parse(&format!("{}{}", &text[..end], &text[end + 1..]), kind);
        }
    }
}
