//! A policy document, read and compiled.
//!
//! Reading reports every error it can find. What comes out can be decided with, without looking at
//! the text again; an index over action names leaves few statements to look at for each request.

mod index;

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use crate::finding::{Finding, Findings};
use crate::json::{self, Node, Value};
use crate::pattern::ActionPattern;
use crate::statement::Statement;
use crate::statement::read::{Grammar, read_statement};
use index::ActionIndex;
pub(crate) use index::Matches;

/// Where a document stands decides its grammar and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKind {
    /// Attached to a user, group or role, managed or inline.
    Identity,
    /// Of one repository: no Resource element, it means that repository.
    RepositoryPolicy,
    RegistryPolicy,
    /// Of any resource of any service: with or without a Resource element. For simulations.
    ResourcePolicy,
    /// Who may assume a role: no Resource element, it means that role.
    Trust,
    Session,
    Boundary,
    ServiceControl,
    ResourceControl,
}

impl PolicyKind {
    /// The most characters a document may have, white space not counted. Where a kind has several
    /// quotas in IAM (inline or managed, user or role) this is the largest; the API holds the others.
    pub fn size_limit(self) -> usize {
        match self {
            PolicyKind::Identity | PolicyKind::RepositoryPolicy | PolicyKind::RegistryPolicy => 10_240,
            PolicyKind::ResourcePolicy => 32_768,
            PolicyKind::Boundary | PolicyKind::Session => 6_144,
            PolicyKind::Trust => 4_096,
            PolicyKind::ServiceControl | PolicyKind::ResourceControl => 5_120,
        }
    }

    /// As it stands in messages: "an identity policy".
    pub fn described(self) -> &'static str {
        match self {
            PolicyKind::Identity => "an identity policy",
            PolicyKind::RepositoryPolicy => "a repository policy",
            PolicyKind::RegistryPolicy => "a registry policy",
            PolicyKind::ResourcePolicy => "a resource policy",
            PolicyKind::Trust => "a trust policy",
            PolicyKind::Session => "a session policy",
            PolicyKind::Boundary => "a permissions boundary",
            PolicyKind::ServiceControl => "a service control policy",
            PolicyKind::ResourceControl => "a resource control policy",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Effect {
    Allow,
    Deny,
}

/// A policy, parsed once into compiled matchers.
#[derive(Debug)]
pub struct Policy {
    kind: PolicyKind,
    statements: Box<[Statement]>,
    index: ActionIndex,
    warnings: Vec<Finding>,
    size: usize,
}

impl Policy {
    /// Reads a document. On error the findings hold every error and warning, in order of place.
    pub fn parse(text: &str, kind: PolicyKind) -> Result<Policy, Vec<Finding>> {
        let mut findings = Findings::new(text);
        if is_endless(text, kind) {
            return Err(endless(0, text, kind, findings));
        }
        let Some(node) = json::read(text, &mut findings) else {
            return Err(findings.into_sorted());
        };
        Policy::from_node(text, &node, kind, findings)
    }

    /// Compiles a document that stands inside a larger text, such as an inline policy of a user's file.
    /// Findings have their places in that text.
    pub fn parse_part(text: &str, node: &Node, kind: PolicyKind) -> Result<Policy, Vec<Finding>> {
        let findings = Findings::new(text);
        let part = &text[node.start..node.end];
        if is_endless(part, kind) {
            return Err(endless(node.start, part, kind, findings));
        }
        Policy::from_node(text, node, kind, findings)
    }

    fn from_node(
        text: &str,
        node: &Node,
        kind: PolicyKind,
        mut findings: Findings<'_>,
    ) -> Result<Policy, Vec<Finding>> {
        let source = &text[node.start..node.end];
        let size = source.chars().filter(|character| !matches!(character, ' ' | '\t' | '\n' | '\r')).count();
        if size > kind.size_limit() {
            let (described, limit) = (kind.described(), kind.size_limit());
            findings.error(
                node.start,
                format!(
                    "{described} has at most {limit} characters without white space; this one has {size}"
                ),
            );
        }
        check_characters(node, &mut findings);
        let statements = read_document(node, kind, &mut findings);
        if findings.has_errors() {
            return Err(findings.into_sorted());
        }
        let index = ActionIndex::build(&statements);
        let statements = statements.into_boxed_slice();
        Ok(Policy { kind, statements, index, warnings: findings.into_sorted(), size })
    }

    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// What is questionable about a policy that is nevertheless in use.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// The services whose actions it names, in lower case. `*` names none, and what a NotAction leaves out counts
    /// for nothing here.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        let named = self.statements.iter().filter(|statement| !statement.actions_are_negated());
        named.flat_map(|statement| statement.actions()).filter_map(ActionPattern::service)
    }

    /// Characters without white space, as the quotas of IAM count.
    pub fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }

