use serde_json::{Value, json};

use super::Batch;

fn line(policies: Value, request: Value) -> String {
    let mut case = policies;
    case["request"] = request;
    case.to_string()
}

fn allow(action: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": {"Sid": "A", "Effect": "Allow", "Action": action, "Resource": "*"}})
}

fn request(principal: &str) -> Value {
    json!({
        "principal": principal,
        "action": "ecr:PutImage",
        "resource": "arn:aws:ecr:us-east-1:111122223333:repository/app",
        "resourceAccount": "111122223333",
        "context": {"aws:SourceIp": "192.0.2.1", "aws:TagKeys": ["team"]},
    })
}

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";

fn answer(line: &str) -> Value {
    serde_json::to_value(Batch::new().decide(line).unwrap()).unwrap()
}

#[test]
fn a_yes_names_one_statement_of_each_policy_that_had_to_allow() {
    let policies = json!({
        "identityPolicies": [allow("s3:*"), allow("ecr:*")],
        "permissionBoundaryPolicies": [allow("*")],
        "sessionPolicy": allow("ecr:Put*"),
        "serviceControlPolicies": [[allow("*")], [allow("ecs:*"), allow("ecr:PutImage")]],
    });
    let answer = answer(&line(policies, request("arn:aws:sts::111122223333:assumed-role/push/one")));
    assert_eq!(answer["decision"], "Allowed");
    let policies: Vec<&str> = answer["statements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ground| ground["policy"].as_str().unwrap())
        .collect();
    assert_eq!(
        policies,
        [
            "serviceControlPolicies[0][0]",
            "serviceControlPolicies[1][1]",
            "identityPolicies[1]",
            "permissionBoundaryPolicies[0]",
            "sessionPolicy",
        ]
    );
    let first =
        json!({"policy": "serviceControlPolicies[0][0]", "statement": 0, "sid": "A", "effect": "Allow"});
    assert_eq!(answer["statements"][0], first);
}

#[test]
fn an_explicit_no_names_every_deny_and_an_implicit_one_what_is_missing() {
    let deny = json!({"Statement": [
        {"Effect": "Deny", "Action": "s3:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "ecr:*", "Resource": "*"},
    ]});
    let both = json!({"identityPolicies": [deny, allow("*")], "permissionBoundaryPolicies": [deny]});
    let explicit = answer(&line(both, request(ALICE)));
    let ground = |policy| json!({"policy": policy, "statement": 1, "effect": "Deny"});
    let expected = json!({
        "decision": "ExplicitDeny",
        "statements": [ground("identityPolicies[0]"), ground("permissionBoundaryPolicies[0]")],
    });
    assert_eq!(explicit, expected);
    let bounded = json!({"identityPolicies": [allow("*")], "permissionBoundaryPolicies": [allow("s3:*")]});
    let implicit = answer(&line(bounded, request(ALICE)));
    let expected =
        json!({"decision": "ImplicitDeny", "statements": [], "missing": "permissionBoundaryPolicies"});
    assert_eq!(implicit, expected);
}

#[test]
fn a_principal_is_told_by_its_text() {
    let named = |principal: Value| json!({"resourcePolicy": {"Statement": {"Effect": "Allow", "Principal": principal, "Action": "ecr:*"}}});
    for (asks, principal, decision) in [
        (ALICE, json!({"AWS": ALICE}), "Allowed"),
        (ALICE, json!({"AWS": "111122223333"}), "ImplicitDeny"),
        ("arn:aws:iam::111122223333:root", json!({"AWS": "999999999999"}), "Allowed"),
        ("111122223333", json!({"AWS": "999999999999"}), "Allowed"),
        ("arn:aws:iam::111122223333:role/r", json!({"AWS": "arn:aws:iam::111122223333:role/r"}), "Allowed"),
        (
            "arn:aws:sts::111122223333:assumed-role/r/s",
            json!({"AWS": "arn:aws:iam::111122223333:role/r"}),
            "Allowed",
        ),
        ("ecs-tasks.amazonaws.com", json!({"Service": "ecs-tasks.amazonaws.com"}), "Allowed"),
        ("ecs-tasks.amazonaws.com", json!("*"), "Allowed"),
        ("*", json!("*"), "Allowed"),
        ("*", json!({"AWS": "111122223333"}), "ImplicitDeny"),
        ("arn:aws:iam::999999999999:user/bob", json!({"AWS": "999999999999"}), "ImplicitDeny"),
    ] {
        let answer = answer(&line(named(principal.clone()), request(asks)));
        assert_eq!(answer["decision"], decision, "{asks} {principal}");
    }
    let mut known = request("arn:aws:sts::111122223333:assumed-role/r/s");
    known["context"] = json!({"aws:PrincipalArn": "arn:aws:iam::111122223333:role/team/r"});
    let with_path = named(json!({"AWS": "arn:aws:iam::111122223333:role/team/r"}));
    assert_eq!(answer(&line(with_path, known))["decision"], "Allowed");
}

#[test]
fn what_cannot_be_decided_says_why() {
    let good = || line(json!({"identityPolicies": [allow("*")]}), request(ALICE));
    let wrong = |from: &str, to: &str| {
        let broken = good().replacen(from, to, 1);
        assert_ne!(broken, good(), "{from}");
        Batch::new().decide(&broken).unwrap_err()
    };
    for (from, to, expected) in [
        ("{", "", "the line: column"),
        ("\"request\"", "\"requests\"", "is \"request\" meant?"),
        ("\"Effect\":\"Allow\"", "\"Effect\":\"Perhaps\"", "identityPolicies[0]: column "),
        ("identityPolicies", "identitPolicies", "is \"identityPolicies\" meant?"),
        ("\"identityPolicies\":[", "\"identityPolicies\":[[],", "identityPolicies[0]: "),
        ("ecr:PutImage", "PutImage", "is not one action"),
        ("ecr:PutImage", "ecr:*", "is not one action"),
        ("\"111122223333\"", "\"1111\"", "is not twelve digits"),
        ("arn:aws:ecr:us-east-1:111122223333:repository/app", "app", "neither \"*\" nor an ARN"),
        ("user/alice", "group/alice", "is not the ARN of"),
        ("\"192.0.2.1\"", "null", "a string or a list of strings"),
        ("\"aws:TagKeys\"", "\"AWS:sourceip\"", "stands there twice"),
        ("\"Effect\"", "\"Sid\"", "a second time"),
    ] {
        let message = wrong(from, to);
        assert!(message.contains(expected), "{from} -> {to}: {message}");
    }
    for text in ["", "[]", "null", "{}", "{\"request\": {}}", "{\"request\": []}"] {
        assert!(Batch::new().decide(text).is_err(), "{text}");
    }
}

#[test]
fn a_field_of_somebody_else_is_ignored_and_told() {
    let policies = json!({"identityPolicies": [allow("*")], "comment": "mine", "sessionPolicy": null});
    let mut asked = request(ALICE);
    asked["ticket"] = json!({"id": 7});
    let answer = answer(&line(policies, asked));
    let ignored = json!(["comment", "request.ticket"]);
    assert_eq!((&answer["decision"], &answer["ignored"]), (&json!("Allowed"), &ignored));
}

#[test]
fn a_list_of_no_levels_is_no_control_and_an_empty_level_allows_nothing() {
    let with = |levels: Value| {
        let policies = json!({"identityPolicies": [allow("*")], "serviceControlPolicies": levels});
        answer(&line(policies, request(ALICE)))["decision"].clone()
    };
    assert_eq!(with(json!([])), "Allowed");
    assert_eq!(with(json!([[]])), "ImplicitDeny");
}

#[test]
fn a_document_is_compiled_once() {
    let mut batch = Batch::new();
    let line = line(json!({"identityPolicies": [allow("*"), allow("*")]}), request(ALICE));
    let (first, second) = (batch.decide(&line), batch.decide(&line));
    assert_eq!(first, second);
    let documents: usize = batch.compiled.values().map(|documents| documents.len()).sum();
    assert_eq!(documents, 1);
}
