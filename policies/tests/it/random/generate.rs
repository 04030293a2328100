//! Random policies around a request, so that most of their statements nearly match it.

use policies::{ContextValue, PolicyKind, Principal};
use serde_json::{Map, Value, json};

use super::source::Source;
use super::words::{
    ACTIONS, AWS_PRINCIPALS, BLOCKS, HOME, KEYS, OTHER, PRINCIPALS, PROVIDER, SERVICES, TYPES, Type,
};
use crate::reference::{Asked, Document, Keys, Set};

/// A request that the policies will be made around.
pub(super) fn request(source: &mut Source) -> Asked<'static> {
    let (action, resources) = source.pick(ACTIONS);
    let resource = (*source.pick(resources)).to_owned();
    let of_arn = resource.split(':').nth(4).filter(|account| !account.is_empty());
    let account = match of_arn {
        Some(account) if source.percent(90) => account.to_owned(),
        _ => (*source.pick(&[HOME, HOME, OTHER])).to_owned(),
    };
    Asked {
        action: (*action).to_owned(),
        resource,
        resource_account: account,
        principal: *source.pick(PRINCIPALS),
        context: context(source),
        has_boundary: false,
    }
}

/// Another request that differs in little.
pub(super) fn neighbour(source: &mut Source, asked: &Asked<'static>) -> Asked<'static> {
    let mut asked = asked.clone();
    let other = request(source);
    match source.below(6) {
        0 => (asked.action, asked.resource) = (other.action, other.resource),
        1 => asked.resource = other.resource,
        2 => asked.principal = other.principal,
        3 => asked.resource_account = other.resource_account,
        4 => asked.context = other.context,
        _ => {
            let keys: Vec<String> = asked.context.keys().cloned().collect();
            if !keys.is_empty() {
                asked.context.remove(source.pick(&keys));
            }
        }
    }
    asked
}

fn context(source: &mut Source) -> Keys {
    let mut context = Keys::new();
    for (key, kind) in KEYS {
        if source.percent(30) {
            continue;
        }
        let mut word = || (*source.pick(kind.words())).to_owned();
        let (first, second) = (word(), word());
        let value = match source.below(if *key == "aws:TagKeys" { 3 } else { 14 }) {
            0 => ContextValue::Many(vec![first, second]),
            1 => ContextValue::Many(vec![first]),
            2 if source.percent(50) => ContextValue::Many(Vec::new()),
            _ => ContextValue::One(first),
        };
        context.insert(key.to_lowercase(), value);
    }
    context
}

pub(super) fn set(source: &mut Source, asked: &Asked<'_>) -> Set {
    let mut documents = |kind, name, most: usize| -> Vec<Document> {
        (0..source.below(most + 1)).map(|_| document(source, kind, name, asked)).collect()
    };
    let identity = documents(PolicyKind::Identity, "identity", 3);
    let mut set = Set { identity, ..Set::default() };
    if source.percent(20) {
        set.boundary =
            (0..source.count(2)).map(|_| generous(source, PolicyKind::Boundary, "boundary", asked)).collect();
    }
    if source.percent(20) {
        let policies =
            (0..source.below(3)).map(|_| generous(source, PolicyKind::Session, "session", asked)).collect();
        set.session = Some(policies);
    }
    let takes_role = asked.action.starts_with("sts:A") || asked.action.starts_with("sts:T");
    let kind = match source.below(6) {
        _ if takes_role && source.percent(80) => Some((PolicyKind::Trust, "trust")),
        0 | 1 => Some((PolicyKind::RepositoryPolicy, "repository")),
        2 => Some((PolicyKind::RegistryPolicy, "registry")),
        3 => Some((PolicyKind::ResourcePolicy, "resource")),
        _ => None,
    };
    if let Some((kind, name)) = kind {
        set.resource = (0..source.count(2)).map(|_| document(source, kind, name, asked)).collect();
    }
    if source.percent(20) {
        set.scps = levels(source, PolicyKind::ServiceControl, "scp", asked);
    }
    if source.percent(20) {
        set.rcps = levels(source, PolicyKind::ResourceControl, "rcp", asked);
    }
    set
}

fn levels(source: &mut Source, kind: PolicyKind, name: &str, asked: &Asked<'_>) -> Vec<Vec<Document>> {
    let level =
        |source: &mut Source| (0..source.count(2)).map(|_| generous(source, kind, name, asked)).collect();
    (0..source.count(3)).map(|_| if source.percent(2) { Vec::new() } else { level(source) }).collect()
}

/// A document that mostly allows everything, so that others get to decide.
fn generous(source: &mut Source, kind: PolicyKind, name: &str, asked: &Asked<'_>) -> Document {
    if source.percent(45) {
        return document(source, kind, name, asked);
    }
    let mut all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    if kind == PolicyKind::ResourceControl {
        all["Principal"] = json!("*");
    }
    let mut document = document(source, kind, name, asked);
    let statements = document.json["Statement"].as_array_mut().expect("a list");
    statements.retain(|statement| statement["Effect"] == "Deny");
    statements.push(all);
    document
}

fn document(source: &mut Source, kind: PolicyKind, name: &str, asked: &Asked<'_>) -> Document {
    let statements: Vec<Value> = (0..source.count(3)).map(|_| statement(source, kind, asked)).collect();
    let mut json = json!({"Statement": statements});
    match source.below(10) {
        0 => {}
        1 => json["Version"] = json!("2008-10-17"),
        _ => json["Version"] = json!("2012-10-17"),
    }
    Document { name: format!("{name} {}", source.below(1 << 30)), kind, json }
}

fn statement(source: &mut Source, kind: PolicyKind, asked: &Asked<'_>) -> Value {
    let deny = source.percent(14);
    let mut statement = Map::new();
    statement.insert("Effect".to_owned(), json!(if deny { "Deny" } else { "Allow" }));
    let (element, negated) = named_or_not(source, "Action");
    let actions = several(source, |source| action(source, kind, asked, negated));
    statement.insert(element, actions);
    let resource = match kind {
        PolicyKind::RepositoryPolicy | PolicyKind::Trust => false,
        PolicyKind::ResourcePolicy => source.percent(60),
        _ => true,
    };
    if resource {
        let (element, negated) = named_or_not(source, "Resource");
        let resources = several(source, |source| arn_pattern(source, kind, asked, negated));
        statement.insert(element, resources);
    }
    match kind {
        PolicyKind::ResourceControl => {
            statement.insert("Principal".to_owned(), json!("*"));
        }
        PolicyKind::RepositoryPolicy
        | PolicyKind::RegistryPolicy
        | PolicyKind::ResourcePolicy
        | PolicyKind::Trust => {
            let element = if deny && source.percent(30) { "NotPrincipal" } else { "Principal" };
            statement.insert(element.to_owned(), principal(source, kind, asked));
        }
        _ => {}
    }
    for _ in 0..[0, 0, 1, 1, 2][source.below(5)] {
        condition(source, &mut statement, asked);
    }
    Value::Object(statement)
}

/// One time in ten the element that names what is not meant.
fn named_or_not(source: &mut Source, element: &str) -> (String, bool) {
    let negated = source.percent(10);
    (if negated { format!("Not{element}") } else { element.to_owned() }, negated)
}

fn several(source: &mut Source, mut word: impl FnMut(&mut Source) -> String) -> Value {
    let words: Vec<String> = (0..[1, 1, 2, 3][source.below(4)]).map(|_| word(source)).collect();
    if words.len() == 1 && source.percent(60) { json!(words[0]) } else { json!(words) }
}

fn action(source: &mut Source, kind: PolicyKind, asked: &Asked<'_>, negated: bool) -> String {
    if kind == PolicyKind::Trust {
        return (*source.pick(&["sts:*", "sts:AssumeRole", "sts:TagSession", "STS:assume*"])).to_owned();
    }
    if source.percent(if negated { 5 } else { 15 }) {
        return "*".to_owned();
    }
    let base = if source.percent(if negated { 30 } else { 75 }) {
        asked.action.as_str()
    } else {
        source.pick(ACTIONS).0
    };
    let Some((service, operation)) = base.split_once(':') else { return "ecr:*".to_owned() };
    let operation = match source.below(4) {
        0 => "*".to_owned(),
        1 => with_wildcards(source, operation),
        2 => operation.to_uppercase(),
        _ => operation.to_owned(),
    };
    format!("{service}:{operation}")
}

/// Puts a star in place of some characters, or a question mark in place of one, perhaps twice.
fn with_wildcards(source: &mut Source, text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..source.count(2) {
        if characters.is_empty() {
            break;
        }
        let from = source.below(characters.len());
        if source.percent(40) {
            characters[from] = '?';
        } else {
            let to = from + source.below(characters.len() - from + 1);
            characters.splice(from..to, ['*']);
        }
    }
    characters.into_iter().collect()
}

fn arn_pattern(source: &mut Source, kind: PolicyKind, asked: &Asked<'_>, negated: bool) -> String {
    let pads = matches!(kind, PolicyKind::Identity | PolicyKind::Session | PolicyKind::Boundary);
    if source.percent(if negated { 5 } else { 20 }) {
        return "*".to_owned();
    }
    let base = if source.percent(if negated { 30 } else { 80 }) && asked.resource != "*" {
        asked.resource.clone()
    } else {
        let (_, resources) = source.pick(ACTIONS);
        (*source.pick(resources)).to_owned()
    };
    if base == "*" {
        return "arn:aws:ecr:*:*:*".to_owned();
    }
    let mut segments: Vec<String> = base.splitn(6, ':').map(str::to_owned).collect();
    for segment in &mut segments[1..5] {
        match source.below(5) {
            0 => *segment = "*".to_owned(),
            1 => *segment = with_wildcards(source, segment),
            _ => {}
        }
    }
    segments[5] = match source.below(5) {
        0 => segments[5].clone(),
        1 => segments[5].replace('*', "${*}").replace('?', "${?}"),
        2 => with_variable(source, &segments[5], &asked.context),
        3 => format!("{}*", segments[5].split('/').next().unwrap_or("")),
        _ => with_wildcards(source, &segments[5]),
    };
    if pads && source.percent(8) {
        segments.truncate(source.count(5));
    }
    segments.join(":")
}

const VARIABLES: &[&str] = &[
    "${aws:PrincipalTag/Team}",
    "${AWS:principaltag/TEAM}",
    "${aws:username, 'red'}",
    "${aws:ResourceTag/Team, 'r*d'}",
    "${no:key}",
    "${no:key, 'red'}",
    "${aws:TagKeys}",
    "${aws:TagKeys, 'red'}",
    "${*}",
    "${?}",
    "${$}",
];

/// Puts a variable in place of what it stands for in this request, where that occurs, or of something.
fn with_variable(source: &mut Source, text: &str, context: &Keys) -> String {
    for (key, value) in context {
        let ContextValue::One(value) = value else { continue };
        if value.len() > 1 && text.contains(value.as_str()) && source.percent(80) {
            return text.replacen(value.as_str(), &format!("${{{key}}}"), 1);
        }
    }
    let at = text.char_indices().map(|(at, _)| at).nth(source.below(text.chars().count().max(1)));
    let (before, after) = text.split_at(at.unwrap_or(0));
    format!("{before}{}{}", source.pick(VARIABLES), if source.percent(50) { after } else { "" })
}

fn principal(source: &mut Source, kind: PolicyKind, asked: &Asked<'_>) -> Value {
    if source.percent(12) {
        return json!("*");
    }
    let mut element = Map::new();
    let mut named: Vec<String> = Vec::new();
    let own: Vec<&str> = match asked.principal {
        Principal::Root { account } => vec![account],
        Principal::User { account, arn } => vec![account, arn, arn],
        Principal::RoleSession { account, role_arn, session_arn, .. } => {
            vec![account, role_arn, role_arn, if session_arn.is_empty() { role_arn } else { session_arn }]
        }
        Principal::FederatedUser { account, user_arn, session_arn } => vec![account, user_arn, session_arn],
        Principal::Anonymous | Principal::Service { .. } | Principal::WebIdentity { .. } => vec!["*"],
    };
    for _ in 0..source.count(3) {
        let own = source.percent(60).then(|| (*source.pick(&own)).to_owned());
        named.push(own.unwrap_or_else(|| (*source.pick(AWS_PRINCIPALS)).to_owned()));
    }
    element.insert("AWS".to_owned(), json!(named));
    let of_service = matches!(asked.principal, Principal::Service { .. });
    if source.percent(if of_service { 60 } else { 15 }) {
        element.insert("Service".to_owned(), json!(source.pick(SERVICES)));
    }
    // Trust in a provider without conditions is refused when it is written.
    if kind != PolicyKind::Trust && source.percent(15) {
        element.insert("Federated".to_owned(), json!(PROVIDER));
    }
    Value::Object(element)
}

fn condition(source: &mut Source, statement: &mut Map<String, Value>, asked: &Asked<'_>) {
    let kind = *source.pick(&TYPES);
    let keys: Vec<&str> = KEYS.iter().filter(|(_, of)| *of == kind).map(|(key, _)| *key).collect();
    let key = *source.pick(&keys);
    let (operator, values) = if source.percent(8) {
        ("Null".to_owned(), json!(source.pick(&["true", "false"])))
    } else {
        let list = matches!(asked.context.get(&key.to_lowercase()), Some(ContextValue::Many(_)));
        let prefix = match source.below(10) {
            _ if list && source.percent(70) => *source.pick(&["ForAllValues:", "ForAnyValue:"]),
            0 => "ForAllValues:",
            1 => "ForAnyValue:",
            _ => "",
        };
        let suffix = if source.percent(20) { "IfExists" } else { "" };
        let operator = source.pick(kind.operators());
        let values: Vec<String> =
            (0..[1, 1, 2, 3][source.below(4)]).map(|_| value(source, kind, key, asked)).collect();
        let values = if values.len() == 1 { json!(values[0]) } else { json!(values) };
        let values = if source.percent(1) { json!([]) } else { values };
        (format!("{prefix}{operator}{suffix}"), values)
    };
    let written = if source.percent(10) { key.to_uppercase() } else { key.to_owned() };
    let conditions = statement.entry("Condition").or_insert_with(|| json!({}));
    let conditions = conditions.as_object_mut().expect("an object");
    let keys = conditions.entry(operator).or_insert_with(|| json!({})).as_object_mut().expect("an object");
    if !keys.keys().any(|known| known.eq_ignore_ascii_case(&written)) {
        keys.insert(written, values);
    }
}

/// A value of a policy: often what the request has, or nearly.
fn value(source: &mut Source, kind: Type, key: &str, asked: &Asked<'_>) -> String {
    let given = match asked.context.get(&key.to_lowercase()) {
        Some(ContextValue::One(value)) => Some(value.clone()),
        Some(ContextValue::Many(values)) if !values.is_empty() => Some(source.pick(values).clone()),
        _ => None,
    };
    let near = given.filter(|_| source.percent(65));
    match kind {
        Type::Address => match near {
            Some(address) if address != "nowhere" => address,
            _ => (*source.pick(BLOCKS)).to_owned(),
        },
        Type::Number | Type::Bool | Type::Date | Type::Binary => {
            let words = kind.words();
            let good: Vec<&str> =
                words.iter().copied().filter(|word| !["ten", "maybe"].contains(word)).collect();
            near.filter(|near| good.contains(&near.as_str()))
                .unwrap_or_else(|| (*source.pick(&good)).to_owned())
        }
        Type::Text => {
            let base = near.unwrap_or_else(|| (*source.pick(kind.words())).to_owned());
            match source.below(6) {
                0 => with_wildcards(source, &base),
                1 => base.to_uppercase(),
                2 => with_variable(source, &base, &asked.context),
                3 => base.replace('*', "${*}").replace('?', "${?}"),
                _ => base,
            }
        }
        Type::Arn => {
            let base = near.unwrap_or_else(|| (*source.pick(kind.words())).to_owned());
            if base == "task" || source.percent(8) {
                return "*".to_owned();
            }
            let mut segments: Vec<String> = base.splitn(6, ':').map(str::to_owned).collect();
            let which = source.count(5);
            segments[which] = match source.below(4) {
                0 => "*".to_owned(),
                1 => with_wildcards(source, &segments[which]),
                2 => with_variable(source, &segments[which], &asked.context),
                _ => segments[which].clone(),
            };
            segments.join(":")
        }
    }
}
