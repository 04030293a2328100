//! Reading one statement, with every error in it.

use super::{Actions, PrincipalElement, Resources, Statement};
use crate::actions;
use crate::condition::{self, Condition, Quantifier};
use crate::context::Context;
use crate::document::{Effect, PolicyKind};
use crate::finding::Findings;
use crate::json::{Member, Node};
use crate::pattern::{ActionBuffer, ActionPattern, ArnPattern, FoldedAction, Variable};
use crate::principal::element::{self, Names};

/// Whether an element stands in a kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
    Forbidden,
}

/// What the place of a policy asks of its statements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grammar {
    principal: Presence,
    resource: Presence,
    /// Incomplete ARNs are filled up with stars.
    pads_arns: bool,
}

impl Grammar {
    pub(crate) fn of(kind: PolicyKind) -> Grammar {
        let (principal, resource) = match kind {
            PolicyKind::Identity
            | PolicyKind::Session
            | PolicyKind::Boundary
            | PolicyKind::ServiceControl => (Presence::Forbidden, Presence::Required),
            PolicyKind::RepositoryPolicy | PolicyKind::Trust => (Presence::Required, Presence::Forbidden),
            PolicyKind::ResourcePolicy => (Presence::Required, Presence::Optional),
            PolicyKind::RegistryPolicy => (Presence::Required, Presence::Required),
            PolicyKind::ResourceControl => (Presence::Optional, Presence::Required),
        };
        let pads_arns = matches!(kind, PolicyKind::Identity | PolicyKind::Session | PolicyKind::Boundary);
        Grammar { principal, resource, pads_arns }
    }

    pub(crate) fn takes_principal(self) -> bool {
        self.principal != Presence::Forbidden
    }
}

struct Reader<'f, 't> {
    kind: PolicyKind,
    grammar: Grammar,
    variables: bool,
    findings: &'f mut Findings<'t>,
    text_line: u32,
}

/// The elements of a statement, found by name.
#[derive(Default)]
struct Elements<'n> {
    sid: Option<&'n Member>,
    effect: Option<&'n Member>,
    principal: Option<&'n Member>,
    action: Option<&'n Member>,
    resource: Option<&'n Member>,
    condition: Option<&'n Member>,
}

/// The statement, which stands in `text_line`. None when it has an error; that is then among the findings.
pub(crate) fn read_statement(
    node: &Node,
    kind: PolicyKind,
    variables: bool,
    text_line: u32,
    findings: &mut Findings<'_>,
) -> Option<Statement> {
    Reader { kind, grammar: Grammar::of(kind), variables, findings, text_line }.statement(node)
}

impl Reader<'_, '_> {
    fn statement(&mut self, node: &Node) -> Option<Statement> {
        let errors_before = self.findings.errors();
        let Some(members) = node.as_object() else {
            self.findings.error(node.start, format!("a statement is an object, not {}", node.kind()));
            return None;
        };
        let elements = self.sort_elements(members);
        let sid = elements.sid.and_then(|member| self.sid(member));
        let effect = self.effect(node, elements.effect);
        let principal = self.principal(node, elements.principal, effect);
        let actions = self.actions(node, elements.action);
        let resources = self.resources(node, elements.resource);
        let conditions = elements
            .condition
            .map_or_else(Vec::new, |member| condition::read(&member.value, self.variables, self.findings));
        if self.findings.errors() > errors_before {
            return None;
        }
        let required = required_variables(&resources, &conditions);
        let statement = Statement {
            sid,
            effect: effect?,
            line: self.text_line,
            principal: principal?,
            actions: actions?,
            resources: resources?,
            conditions,
            required,
        };
        self.review(node, &statement, elements.action);
        (self.findings.errors() == errors_before).then_some(statement)
    }