    pub(crate) fn index(&self) -> &ActionIndex {
        &self.index
    }
}

/// A policy under the name that decisions and the audit log report (its ARN or name).
#[derive(Debug, Clone)]
pub struct Named {
    pub name: Arc<str>,
    pub policy: Arc<Policy>,
}

impl Named {
    pub fn new(name: impl Into<Arc<str>>, policy: impl Into<Arc<Policy>>) -> Self {
        Named { name: name.into(), policy: policy.into() }
    }
}

fn read_document(node: &Node, kind: PolicyKind, findings: &mut Findings<'_>) -> Vec<Statement> {
    let Some(members) = node.as_object() else {
        findings.error(node.start, format!("a policy document is an object, not {}", node.kind()));
        return Vec::new();
    };
    let mut version = None;
    let mut statement = None;
    for member in members {
        match member.key.as_str() {
            "Version" => version = Some(&member.value),
            "Statement" => statement = Some(&member.value),
            "Id" if !Grammar::of(kind).takes_principal() => {
                findings.error(member.key_at, format!("{} has no Id", kind.described()));
            }
            "Id" if member.value.as_str().is_none() => {
                findings.error(member.value.start, format!("Id is a string, not {}", member.value.kind()));
            }
            "Id" => {}
            other => {
                findings.error(member.key_at, format!("{other:?} is not an element of a policy document"))
            }
        }
    }
    let variables = version.is_some_and(|node| read_version(node, findings));
    let Some(list) = statement else {
        findings.error(node.start, "the document has no Statement");
        return Vec::new();
    };
    if list.items().is_empty() {
        findings.error(list.start, "Statement is an empty list");
    }
    let mut statements: Vec<Statement> = Vec::new();
    let mut sids = HashSet::new();
    // Counted from statement to statement: there can be many.
    let (mut line, mut counted) = (1, 0);
    for item in list.items() {
        line += findings.text()[counted..item.start].matches('\n').count();
        counted = item.start;
        let text_line = u32::try_from(line).unwrap_or(u32::MAX);
        let Some(statement) = read_statement(item, kind, variables, text_line, findings) else { continue };
        if let Some(sid) = statement.sid()
            && !sids.insert(sid.to_owned())
        {
            findings.error(item.start, format!("a second statement with the Sid {sid:?}"));
        }
        statements.push(statement);
    }
    statements
}

/// Whether the version has policy variables; the older one takes `${` for plain text.
fn read_version(node: &Node, findings: &mut Findings<'_>) -> bool {
    match node.as_str() {
        Some("2012-10-17") => true,
        Some("2008-10-17") => false,
        _ => {
            findings.error(node.start, "Version is \"2012-10-17\" (or the older \"2008-10-17\")");
            true
        }
    }
}

/// Far more than any quota: what is longer is not worth reading at all.
fn is_endless(source: &str, kind: PolicyKind) -> bool {
    source.len() > 16 * kind.size_limit()
}

fn endless(at: usize, source: &str, kind: PolicyKind, mut findings: Findings<'_>) -> Vec<Finding> {
    findings.error(at, format!("{} of {} bytes is too large", kind.described(), source.len()));
    findings.into_sorted()
}

/// IAM allows tab, line feed, carriage return and U+0020 to U+00FF.
fn check_characters(node: &Node, findings: &mut Findings<'_>) {
    let foreign = |text: &str| {
        text.chars().find(|character| !matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}'))
    };
    match &node.value {
        Value::String(text) => {
            if let Some(character) = foreign(text) {
                findings.error(node.start, format!("the character {character:?} is not allowed in policies"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_characters(item, findings)),
        Value::Object(members) => {
            for member in members {
                if let Some(character) = foreign(&member.key) {
                    let message = format!("the character {character:?} is not allowed in policies");
                    findings.error(member.key_at, message);
                }
                check_characters(&member.value, findings);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests;
