//! Reading one case. Every error of a document is told; a field that is nearly one of ours is one.

use std::sync::Arc;

use registry_types::{AccountId, Arn};

use super::caller::Caller;
use super::{Batch, named};
use crate::context::{Context, ContextValue};
use crate::document::{Named, Policy, PolicyKind};
use crate::finding::{Finding, Findings, Severity};
use crate::json::{self, Member, Node, Value};
use crate::spelling;

pub(super) const IDENTITY: &str = "identityPolicies";
pub(super) const BOUNDARY: &str = "permissionBoundaryPolicies";
pub(super) const RESOURCE: &str = "resourcePolicy";
pub(super) const SESSION: &str = "sessionPolicy";
pub(super) const SERVICE_CONTROL: &str = "serviceControlPolicies";
pub(super) const RESOURCE_CONTROL: &str = "resourceControlPolicies";
const REQUEST: &str = "request";

const FIELDS: [&str; 7] = [IDENTITY, BOUNDARY, RESOURCE, SESSION, SERVICE_CONTROL, RESOURCE_CONTROL, REQUEST];
const REQUEST_FIELDS: [&str; 5] = ["principal", "action", "resource", "resourceAccount", "context"];

#[derive(Debug)]
pub(super) struct Case {
    pub(super) identity: Vec<Named>,
    pub(super) boundary: Vec<Named>,
    pub(super) session: Option<Vec<Named>>,
    pub(super) resource_policy: Option<Named>,
    pub(super) service_control: Vec<Vec<Named>>,
    pub(super) resource_control: Vec<Vec<Named>>,
    pub(super) caller: Caller,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) resource_account: String,
    pub(super) context: Context,
    pub(super) ignored: Vec<String>,
}

struct Reader<'t, 'b> {
    line: &'t str,
    batch: &'b mut Batch,
    ignored: Vec<String>,
}

pub(super) fn read(line: &str, batch: &mut Batch) -> Result<Case, String> {
    let mut findings = Findings::new(line);
    let node = json::read(line, &mut findings);
    let Some(node) = node.filter(|_| !findings.has_errors()) else {
        return Err(told("the line", &findings.into_sorted()));
    };
    let Some(members) = node.as_object() else {
        return Err(format!("a case is a JSON object, not {}", node.kind()));
    };
    let mut reader = Reader { line, batch, ignored: Vec::new() };
    reader.know(members, &FIELDS, "")?;
    let identity = reader.documents(&node, IDENTITY, PolicyKind::Identity)?;
    let boundary = reader.documents(&node, BOUNDARY, PolicyKind::Boundary)?;
    let session = reader.single(&node, SESSION, PolicyKind::Session)?.map(|policy| vec![policy]);
    let resource_policy = reader.single(&node, RESOURCE, PolicyKind::ResourcePolicy)?;
    let service_control = reader.levels(&node, SERVICE_CONTROL, PolicyKind::ServiceControl)?;
    let resource_control = reader.levels(&node, RESOURCE_CONTROL, PolicyKind::ResourceControl)?;
    let request = given(&node, REQUEST).ok_or("the case has no \"request\"")?;
    let Some(fields) = request.as_object() else {
        return Err(format!("\"request\" is an object, not {}", request.kind()));
    };
    reader.know(fields, &REQUEST_FIELDS, "request.")?;
    let context = given(request, "context").map_or_else(|| Ok(Context::new()), read_context)?;
    let principal = text(request, "principal")?.unwrap_or("*");
    let caller =
        Caller::read(principal, &context).map_err(|message| format!("request.principal: {message}"))?;
    let action = text(request, "action")?.ok_or("the request has no \"action\"")?;
    check_action(action)?;
    let resource = text(request, "resource")?.ok_or("the request has no \"resource\"")?;
    let resource_account = resource_account(request, resource)?;
    Ok(Case {
        identity,
        boundary,
        session,
        resource_policy,
        service_control,
        resource_control,
        caller,
        action: action.to_owned(),
        resource: resource.to_owned(),
        resource_account,
        context,
        ignored: reader.ignored,
    })
}