    fn sort_elements<'n>(&mut self, members: &'n [Member]) -> Elements<'n> {
        let mut elements = Elements::default();
        for member in members {
            let place = match member.key.as_str() {
                "Sid" => &mut elements.sid,
                "Effect" => &mut elements.effect,
                "Principal" | "NotPrincipal" => &mut elements.principal,
                "Action" | "NotAction" => &mut elements.action,
                "Resource" | "NotResource" => &mut elements.resource,
                "Condition" => &mut elements.condition,
                other => {
                    self.findings.error(member.key_at, format!("{other:?} is not an element of a statement"));
                    continue;
                }
            };
            if let Some(earlier) = place.filter(|earlier| earlier.key != member.key) {
                let message = format!("a statement has {} or {}, not both", earlier.key, member.key);
                self.findings.error(member.key_at, message);
            }
            *place = Some(member);
        }
        elements
    }

    fn sid(&mut self, member: &Member) -> Option<Box<str>> {
        let Some(text) = member.value.as_str() else {
            self.findings.error(member.value.start, format!("Sid is a string, not {}", member.value.kind()));
            return None;
        };
        let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // Repository policies of ECR bear Sids such as "new statement".
        if !good
            && !matches!(
                self.kind,
                PolicyKind::RepositoryPolicy | PolicyKind::RegistryPolicy | PolicyKind::ResourcePolicy
            )
        {
            self.findings.error(member.value.start, "a Sid is letters and digits");
        }
        (!text.is_empty()).then(|| text.into())
    }

    fn effect(&mut self, node: &Node, member: Option<&Member>) -> Option<Effect> {
        let Some(member) = member else {
            self.findings.error(node.start, "the statement has no Effect");
            return None;
        };
        match member.value.as_str() {
            Some("Allow") => Some(Effect::Allow),
            Some("Deny") => Some(Effect::Deny),
            _ => {
                self.findings.error(member.value.start, "Effect is \"Allow\" or \"Deny\"");
                None
            }
        }
    }

    fn principal(
        &mut self,
        node: &Node,
        member: Option<&Member>,
        effect: Option<Effect>,
    ) -> Option<PrincipalElement> {
        let Some(member) = member else {
            match self.grammar.principal {
                Presence::Required => {
                    self.findings.error(node.start, format!("{} needs a Principal", self.kind.described()));
                    return None;
                }
                Presence::Optional => {
                    let message = format!("{} has the Principal \"*\"", self.kind.described());
                    self.findings.warning(node.start, message);
                }
                Presence::Forbidden => {}
            }
            return Some(PrincipalElement::Attached);
        };
        if !self.grammar.takes_principal() {
            let message =
                format!("{} has no {}: it is attached to its principal", self.kind.described(), member.key);
            self.findings.error(member.key_at, message);
            return None;
        }
        let names = element::read(&member.value, self.findings);
        if self.kind == PolicyKind::ResourceControl && !(names.everyone && member.key == "Principal") {
            self.findings.error(member.key_at, "a resource control policy has the Principal \"*\"");
        }
        if member.key == "Principal" {
            return Some(PrincipalElement::Named(names));
        }
        if effect == Some(Effect::Allow) {
            self.findings.error(
                member.key_at,
                "NotPrincipal with Allow lets in everyone else, strangers too; name the principals instead",
            );
        } else {
            self.findings.warning(
                member.key_at,
                "NotPrincipal spares a caller only when its account, its user or role and its session are all \
                 listed, and never one with a permissions boundary; a condition on aws:PrincipalArn is clearer",
            );
        }
        Some(PrincipalElement::AllBut(names))
    }

    fn actions(&mut self, node: &Node, member: Option<&Member>) -> Option<Actions> {
        let Some(member) = member else {
            self.findings.error(node.start, "the statement has neither Action nor NotAction");
            return None;
        };
        let mut patterns = Vec::new();
        for (at, text) in self.strings(member) {
            match ActionPattern::compile(text) {
                Ok(pattern) if self.kind == PolicyKind::Trust && pattern.service() != Some("sts") => {
                    self.findings.error(at, "a trust policy speaks of sts actions only");
                }
                Ok(pattern) => {
                    if let Some(message) = actions::oddity(&pattern, text) {
                        self.findings.warning(at, message);
                    }
                    patterns.push(pattern);
                }
                Err(message) => self.findings.error(at, message),
            }
        }
        Some(Actions { negated: member.key == "NotAction", patterns })
    }

    fn resources(&mut self, node: &Node, member: Option<&Member>) -> Option<Resources> {
        let Some(member) = member else {
            if self.grammar.resource == Presence::Required {
                self.findings.error(node.start, "the statement has neither Resource nor NotResource");
                return None;
            }
            return Some(Resources::Implied);
        };
        if self.grammar.resource == Presence::Forbidden {
            let message =
                format!("{} has no {}: it speaks of what it belongs to", self.kind.described(), member.key);
            self.findings.error(member.key_at, message);
            return None;
        }
        let mut patterns = Vec::new();
        for (at, text) in self.strings(member) {
            match ArnPattern::resource(text, self.variables, self.grammar.pads_arns) {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => self.findings.error(at, format!("{text:?}: {message}")),
            }
            if !self.variables && text.contains("${") {
                self.findings.warning(at, "without \"Version\": \"2012-10-17\" a variable is plain text");
            }
        }
        Some(Resources::Listed { negated: member.key == "NotResource", patterns })
    }

    fn strings<'n>(&mut self, member: &'n Member) -> Vec<(usize, &'n str)> {
        let items = member.value.items();
        if items.is_empty() {
            self.findings.error(member.value.start, format!("{} is an empty list", member.key));
        }
        let mut strings = Vec::new();
        for item in items {
            match item.as_str() {
                Some(text) => strings.push((item.start, text)),
                None => {
                    let message = format!("{} holds strings, not {}", member.key, item.kind());
                    self.findings.error(item.start, message);
                }
            }
        }
        strings
    }

    /// What is well formed and yet wrong, or dangerous.
    fn review(&mut self, node: &Node, statement: &Statement, action: Option<&Member>) {
        if statement.effect == Effect::Deny {
            return;
        }
        if let PrincipalElement::Named(names) = &statement.principal {
            if self.kind == PolicyKind::Trust && covers_web_identity(statement) {
                self.review_web_identity(node, names, &statement.conditions);
            }
            if names.everyone && statement.conditions.is_empty() && self.kind != PolicyKind::ResourceControl {
                self.findings.warning(node.start, "this allows everyone, strangers without credentials too");
            }
        }
        if let Some(member) = action.filter(|member| member.key == "NotAction") {
            let grants = !matches!(self.kind, PolicyKind::ServiceControl | PolicyKind::ResourceControl);
            if grants {
                let message = "NotAction with Allow allows every action but these, future ones too";
                self.findings.warning(member.key_at, message);
            }
        }
        for condition in &statement.conditions {
            let guarded = || {
                let same_key = |other: &&Condition| other.key() == condition.key();
                statement.conditions.iter().filter(same_key).any(Condition::demands_presence)
            };
            if condition.quantifier() == Quantifier::ForAllValues && !guarded() {
                let message = format!(
                    "ForAllValues is also true when {key} is missing; add \"Null\": {{\"{key}\": \"false\"}}",
                    key = condition.shown_key()
                );
                self.findings.warning(node.start, message);
            }
        }
    }

    /// A token of a shared issuer says little by itself: without `aud` and `sub` anybody with an account
    /// at that issuer could take the role.
    fn review_web_identity(&mut self, node: &Node, names: &Names, conditions: &[Condition]) {
        for provider in &names.providers {
            let Some((_, issuer)) = provider.split_once("oidc-provider/") else { continue };
            for claim in ["aud", "sub"] {
                let key = format!("{issuer}:{claim}").to_lowercase();
                let narrowed =
                    conditions.iter().any(|condition| condition.key() == key && condition.narrows());
                if !narrowed {
                    let message =
                        format!("trust in {issuer} needs a condition on {issuer}:{claim} other than \"*\"");
                    self.findings.error(node.start, message);
                }
            }
        }
    }
}

fn covers_web_identity(statement: &Statement) -> bool {
    let buffer = ActionBuffer::fold("sts:AssumeRoleWithWebIdentity");
    let action = FoldedAction::of(&buffer);
    let named = statement.actions.patterns.iter().any(|pattern| pattern.matches(&action, &Context::new()));
    named != statement.actions.negated
}

fn required_variables(resources: &Option<Resources>, conditions: &[Condition]) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    if let Some(Resources::Listed { patterns, .. }) = resources {
        variables.extend(patterns.iter().flat_map(ArnPattern::variables).cloned());
    }
    variables.extend(conditions.iter().flat_map(Condition::variables).cloned());
    variables
}
