//! The principal of a case, from its ARN.

use registry_types::{AccountId, Arn};

use crate::context::{Context, ContextValue};
use crate::principal::Principal;

/// Who asks. The text of an ARN says all but what a session was made from: for that the case may name the
/// role or user under `aws:PrincipalArn`.
#[derive(Debug)]
pub(super) struct Caller {
    kind: Kind,
    account: String,
    /// Of the user or session, or the name of a service.
    arn: String,
    /// The role or user that a session was made from.
    through: String,
}

#[derive(Debug)]
enum Kind {
    Anonymous,
    Root,
    User,
    Role { service_linked: bool },
    FederatedUser,
    Service,
    WebIdentity,
}

impl Caller {
    /// `*` is a stranger, a name with a dot a service, twelve digits the root of an account, everything else an
    /// ARN.
    pub(super) fn read(text: &str, context: &Context) -> Result<Caller, String> {
        let caller = |kind, account: &str, arn: &str, through: String| {
            Ok(Caller { kind, account: account.to_owned(), arn: arn.to_owned(), through })
        };
        if matches!(text, "*" | "anonymous") {
            return caller(Kind::Anonymous, "", "", String::new());
        }
        if text.parse::<AccountId>().is_ok() {
            return caller(Kind::Root, text, "", String::new());
        }
        let Ok(arn) = text.parse::<Arn>() else {
            let is_service = text.contains('.')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
            return if is_service { caller(Kind::Service, "", text, String::new()) } else { Err(bad(text)) };
        };
        let account = arn.account();
        if account.parse::<AccountId>().is_err() {
            return Err(bad(text));
        }
        let (kind, name) = arn.resource().split_once('/').unwrap_or((arn.resource(), ""));
        match (arn.service(), kind) {
            ("iam", "root") if name.is_empty() => caller(Kind::Root, account, text, String::new()),
            ("iam", "user") if !name.is_empty() => caller(Kind::User, account, text, String::new()),
            // Of the role as such nothing is known but the role: there is no session that could be named.
            ("iam", "role") if !name.is_empty() => {
                let service_linked = is_service_linked(text);
                caller(Kind::Role { service_linked }, account, "", text.to_owned())
            }
            ("sts", "assumed-role") => {
                let Some((role, _)) = name.split_once('/').filter(|(role, session)| {
                    !role.is_empty() && !session.is_empty() && !session.contains('/')
                }) else {
                    return Err(bad(text));
                };
                let partition = arn.partition();
                let through = made_from(context, "role", role)
                    .unwrap_or_else(|| format!("arn:{partition}:iam::{account}:role/{role}"));
                let service_linked = is_service_linked(&through);
                caller(Kind::Role { service_linked }, account, text, through)
            }
            ("sts", "federated-user") if !name.is_empty() => {
                caller(Kind::FederatedUser, account, text, made_from(context, "user", "").unwrap_or_default())
            }
            ("iam", "oidc-provider" | "saml-provider") if !name.is_empty() => {
                caller(Kind::WebIdentity, account, text, String::new())
            }
            _ => Err(bad(text)),
        }
    }

    /// None for those who belong to no account.
    pub(super) fn as_principal(&self) -> Principal<'_> {
        let Caller { account, arn, through, .. } = self;
        match self.kind {
            Kind::Anonymous => Principal::Anonymous,
            Kind::Root => Principal::Root { account },
            Kind::User => Principal::User { account, arn },
            Kind::Role { service_linked } => {
                Principal::RoleSession { account, role_arn: through, session_arn: arn, service_linked }
            }
            Kind::FederatedUser => Principal::FederatedUser { account, user_arn: through, session_arn: arn },
            Kind::Service => Principal::Service { name: arn },
            Kind::WebIdentity => Principal::WebIdentity { provider_arn: arn },
        }
    }
}

/// The ARN of the role or user behind a session, with its path, when `aws:PrincipalArn` says it.
fn made_from(context: &Context, kind: &str, name: &str) -> Option<String> {
    let Some(ContextValue::One(text)) = context.get("aws:PrincipalArn") else { return None };
    let arn: Arn = text.parse().ok()?;
    let (found, path_and_name) = arn.resource().split_once('/')?;
    let same_name = name.is_empty() || path_and_name.rsplit('/').next() == Some(name);
    (arn.service() == "iam" && found == kind && same_name).then(|| text.clone())
}

fn is_service_linked(role_arn: &str) -> bool {
    let name = role_arn.rsplit('/').next().unwrap_or_default();
    role_arn.contains(":role/aws-service-role/") || name.starts_with("AWSServiceRoleFor")
}

fn bad(text: &str) -> String {
    format!("{text:?} is not the ARN of a user, a role, a session, an account's root or a provider")
}