impl Reader<'_, '_> {
    /// A field that is nearly one of ours would change the answer by its absence; others mean nothing.
    fn know(&mut self, members: &[Member], fields: &[&'static str], place: &str) -> Result<(), String> {
        for member in members {
            if fields.contains(&member.key.as_str()) {
                continue;
            }
            if let Some(near) = spelling::nearest(fields.iter().copied(), &member.key) {
                return Err(format!("there is no field {:?}; is {near:?} meant?", member.key));
            }
            self.ignored.push(format!("{place}{}", member.key));
        }
        Ok(())
    }

    fn documents(&mut self, node: &Node, field: &str, kind: PolicyKind) -> Result<Vec<Named>, String> {
        let Some(list) = given(node, field) else { return Ok(Vec::new()) };
        self.list(list, field, kind)
    }

    fn levels(&mut self, node: &Node, field: &str, kind: PolicyKind) -> Result<Vec<Vec<Named>>, String> {
        let Some(levels) = given(node, field) else { return Ok(Vec::new()) };
        let items = levels
            .as_array()
            .ok_or_else(|| format!("{field:?} is a list of levels, not {}", levels.kind()))?;
        let level = |(index, item): (usize, &Node)| self.list(item, &format!("{field}[{index}]"), kind);
        items.iter().enumerate().map(level).collect()
    }

    fn list(&mut self, list: &Node, field: &str, kind: PolicyKind) -> Result<Vec<Named>, String> {
        let items =
            list.as_array().ok_or_else(|| format!("{field} is a list of documents, not {}", list.kind()))?;
        let document =
            |(index, item): (usize, &Node)| self.document(item, &format!("{field}[{index}]"), kind);
        items.iter().enumerate().map(document).collect()
    }

    fn single(&mut self, node: &Node, field: &str, kind: PolicyKind) -> Result<Option<Named>, String> {
        given(node, field).map(|document| self.document(document, field, kind)).transpose()
    }

    fn document(&mut self, node: &Node, place: &str, kind: PolicyKind) -> Result<Named, String> {
        let source = &self.line[node.start..node.end];
        if let Some(policy) = self.batch.known(kind, source) {
            return Ok(named(place, policy));
        }
        let policy = Policy::parse_part(self.line, node, kind).map_err(|findings| told(place, &findings))?;
        let policy = Arc::new(policy);
        self.batch.remember(kind, source, &policy);
        Ok(named(place, policy))
    }
}

/// A field that is there and not null.
fn given<'n>(node: &'n Node, field: &str) -> Option<&'n Node> {
    node.get(field).filter(|node| node.value != Value::Null)
}

fn text<'n>(request: &'n Node, field: &str) -> Result<Option<&'n str>, String> {
    let Some(node) = given(request, field) else { return Ok(None) };
    node.as_str().map(Some).ok_or_else(|| format!("request.{field} is a string, not {}", node.kind()))
}

fn check_action(action: &str) -> Result<(), String> {
    let good = action.split_once(':').is_some_and(|(service, operation)| {
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        plain(service) && plain(operation)
    });
    if good {
        Ok(())
    } else {
        Err(format!("request.action: {action:?} is not one action, service:Operation"))
    }
}

fn resource_account(request: &Node, resource: &str) -> Result<String, String> {
    let arn = match resource {
        "*" => None,
        _ => Some(resource.parse::<Arn>().map_err(|_| {
            format!("request.resource: {resource:?} is neither \"*\" nor an ARN of six parts")
        })?),
    };
    if let Some(account) = text(request, "resourceAccount")? {
        return match account.parse::<AccountId>() {
            Ok(_) => Ok(account.to_owned()),
            Err(_) => Err(format!("request.resourceAccount: {account:?} is not twelve digits")),
        };
    }
    let of_arn = arn.as_ref().map(Arn::account).filter(|account| account.parse::<AccountId>().is_ok());
    of_arn
        .map(str::to_owned)
        .ok_or_else(|| "the request has no \"resourceAccount\", and its resource does not tell it".to_owned())
}

fn read_context(node: &Node) -> Result<Context, String> {
    let Some(members) = node.as_object() else {
        return Err(format!("request.context is an object, not {}", node.kind()));
    };
    let mut context = Context::new();
    for member in members {
        let key = &member.key;
        let scalar = |node: &Node| match &node.value {
            Value::String(text) | Value::Number(text) => Ok(text.clone()),
            Value::Bool(value) => Ok(value.to_string()),
            _ => Err(format!(
                "request.context: {key:?} holds a string or a list of strings, not {}",
                node.kind()
            )),
        };
        let value = match member.value.as_array() {
            Some(items) => ContextValue::Many(items.iter().map(scalar).collect::<Result<_, _>>()?),
            None => ContextValue::One(scalar(&member.value)?),
        };
        if context.holds(key) {
            return Err(format!("request.context: {key:?} stands there twice, but for its case"));
        }
        context.set(key, value);
    }
    Ok(context)
}

/// Errors with the column they have in the line.
fn told(place: &str, findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let errors: Vec<String> =
        errors.map(|finding| format!("column {}: {}", finding.column, finding.message)).collect();
    format!("{place}: {}", errors.join("; "))
}
