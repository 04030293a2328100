//! The gate: one question, every policy that bears on it, one answer, one audit line.
//!
//! Decides with the snapshot of this moment and with nothing that the caller brought along but its
//! name: a credential whose chain has changed since it was made decides nothing any more.

mod decide;
mod globals;

use std::fmt;

use policies::{PolicyKind, Reason};
use registry_aws::AwsError;

use crate::error::unavailable;

/// Proof that the gate said yes.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    generation: i64,
}

impl Allowed {
    /// The security generation that decided.
    pub fn generation(&self) -> i64 {
        self.generation
    }
}

/// A no of the gate.
#[derive(Clone, Debug)]
pub struct Denied {
    kind: DeniedKind,
    message: String,
}

/// What a refused caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedKind {
    /// The policies do not allow it.
    Policy,
    /// The credentials were revoked after they were made.
    Revoked,
    /// The credentials expired.
    Expired,
    /// No decision is possible at the moment; to be tried again.
    Unavailable,
}

impl Denied {
    pub fn kind(&self) -> DeniedKind {
        self.kind
    }

    /// AWS's words: who may not do what to which resource, and for want of which policy.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// AWS's code, status and message.
    pub fn to_aws(&self) -> AwsError {
        match self.kind {
            DeniedKind::Policy => AwsError::access_denied(&self.message),
            DeniedKind::Revoked => AwsError::invalid_token(),
            DeniedKind::Expired => AwsError::expired_token(),
            DeniedKind::Unavailable => unavailable(),
        }
    }

    pub(crate) fn unavailable() -> Self {
        let message = "The service cannot decide about requests at the moment. Try again.".to_owned();
        Self { kind: DeniedKind::Unavailable, message }
    }

    pub(crate) fn revoked() -> Self {
        Self { kind: DeniedKind::Revoked, message: "The credentials were revoked.".to_owned() }
    }

    pub(crate) fn expired() -> Self {
        Self { kind: DeniedKind::Expired, message: "The credentials expired.".to_owned() }
    }

    /// What the trust policy of a role answers, or its absence.
    pub(crate) fn by_trust(caller: &str, role_arn: &str) -> Self {
        Self::by_policy(caller, "sts:AssumeRole", role_arn, Reason::ImplicitDeny(PolicyKind::Trust))
    }

    /// A no for want of `reason`, in AWS's words.
    pub(crate) fn by_policy(caller: &str, action: &str, resource: &str, reason: Reason) -> Self {
        let why = match reason {
            // AssumeRole does not say more.
            Reason::Allowed
            | Reason::ImplicitDeny(PolicyKind::Trust)
            | Reason::ExplicitDeny(PolicyKind::Trust) => String::new(),
            Reason::ExplicitDeny(kind) => format!(" with an explicit deny in {}", kind_with_article(kind)),
            Reason::ImplicitDeny(kind) => {
                format!(" because no {} allows the {action} action", kind_name(kind))
            }
        };
        let message =
            format!("User: {caller} is not authorized to perform: {action} on resource: {resource}{why}");
        Self { kind: DeniedKind::Policy, message }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Denied {}

impl From<Denied> for AwsError {
    fn from(denied: Denied) -> Self {
        denied.to_aws()
    }
}

fn kind_name(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Identity => "identity-based policy",
        PolicyKind::RepositoryPolicy
        | PolicyKind::RegistryPolicy
        | PolicyKind::ResourcePolicy
        | PolicyKind::Trust => "resource-based policy",
        PolicyKind::Session => "session policy",
        PolicyKind::Boundary => "permissions boundary",
        PolicyKind::ServiceControl => "service control policy",
        PolicyKind::ResourceControl => "resource control policy",
    }
}

fn kind_with_article(kind: PolicyKind) -> String {
    let name = kind_name(kind);
    let article = if name.starts_with('i') { "an" } else { "a" };
    format!("{article} {name}")
}
