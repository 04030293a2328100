//! Cases from the documentation of IAM, told in a table: see `documented.json`.
//!
//! Each has policies by place, a request, and what must come out: `allow`, `deny` (explicit) or `none`
//! (nothing allows it).

use policies::{
    Context, ContextValue, Named, Policy, PolicyKind, PolicySet, Principal, Reason, Request, evaluate,
};
use serde_json::Value;

const HOME: &str = "000000000000";

fn documents(value: &Value, kind: PolicyKind) -> Vec<Named> {
    let list = value.as_array().cloned().unwrap_or_default();
    let named = |(number, statements): (usize, &Value)| {
        let mut document = statements.clone();
        if !document.is_object() || document.get("Statement").is_none() {
            document = serde_json::json!({"Version": "2012-10-17", "Statement": statements});
        }
        let policy = Policy::parse(&document.to_string(), kind)
            .unwrap_or_else(|findings| panic!("{document}: {findings:?}"));
        Named::new(format!("{kind:?} {number}"), policy)
    };
    list.iter().enumerate().map(named).collect()
}

fn levels(value: &Value, kind: PolicyKind) -> Vec<Vec<Named>> {
    value.as_array().into_iter().flatten().map(|level| documents(level, kind)).collect()
}

fn principal(case: &Value) -> Principal<'static> {
    const USER: &str = "arn:aws:iam::000000000000:user/alice";
    const ROLE: &str = "arn:aws:iam::000000000000:role/deploy";
    const SESSION: &str = "arn:aws:sts::000000000000:assumed-role/deploy/one";
    match case["as"].as_str().unwrap_or("user") {
        "user" => Principal::User { account: HOME, arn: USER },
        "root" => Principal::Root { account: HOME },
        "role" => Principal::RoleSession {
            account: HOME,
            role_arn: ROLE,
            session_arn: SESSION,
            service_linked: false,
        },
        "service-linked" => Principal::RoleSession {
            account: HOME,
            role_arn: ROLE,
            session_arn: SESSION,
            service_linked: true,
        },
        "anonymous" => Principal::Anonymous,
        "service" => Principal::Service { name: "ecs-tasks.amazonaws.com" },
        "web" => {
            Principal::WebIdentity { provider_arn: "arn:aws:iam::000000000000:oidc-provider/ci.example.com" }
        }
        other => panic!("nobody is called {other}"),
    }
}

fn context(case: &Value) -> Context {
    let value = |value: &Value| match value {
        Value::Array(items) => {
            ContextValue::Many(items.iter().map(|item| item.as_str().expect("text").to_owned()).collect())
        }
        text => ContextValue::from(text.as_str().expect("text")),
    };
    case["with"].as_object().into_iter().flatten().map(|(key, given)| (key, value(given))).collect()
}

#[test]
fn documented_cases_come_out_as_documented() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("documented.json")).unwrap();
    assert!(cases.len() >= 90, "{}", cases.len());
    for case in &cases {
        let fact = case["fact"].as_str().expect("each case states its fact");
        let identity = documents(&case["identity"], PolicyKind::Identity);
        let boundary = documents(&case["boundary"], PolicyKind::Boundary);
        let session = case.get("session").map(|value| documents(value, PolicyKind::Session));
        let resource_kind = match case["resourceKind"].as_str() {
            Some("trust") => PolicyKind::Trust,
            Some("registry") => PolicyKind::RegistryPolicy,
            _ => PolicyKind::RepositoryPolicy,
        };
        let resource = documents(&case["resource"], resource_kind);
        let scps = levels(&case["scp"], PolicyKind::ServiceControl);
        let rcps = levels(&case["rcp"], PolicyKind::ResourceControl);
        let set = PolicySet {
            identity: &identity,
            boundary: &boundary,
            session: session.as_deref(),
            resource: &resource,
            service_control: &scps,
            resource_control: &rcps,
        };
        let principal = principal(case);
        let context = context(case);
        let request = Request {
            action: case["action"].as_str().unwrap_or("ecr:PutImage"),
            resource: case["on"].as_str().unwrap_or("arn:aws:ecr:us-east-1:000000000000:repository/app"),
            resource_account: case["owner"].as_str().unwrap_or(HOME),
            principal: &principal,
            context: &context,
        };
        let decision = evaluate(&request, &set);
        let outcome = match decision.reason {
            Reason::Allowed => "allow",
            Reason::ExplicitDeny(_) => "deny",
            Reason::ImplicitDeny(_) => "none",
        };
        assert_eq!(Some(outcome), case["then"].as_str(), "{fact}: {decision:?}");
    }
}
