//! The rules, read naively.
//!
//! Works on the JSON itself, clones and backtracks as it likes, and shares no code with the engine: where
//! the two differ, one of them has misread the rules.

mod conditions;
mod text;

use std::collections::BTreeMap;

use policies::{ContextValue, PolicyKind, Principal, Reason};
use serde_json::Value;

pub(crate) type Keys = BTreeMap<String, ContextValue>;

#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) kind: PolicyKind,
    pub(crate) json: Value,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Set {
    pub(crate) identity: Vec<Document>,
    pub(crate) boundary: Vec<Document>,
    pub(crate) session: Option<Vec<Document>>,
    pub(crate) resource: Vec<Document>,
    pub(crate) scps: Vec<Vec<Document>>,
    pub(crate) rcps: Vec<Vec<Document>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) resource_account: String,
    pub(crate) principal: Principal<'a>,
    pub(crate) context: Keys,
    pub(crate) has_boundary: bool,
}

/// Policy and index of a statement.
type Place = (String, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Naming {
    Account,
    RoleOrEveryone,
    Itself,
}

pub(crate) fn decide(asked: &Asked<'_>, set: &Set) -> (Reason, Option<Place>) {
    let action = asked.action.to_lowercase();
    if action == "sts:getcalleridentity" && asked.principal != Principal::Anonymous {
        return (Reason::Allowed, None);
    }
    let linked = matches!(asked.principal, Principal::RoleSession { service_linked: true, .. });
    let service = action.split(':').next().unwrap_or("").to_owned();
    // Of those that the guide lists, the ones that occur in cases.
    let listed = ["dynamodb", "ecr", "kms", "logs", "s3", "secretsmanager", "sqs", "sts"];
    let reached_by_rcp = listed.contains(&service.as_str()) && !linked;
    let none = Vec::new();
    let rcps = if reached_by_rcp { &set.rcps } else { &none };
    let scps = if linked || asked.principal.account().is_none() { &none } else { &set.scps };
    let boundary = &set.boundary;
    let session = set.session.as_ref();

    // 1. Explicit deny anywhere wins.
    let everything = rcps
        .iter()
        .flatten()
        .chain(scps.iter().flatten())
        .chain(&set.resource)
        .chain(&set.identity)
        .chain(boundary)
        .chain(session.into_iter().flatten());
    for document in everything {
        if let Some((_, index)) = first(document, "Deny", asked) {
            return (Reason::ExplicitDeny(document.kind), Some((document.name.clone(), index)));
        }
    }
    // 2. and 3. Every level must allow.
    for (levels, kind) in [(rcps, PolicyKind::ResourceControl), (scps, PolicyKind::ServiceControl)] {
        for level in levels {
            if allow(level, asked).is_none() {
                return (Reason::ImplicitDeny(kind), None);
            }
        }
    }
    // 4. The resource's own policy.
    let resource_allow = allow(&set.resource, asked);
    let resource_part = asked.resource.splitn(6, ':').nth(5).unwrap_or("").to_owned();
    let takes_a_role =
        action.starts_with("sts:assumerole") || (service == "sts" && resource_part.starts_with("role/"));
    let resource_kind = match set.resource.first() {
        Some(document) => document.kind,
        None if takes_a_role => PolicyKind::Trust,
        None => PolicyKind::RepositoryPolicy,
    };
    let on_its_own = takes_a_role
        || resource_kind == PolicyKind::Trust
        || (service == "kms" && resource_part.starts_with("key/"));
    let no_resource_allow = (Reason::ImplicitDeny(resource_kind), None);
    let Some(account) = asked.principal.account() else {
        return match resource_allow {
            Some((_, place)) => (Reason::Allowed, Some(place)),
            None => no_resource_allow,
        };
    };
    let cross_account = account != asked.resource_account;
    if (cross_account || on_its_own) && resource_allow.is_none() {
        return no_resource_allow;
    }
    let naming = resource_allow.as_ref().map(|(naming, _)| *naming).filter(|_| !cross_account);
    let needs_identity = !matches!(naming, Some(Naming::RoleOrEveryone | Naming::Itself));
    let limited = naming != Some(Naming::Itself);
    let identity_allow = allow(&set.identity, asked);
    let is_root = matches!(asked.principal, Principal::Root { .. });
    // 5., 6., 7.
    if needs_identity && !is_root && identity_allow.is_none() {
        return (Reason::ImplicitDeny(PolicyKind::Identity), None);
    }
    if limited && !boundary.is_empty() && allow(boundary, asked).is_none() {
        return (Reason::ImplicitDeny(PolicyKind::Boundary), None);
    }
    if limited && session.is_some_and(|session| allow(session, asked).is_none()) {
        return (Reason::ImplicitDeny(PolicyKind::Session), None);
    }
    let resource_place = resource_allow.map(|(_, place)| place);
    let identity_place = identity_allow.map(|(_, place)| place);
    let place = if needs_identity { identity_place.or(resource_place) } else { resource_place };
    (Reason::Allowed, place)
}

/// The strongest allow of several documents, the first of equals.
fn allow(documents: &[Document], asked: &Asked<'_>) -> Option<(Naming, Place)> {
    let mut best: Option<(Naming, Place)> = None;
    for document in documents {
        if let Some((naming, index)) = first(document, "Allow", asked)
            && best.as_ref().is_none_or(|(known, _)| naming > *known)
        {
            best = Some((naming, (document.name.clone(), index)));
        }
    }
    best
}

/// The first matching statement of an effect; of allows the first of those that name the caller best.
fn first(document: &Document, effect: &str, asked: &Asked<'_>) -> Option<(Naming, usize)> {
    let new_version = document.json["Version"] == "2012-10-17";
    let statements = list(&document.json["Statement"]);
    let mut matching = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        if statement["Effect"] == effect
            && let Some(naming) = matches(statement, document.kind, new_version, asked)
        {
            matching.push((naming, index));
        }
    }
    let best = matching.iter().map(|(naming, _)| *naming).max()?;
    matching.into_iter().find(|(naming, _)| effect == "Deny" || *naming == best)
}

