//! Who asks: the caller as the decision sees it, and the Principal elements it is compared with.
//!
//! How a resource policy names the caller decides what its Allow stands in for, so matching answers
//! with a [`Grant`](element::Grant), not with a yes.

pub(crate) mod element;

/// The caller of a request. ARNs are the full ones, with path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// Nobody in particular: only `"Principal": "*"` names it.
    Anonymous,
    /// The root of an account, `arn:aws:iam::ACCOUNT:root`: needs no identity policy.
    Root { account: &'a str },
    /// An IAM user, by its ARN `arn:aws:iam::ACCOUNT:user/PATH/NAME`.
    User { account: &'a str, arn: &'a str },
    /// A session of a role: `arn:aws:iam::ACCOUNT:role/PATH/NAME` and
    /// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`, empty for a role as such. SCPs and RCPs pass over
    /// service-linked roles.
    RoleSession { account: &'a str, role_arn: &'a str, session_arn: &'a str, service_linked: bool },
    /// A federated session of a user: `arn:aws:sts::ACCOUNT:federated-user/NAME`.
    FederatedUser { account: &'a str, user_arn: &'a str, session_arn: &'a str },
    /// A service that acts for itself, e.g. `ecs-tasks.amazonaws.com`: resource policies alone decide.
    Service { name: &'a str },
    /// The bearer of a token of an OIDC provider, before it has a role: the provider's ARN
    /// (`arn:aws:iam::ACCOUNT:oidc-provider/ISSUER`). Trust policies alone decide.
    WebIdentity { provider_arn: &'a str },
}

impl<'a> Principal<'a> {
    /// The account the caller belongs to; none for strangers, services and bearers of foreign tokens.
    pub fn account(&self) -> Option<&'a str> {
        match *self {
            Principal::Root { account }
            | Principal::User { account, .. }
            | Principal::RoleSession { account, .. }
            | Principal::FederatedUser { account, .. } => Some(account),
            Principal::Anonymous | Principal::Service { .. } | Principal::WebIdentity { .. } => None,
        }
    }
}
