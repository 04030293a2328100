//! One case in one JSON object, as `berth policy simulate --batch` reads them line by line: every policy that
//! bears on a request stands beside it.
//!
//! Nothing is taken from anywhere else, so the same line always has the same answer.

mod caller;
mod case;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::document::{Effect, Named, Policy, PolicyKind};
use crate::evaluate::{Decision, PolicySet, Reason, Request, StatementRef, evaluate};
use crate::explain::{Considered, decide_with_grounds, explain};
use case::Case;

/// What a line is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `Allowed`, `ImplicitDeny` or `ExplicitDeny`.
    pub decision: &'static str,
    /// What it rests on: for `Allowed` one statement of each policy that had to allow, for `ExplicitDeny` every
    /// Deny that matches.
    pub statements: Vec<Ground>,
    /// For `ImplicitDeny`: the kind of policy that had to allow and does not, as the field it comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<&'static str>,
    /// Fields that mean nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A deciding statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ground {
    /// Where the document stands in the line: `identityPolicies[0]`, `serviceControlPolicies[1][0]`.
    pub policy: String,
    /// Counted from 0.
    pub statement: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    pub effect: Effect,
}

/// Decides cases, remembering the documents that come again and again.
#[derive(Debug, Default)]
pub struct Batch {
    compiled: HashMap<PolicyKind, HashMap<Box<str>, Arc<Policy>>>,
}

impl Batch {
    /// More documents than this are forgotten, all at once.
    const REMEMBERED: usize = 4096;

    pub fn new() -> Self {
        Batch::default()
    }

    /// Decides one case.
    ///
    /// # Errors
    /// Everything that keeps the case from being decided, in one message.
    pub fn decide(&mut self, line: &str) -> Result<Answer, String> {
        self.with_case(line, |request, set, case| {
            let (decision, grounds) = decide_with_grounds(request, set);
            let effect = match decision.reason {
                Reason::Allowed => Effect::Allow,
                Reason::ExplicitDeny(_) | Reason::ImplicitDeny(_) => Effect::Deny,
            };
            Answer {
                decision: name_of(&decision),
                statements: grounds.into_iter().map(|statement| ground(&statement, effect)).collect(),
                missing: match decision.reason {
                    Reason::ImplicitDeny(kind) => Some(field_of(kind)),
                    Reason::Allowed | Reason::ExplicitDeny(_) => None,
                },
                ignored: case.ignored.clone(),
            }
        })
    }

    /// Decides one case, and shows every statement with what it matched or what stood against it.
    ///
    /// # Errors
    /// As [`Batch::decide`].
    pub fn explain<R>(
        &mut self,
        line: &str,
        show: impl FnOnce(&Request<'_>, &Decision<'_>, &[Considered<'_>]) -> R,
    ) -> Result<R, String> {
        self.with_case(line, |request, set, _| show(request, &evaluate(request, set), &explain(request, set)))
    }

    fn with_case<R>(
        &mut self,
        line: &str,
        answer: impl FnOnce(&Request<'_>, &PolicySet<'_>, &Case) -> R,
    ) -> Result<R, String> {
        let case = case::read(line, self)?;
        let principal = case.caller.as_principal();
        let request = Request {
            action: &case.action,
            resource: &case.resource,
            resource_account: &case.resource_account,
            principal: &principal,
            context: &case.context,
        };
        let set = PolicySet {
            identity: &case.identity,
            boundary: &case.boundary,
            session: case.session.as_deref(),
            resource: case.resource_policy.as_slice(),
            service_control: &case.service_control,
            resource_control: &case.resource_control,
        };
        Ok(answer(&request, &set, &case))
    }

    /// A document of this kind, compiled now or before.
    fn known(&self, kind: PolicyKind, source: &str) -> Option<Arc<Policy>> {
        self.compiled.get(&kind)?.get(source).cloned()
    }

    fn remember(&mut self, kind: PolicyKind, source: &str, policy: &Arc<Policy>) {
        let documents = self.compiled.entry(kind).or_default();
        if documents.len() >= Self::REMEMBERED {
            documents.clear();
        }
        documents.insert(source.into(), Arc::clone(policy));
    }
}

fn name_of(decision: &Decision<'_>) -> &'static str {
    match decision.reason {
        Reason::Allowed => "Allowed",
        Reason::ExplicitDeny(_) => "ExplicitDeny",
        Reason::ImplicitDeny(_) => "ImplicitDeny",
    }
}

fn ground(statement: &StatementRef<'_>, effect: Effect) -> Ground {
    Ground {
        policy: statement.policy.to_owned(),
        statement: statement.index,
        sid: statement.sid.map(str::to_owned),
        effect,
    }
}

fn field_of(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Identity => case::IDENTITY,
        PolicyKind::Boundary => case::BOUNDARY,
        PolicyKind::Session => case::SESSION,
        PolicyKind::ServiceControl => case::SERVICE_CONTROL,
        PolicyKind::ResourceControl => case::RESOURCE_CONTROL,
        PolicyKind::RepositoryPolicy
        | PolicyKind::RegistryPolicy
        | PolicyKind::ResourcePolicy
        | PolicyKind::Trust => case::RESOURCE,
    }
}

fn named(place: &str, policy: Arc<Policy>) -> Named {
    Named::new(place, policy)
}

#[cfg(test)]
mod tests;
