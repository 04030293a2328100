//! The Principal and NotPrincipal elements of resource policies and trust policies.
//!
//! How an element names the caller decides what an Allow stands in for, so naming yields a [`Grant`].
//! Wildcards name everyone or nobody: a partial one is refused.

use super::Principal;
use crate::finding::Findings;
use crate::json::{Member, Node};
use registry_types::{AccountId, Arn};

/// What an Allow of a resource policy stands in for, inside one account (iam.md 1.1, rule 4).
/// Each one includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    /// The caller's account is named: this only delegates, identity policies decide.
    Account,
    /// A role, a user through its federated session, or everyone is named: no identity policy is
    /// needed, boundary and session policy still limit.
    Identity,
    /// The user or the very session is named: nothing more is needed.
    Full,
}

/// The callers that an element names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) everyone: bool,
    accounts: Vec<Box<str>>,
    arns: Vec<Box<str>>,
    services: Vec<Box<str>>,
    pub(crate) providers: Vec<Box<str>>,
}

impl Names {
    /// How the caller is named, the strongest way counting.
    pub(crate) fn grant(&self, principal: &Principal<'_>) -> Option<Grant> {
        let named = |arn: &str| self.arns.iter().any(|known| **known == *arn);
        let (full, through) = match *principal {
            Principal::User { arn, .. } => (named(arn), false),
            Principal::RoleSession { role_arn, session_arn, .. } => (named(session_arn), named(role_arn)),
            Principal::FederatedUser { user_arn, session_arn, .. } => (named(session_arn), named(user_arn)),
            Principal::Service { name } => (self.services.iter().any(|known| **known == *name), false),
            // A bearer of a foreign token must be named by the provider: "*" is no grant to it.
            Principal::WebIdentity { provider_arn } => {
                return self.provider(provider_arn).then_some(Grant::Full);
            }
            Principal::Root { .. } | Principal::Anonymous => (false, false),
        };
        if full {
            return Some(Grant::Full);
        }
        if through || self.everyone {
            return Some(Grant::Identity);
        }
        let account = principal.account()?;
        self.account(account).then_some(Grant::Account)
    }

    /// A Deny reaches everyone whom it names in any way.
    pub(crate) fn reaches(&self, principal: &Principal<'_>) -> bool {
        self.everyone || self.grant(principal).is_some()
    }

    /// For NotPrincipal: the caller is spared only when everything it is has been named — its account,
    /// and its user, or its role together with the session.
    pub(crate) fn spares(&self, principal: &Principal<'_>) -> bool {
        if self.everyone {
            return true;
        }
        let named = |arn: &str| self.arns.iter().any(|known| **known == *arn);
        match *principal {
            Principal::Anonymous => false,
            Principal::Root { account } => self.account(account),
            Principal::User { account, arn } => self.account(account) && named(arn),
            Principal::RoleSession { account, role_arn, session_arn, .. } => {
                self.account(account) && named(role_arn) && (session_arn.is_empty() || named(session_arn))
            }
            Principal::FederatedUser { account, user_arn, session_arn } => {
                self.account(account) && named(user_arn) && named(session_arn)
            }
            Principal::Service { name } => self.services.iter().any(|known| **known == *name),
            Principal::WebIdentity { provider_arn } => self.provider(provider_arn),
        }
    }

    fn account(&self, account: &str) -> bool {
        self.accounts.iter().any(|known| **known == *account)
    }

    fn provider(&self, arn: &str) -> bool {
        self.providers.iter().any(|known| **known == *arn)
    }
}

/// Reads `"*"` or `{"AWS": …, "Service": …, "Federated": …}`.
pub(crate) fn read(node: &Node, findings: &mut Findings<'_>) -> Names {
    let mut names = Names::default();
    if node.as_str() == Some("*") {
        names.everyone = true;
        return names;
    }
    let Some(members) = node.as_object() else {
        findings.error(node.start, r#"a principal is "*" or an object such as {"AWS": "arn:…"}"#);
        return names;
    };
    if members.is_empty() {
        findings.error(node.start, "the principal names nobody");
    }
    for member in members {
        if member.value.items().is_empty() {
            findings.error(member.value.start, format!("{} names nobody", member.key));
        }
        for item in member.value.items() {
            let Some(text) = item.as_str() else {
                findings.error(item.start, format!("a principal is a string, not {}", item.kind()));
                continue;
            };
            if let Err(message) = names.add(member, text) {
                findings.error(item.start, message);
            }
        }
    }
    names
}

impl Names {
    fn add(&mut self, member: &Member, text: &str) -> Result<(), String> {
        match member.key.as_str() {
            "AWS" if text == "*" => self.everyone = true,
            "AWS" if text.contains(['*', '?']) => {
                return Err(format!(
                    "{text:?}: a principal takes no partial wildcard; name \"*\" and add a condition on \
                     aws:PrincipalArn"
                ));
            }
            "AWS" => match aws_principal(text)? {
                Named::Account(account) => self.accounts.push(account),
                Named::Arn(arn) => self.arns.push(arn),
            },
            "Service" => {
                let plausible = text.contains('.')
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
                if !plausible {
                    return Err(format!("{text:?} is not a service such as ecs-tasks.amazonaws.com"));
                }
                self.services.push(text.into());
            }
            "Federated" => {
                let is_provider = text.parse::<Arn>().is_ok_and(|arn| {
                    let (kind, name) = arn.resource().split_once('/').unwrap_or((arn.resource(), ""));
                    arn.service() == "iam"
                        && matches!(kind, "oidc-provider" | "saml-provider")
                        && !name.is_empty()
                });
                if !(is_provider || BUILT_IN_PROVIDERS.contains(&text)) || text.contains(['*', '?']) {
                    return Err(format!(
                        "{text:?} is not an OIDC provider such as arn:aws:iam::000000000000:oidc-provider/HOST"
                    ));
                }
                self.providers.push(text.into());
            }
            other => {
                return Err(format!(
                    "principals of the kind {other:?} do not exist here: AWS, Service, Federated"
                ));
            }
        }
        Ok(())
    }
}

/// Issuers that AWS knows without an ARN.
const BUILT_IN_PROVIDERS: [&str; 4] =
    ["accounts.google.com", "cognito-identity.amazonaws.com", "graph.facebook.com", "www.amazon.com"];

enum Named {
    Account(Box<str>),
    Arn(Box<str>),
}

fn aws_principal(text: &str) -> Result<Named, String> {
    if text.parse::<AccountId>().is_ok() {
        return Ok(Named::Account(text.into()));
    }
    let bad = || {
        format!("{text:?} is not a principal: write an account id, or the ARN of a user, a role or a session")
    };
    let arn: Arn = text.parse().map_err(|_| bad())?;
    if arn.account().parse::<AccountId>().is_err() {
        return Err(bad());
    }
    let (kind, name) = arn.resource().split_once('/').unwrap_or((arn.resource(), ""));
    match (arn.service(), kind) {
        ("iam", "root") if name.is_empty() => Ok(Named::Account(arn.account().into())),
        ("iam", "user" | "role") | ("sts", "federated-user") if !name.is_empty() => {
            Ok(Named::Arn(text.into()))
        }
        ("sts", "assumed-role")
            if name
                .split_once('/')
                .is_some_and(|(role, session)| !role.is_empty() && !session.is_empty()) =>
        {
            Ok(Named::Arn(text.into()))
        }
        _ => Err(bad()),
    }
}
