//! AssumeRoleWithWebIdentity: a role for the bearer of a token of an OIDC provider, as its trust policy says.

use registry_runtime::SecretString;

use super::AssumeRole;
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
        let directory = self.inner().directory.load();
        let role = directory.role_by_arn(request.role.role_arn.as_str());
        let mut check = Check::on("sts:AssumeRoleWithWebIdentity", request.role.role_arn.clone())
            .with("sts:RoleSessionName", &request.role.session_name)
            .with_resource_policy(role.and_then(|role| role.trust.clone()));
        for (key, value) in role.into_iter().flat_map(|role| &role.tags) {
            check = check
                .with(format!("aws:ResourceTag/{key}"), value)
                .with(format!("iam:ResourceTag/{key}"), value);
        }
        if let Some(identity) = &caller.web_identity {
            check.context.extend(identity.claims.iter().cloned());
        }
        vec![check]
    }
}
