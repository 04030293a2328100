//! The decision: `iam.md` 1.1, rule by rule.

use crate::context::Context;
use crate::document::{Named, PolicyKind};
use crate::principal::Principal;

/// What is asked. `action` is `service:Operation`; `resource` an ARN, or `*` for an action that has no
/// resource; `resource_account` the account that owns it (with `*`, the account that is asked).
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub action: &'a str,
    pub resource: &'a str,
    pub resource_account: &'a str,
    pub principal: &'a Principal<'a>,
    pub context: &'a Context,
}

/// Everything that bears on a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicySet<'a> {
    /// Of the user and its groups, or of the role.
    pub identity: &'a [Named],
    pub boundary: Option<&'a Named>,
    /// Session policies; `None` when the session was made without any. They never grant by themselves.
    pub session: Option<&'a [Named]>,
    /// Repository, registry or trust policy of the resource.
    pub resource: &'a [Named],
    /// Service control policies of the principal's account, one entry for each level from the root of
    /// the organisation down to the account. Empty: no organisation, or its management account.
    pub service_control: &'a [Vec<Named>],
    /// Resource control policies of the resource's account, likewise.
    pub resource_control: &'a [Vec<Named>],
}

/// Why the answer is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Allowed,
    /// A statement with Effect Deny matched, in a policy of this kind.
    ExplicitDeny(PolicyKind),
    /// No statement of a policy of this kind allowed it, and one had to.
    ImplicitDeny(PolicyKind),
}

/// The statement that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementRef<'a> {
    pub policy: &'a str,
    pub kind: PolicyKind,
    pub sid: Option<&'a str>,
    /// Counted from 0.
    pub index: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    pub reason: Reason,
    /// Present on Allowed (unless the caller is root) and on ExplicitDeny.
    pub statement: Option<StatementRef<'a>>,
}

impl Decision<'_> {
    pub fn allowed(&self) -> bool {
        self.reason == Reason::Allowed
    }
}

/// Decides. An explicit Deny anywhere wins; without an Allow where one is needed, the answer is no.
pub fn evaluate<'a>(_request: &Request<'_>, _set: &PolicySet<'a>) -> Decision<'a> {
    Decision { reason: Reason::ImplicitDeny(PolicyKind::Identity), statement: None }
}
