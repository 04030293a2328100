//! Cases out of the public documentation, in `tests/documented`: each with the page it is from, in the format of
//! `berth policy simulate --batch`. Engine and reference must both decide them as documented.

use policies::{Batch, ContextValue, PolicyKind, Principal};
use serde_json::Value;

use crate::reference::{self, Asked, Document, Keys, Set};

struct Documented {
    name: String,
    value: Value,
}

fn all() -> Vec<Documented> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the cases") {
        let path = entry.expect("a file").path();
        let list: Vec<Value> =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("text")).expect("JSON");
        cases.extend(list.into_iter().map(|value| {
            let fact = value["fact"].as_str().expect("each case states its fact");
            Documented { name: format!("{}: {fact}", path.display()), value }
        }));
    }
    cases
}

#[test]
fn the_engine_decides_every_case_as_documented() {
    let cases = all();
    assert!(cases.len() >= 300, "{}", cases.len());
    let mut batch = Batch::new();
    let mut wrong = Vec::new();
    for Documented { name, value } in &cases {
        assert!(
            value["source"].as_str().is_some_and(|source| source.starts_with("https://docs.aws.amazon.com/"))
        );
        match batch.decide(&value["case"].to_string()) {
            Ok(answer) if value["decision"] == answer.decision => {}
            other => wrong.push(format!("{name}: {} is documented, not {other:?}", value["decision"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_decides_every_case_as_documented() {
    for Documented { name, value } in all() {
        let case = &value["case"];
        let context = context(&case["request"]["context"]);
        let set = set(case);
        let asked = Asked {
            action: text(&case["request"]["action"]),
            resource: text(&case["request"]["resource"]),
            resource_account: text(&case["request"]["resourceAccount"]),
            principal: principal(&text(&case["request"]["principal"]), &context),
            context,
            has_boundary: !set.boundary.is_empty(),
        };
        let (reason, _) = reference::decide(&asked, &set);
        let decision = format!("{reason:?}");
        assert!(decision.starts_with(value["decision"].as_str().unwrap()), "{name}: {decision}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn document(value: &Value, kind: PolicyKind, name: &str) -> Document {
    Document { name: name.to_owned(), kind, json: value.clone() }
}

fn documents(value: &Value, kind: PolicyKind, name: &str) -> Vec<Document> {
    value.as_array().into_iter().flatten().map(|value| document(value, kind, name)).collect()
}

fn levels(value: &Value, kind: PolicyKind, name: &str) -> Vec<Vec<Document>> {
    value.as_array().into_iter().flatten().map(|level| documents(level, kind, name)).collect()
}

fn set(case: &Value) -> Set {
    Set {
        identity: documents(&case["identityPolicies"], PolicyKind::Identity, "identity"),
        boundary: documents(&case["permissionBoundaryPolicies"], PolicyKind::Boundary, "boundary"),
        session: case.get("sessionPolicy").map(|value| vec![document(value, PolicyKind::Session, "session")]),
        resource: case
            .get("resourcePolicy")
            .map(|value| document(value, PolicyKind::ResourcePolicy, "resource"))
            .into_iter()
            .collect(),
        scps: levels(&case["serviceControlPolicies"], PolicyKind::ServiceControl, "scp"),
        rcps: levels(&case["resourceControlPolicies"], PolicyKind::ResourceControl, "rcp"),
    }
}

fn context(value: &Value) -> Keys {
    let given = |value: &Value| match value {
        Value::Array(items) => ContextValue::Many(items.iter().map(text).collect()),
        single => ContextValue::One(text(single)),
    };
    value.as_object().into_iter().flatten().map(|(key, value)| (key.to_lowercase(), given(value))).collect()
}

/// What a principal's text says. The few texts of the cases live as long as the test.
fn principal(text: &str, context: &Keys) -> Principal<'static> {
    let text: &'static str = text.to_owned().leak();
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [_, _, _, _, account, resource] = parts[..] else {
        return if text == "*" { Principal::Anonymous } else { Principal::Service { name: text } };
    };
    let behind = match context.get("aws:principalarn") {
        Some(ContextValue::One(arn)) => Some(&*arn.clone().leak()),
        _ => None,
    };
    match resource.split('/').collect::<Vec<_>>()[..] {
        ["root"] => Principal::Root { account },
        ["user", ..] => Principal::User { account, arn: text },
        ["role", ..] => {
            Principal::RoleSession { account, role_arn: text, session_arn: "", service_linked: false }
        }
        ["assumed-role", role, _] => Principal::RoleSession {
            account,
            role_arn: behind.unwrap_or_else(|| format!("arn:aws:iam::{account}:role/{role}").leak()),
            session_arn: text,
            service_linked: role.starts_with("AWSServiceRoleFor"),
        },
        ["federated-user", _] => {
            Principal::FederatedUser { account, user_arn: behind.unwrap_or(""), session_arn: text }
        }
        ["oidc-provider", ..] => Principal::WebIdentity { provider_arn: text },
        _ => panic!("{text}"),
    }
}
