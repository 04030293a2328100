//! AssumeRoleWithWebIdentity: a role for the bearer of a token of an OIDC provider, as its trust policy says.

use registry_runtime::SecretString;

use super::AssumeRole;
use super::assume::ASSUME_ROLE_WITH_WEB_IDENTITY;
use crate::caller::Caller;
use crate::check::Check;
use crate::identity::Identity;

/// An AssumeRoleWithWebIdentity request.
#[derive(Debug)]
pub(crate) struct AssumeWithWebIdentity {
    pub(crate) role: AssumeRole,
    pub(crate) token: SecretString,
}

impl Identity {
    /// What must be allowed before; the same for a role that does not exist.
    pub(crate) fn web_identity_checks(&self, caller: &Caller, request: &AssumeWithWebIdentity) -> Vec<Check> {
        let request = request.for_bearer(caller);
        let directory = self.inner().directory.load();
        Self::checks_to_assume(&directory, ASSUME_ROLE_WITH_WEB_IDENTITY, caller, &request)
    }
}

impl AssumeWithWebIdentity {
    /// The request with what the caller's token says of the session.
    pub(crate) fn for_bearer(&self, caller: &Caller) -> AssumeRole {
        let mut role = self.role.clone();
        if let Some(identity) = &caller.web_identity {
            role.tags.clone_from(&identity.said.tags);
            role.transitive_tag_keys.clone_from(&identity.said.transitive_tag_keys);
            role.source_identity.clone_from(&identity.said.source_identity);
        }
        role
    }
}