fn matches(statement: &Value, kind: PolicyKind, new_version: bool, asked: &Asked<'_>) -> Option<Naming> {
    let naming = principal(statement, asked)?;
    let allows = statement["Effect"] == "Allow";
    // An Allow whose variables have no value cannot match.
    if allows && new_version && !text::all_variables_have_values(statement, &asked.context) {
        return None;
    }
    let action = |pattern: &Value| text::action(string(pattern), &asked.action);
    let named = |element: &str, not: &str, test: &dyn Fn(&Value) -> bool| match statement.get(element) {
        Some(values) => list(values).iter().any(test),
        None => !list(&statement[not]).iter().any(test),
    };
    if !named("Action", "NotAction", &action) {
        return None;
    }
    if statement.get("Resource").is_some() || statement.get("NotResource").is_some() {
        let pads = matches!(kind, PolicyKind::Identity | PolicyKind::Session | PolicyKind::Boundary);
        let resource = |pattern: &Value| {
            text::resource(string(pattern), &asked.resource, new_version, pads, &asked.context)
        };
        if !named("Resource", "NotResource", &resource) {
            return None;
        }
    }
    for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
        for (key, values) in keys.as_object().expect("operators hold objects") {
            let values: Vec<String> = list(values).iter().map(scalar).collect();
            if !conditions::holds(operator, key, &values, new_version, &asked.context) {
                return None;
            }
        }
    }
    Some(naming)
}

fn principal(statement: &Value, asked: &Asked<'_>) -> Option<Naming> {
    let allows = statement["Effect"] == "Allow";
    if let Some(element) = statement.get("NotPrincipal") {
        let everything_listed = !identities(&asked.principal).is_empty()
            && identities(&asked.principal).iter().all(|(kind, id, _)| lists(element, kind, id));
        let spared = everyone(element) || everything_listed;
        return (asked.has_boundary || !spared).then_some(Naming::Itself);
    }
    let Some(element) = statement.get("Principal") else { return Some(Naming::Itself) };
    let mut namings: Vec<Naming> = identities(&asked.principal)
        .into_iter()
        .filter(|(kind, id, _)| lists(element, kind, id))
        .map(|(_, _, naming)| naming)
        .collect();
    let stranger_with_token = matches!(asked.principal, Principal::WebIdentity { .. });
    if everyone(element) && !(allows && stranger_with_token) {
        namings.push(Naming::RoleOrEveryone);
    }
    namings.into_iter().max()
}

/// Everything that the caller is, with how strongly naming it counts.
fn identities<'a>(principal: &Principal<'a>) -> Vec<(&'static str, &'a str, Naming)> {
    match *principal {
        Principal::Anonymous => vec![],
        Principal::Root { account } => vec![("AWS", account, Naming::Account)],
        Principal::User { account, arn } => {
            vec![("AWS", account, Naming::Account), ("AWS", arn, Naming::Itself)]
        }
        // The role as such: of no session anything is known.
        Principal::RoleSession { account, role_arn, session_arn: "", .. } => {
            vec![("AWS", account, Naming::Account), ("AWS", role_arn, Naming::RoleOrEveryone)]
        }
        Principal::RoleSession { account, role_arn: indirect, session_arn, .. }
        | Principal::FederatedUser { account, user_arn: indirect, session_arn } => vec![
            ("AWS", account, Naming::Account),
            ("AWS", indirect, Naming::RoleOrEveryone),
            ("AWS", session_arn, Naming::Itself),
        ],
        Principal::Service { name } => vec![("Service", name, Naming::Itself)],
        Principal::WebIdentity { provider_arn } => vec![("Federated", provider_arn, Naming::Itself)],
    }
}

fn lists(element: &Value, kind: &str, id: &str) -> bool {
    list(&element[kind])
        .iter()
        .any(|value| value == id || *value == format!("arn:aws:iam::{id}:root").as_str())
}

fn everyone(element: &Value) -> bool {
    element == "*" || list(&element["AWS"]).iter().any(|value| value == "*")
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.clone(),
        single => vec![single.clone()],
    }
}

fn string(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
