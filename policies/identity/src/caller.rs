//! Who sent a request, once the credentials are proven.
//!
//! A caller names a principal and the generations it was proven with; it carries no rights. Whoever
//! keeps one for longer (a websocket) asks the gate again, which notices a revocation.

use std::sync::Arc;

use registry_types::{AccountId, Arn};
use serde::{Deserialize, Serialize};

use crate::oidc::WebIdentity;
use crate::session::{Link, Session};

/// What kind of principal a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CallerKind {
    /// Nobody in particular.
    #[serde(rename = "a")]
    Anonymous,
    /// A user, by an access key of its own or a session of itself.
    #[serde(rename = "u")]
    User,
    /// A session of a role.
    #[serde(rename = "r")]
    RoleSession,
    /// The bearer of a token of an OIDC provider, who may at most assume a role.
    #[serde(rename = "w")]
    WebIdentity,
}

/// Who asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) principal: Arc<Principal>,
    /// The upper bound that a Docker bearer token sets.
    pub(crate) scope: Option<Arc<Scope>>,
    /// When the token of this request ends, if it came with one; milliseconds since the Unix epoch.
    pub(crate) token_expires_ms: Option<i64>,
    /// What the token of an OIDC provider says.
    pub(crate) web_identity: Option<Arc<WebIdentity>>,
}

/// The part of a caller that is the same for every request with the same credential.
#[derive(Debug)]
pub(crate) struct Principal {
    pub(crate) kind: CallerKind,
    pub(crate) account: AccountId,
    /// The user's ARN, the session's ARN, or `anonymous`.
    pub(crate) arn: Arc<str>,
    /// `aws:userid`: `AIDA…`, or `AROA…:SESSION`.
    pub(crate) user_id: Arc<str>,
    /// The unique id of the user or role.
    pub(crate) uid: Arc<str>,
    /// The user's name, or the role's.
    pub(crate) name: Arc<str>,
    /// Whether Berth made this user for a host.
    pub(crate) of_host: bool,
    pub(crate) access_key_id: Option<Arc<str>>,
    /// Everything that must still be as it was when the credential was made.
    pub(crate) chain: Vec<Link>,
    pub(crate) session: Option<Arc<Session>>,
}

impl Caller {
    /// The caller of a request without credentials.
    pub fn anonymous(account: &AccountId) -> Self {
        Self::new(Arc::new(Principal {
            kind: CallerKind::Anonymous,
            account: account.clone(),
            arn: "anonymous".into(),
            user_id: "anonymous".into(),
            uid: "anonymous".into(),
            name: "anonymous".into(),
            of_host: false,
            access_key_id: None,
            chain: Vec::new(),
            session: None,
        }))
    }

    pub(crate) fn new(principal: Arc<Principal>) -> Self {
        Self { principal, scope: None, token_expires_ms: None, web_identity: None }
    }

    /// The same caller for what was begun in time: a bearer token bounds when a request may begin, not how long it
    /// may take. Its scope, and the end of the session behind it, count on.
    pub fn begun(&self) -> Self {
        Self { token_expires_ms: None, ..self.clone() }
    }

    pub fn kind(&self) -> CallerKind {
        self.principal.kind
    }

    pub fn is_anonymous(&self) -> bool {
        self.principal.kind == CallerKind::Anonymous
    }

    /// The ARN that GetCallerIdentity reports; `anonymous` for nobody.
    pub fn arn(&self) -> &str {
        &self.principal.arn
    }

    /// The same, to be kept.
    pub fn shared_arn(&self) -> Arc<str> {
        Arc::clone(&self.principal.arn)
    }

    pub fn account_id(&self) -> &AccountId {
        &self.principal.account
    }

    /// `AIDA…` for a user, `AROA…:SESSION` for a session; `anonymous` for nobody.
    pub fn user_id(&self) -> &str {
        &self.principal.user_id
    }

    /// The unique id of the user or role behind the caller. A re-created name has another one.
    pub fn principal_uid(&self) -> &str {
        &self.principal.uid
    }

    /// The ARN of the user, or of the role (not of its session); what PrincipalArn conditions see.
    pub fn principal_arn(&self) -> &str {
        self.principal.session.as_ref().map_or(&self.principal.arn, |session| &session.principal_arn)
    }

    /// The name of the user or role.
    pub fn name(&self) -> &str {
        &self.principal.name
    }

    pub fn access_key_id(&self) -> Option<&str> {
        self.principal.access_key_id.as_deref()
    }

    /// The name of the host this principal was made for by `create_instance_principal`.
    pub fn instance(&self) -> Option<&str> {
        self.principal.of_host.then_some(&self.principal.name)
    }

    /// Whether a user asks with a session of GetSessionToken instead of an access key of its own.
    pub(crate) fn is_session_of_user(&self) -> bool {
        self.principal.kind == CallerKind::User && self.principal.session.is_some()
    }

    /// When the credential of this caller ends; milliseconds since the Unix epoch. None for access keys.
    pub fn expires_ms(&self) -> Option<i64> {
        let session = self.principal.session.as_ref().map(|session| session.expires_ms);
        match (session, self.token_expires_ms) {
            (Some(session), Some(token)) => Some(session.min(token)),
            (session, token) => session.or(token),
        }
    }

    /// The scope of the bearer token, an upper bound on what this request may do; None without one.
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_deref()
    }

    /// The caller's ARN as a value; None for nobody.
    pub fn to_arn(&self) -> Option<Arn> {
        self.principal.arn.parse().ok()
    }

    /// The account, kind and ARNs as the policy language sees them.
    pub(crate) fn as_policy_principal(&self) -> policies::Principal<'_> {
        let principal = &*self.principal;
        match (&principal.kind, &principal.session) {
            (CallerKind::User, _) => {
                policies::Principal::User { account: principal.account.as_str(), arn: &principal.arn }
            }
            (CallerKind::RoleSession, Some(session)) => policies::Principal::RoleSession {
                account: principal.account.as_str(),
                role_arn: &session.principal_arn,
                session_arn: &principal.arn,
                service_linked: false,
            },
            (CallerKind::WebIdentity, _) => policies::Principal::WebIdentity { provider_arn: &principal.arn },
            (CallerKind::RoleSession, None) | (CallerKind::Anonymous, _) => policies::Principal::Anonymous,
        }
    }
}

/// The scopes of a Docker bearer token: `repository:NAME:pull,push`, `registry:catalog:*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    entries: Vec<ScopeEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ScopeEntry {
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Scope {
    /// How many entries one token may have, and how long its text may be.
    const MOST_ENTRIES: usize = 64;
    const LONGEST: usize = 8 * 1024;

    /// Reads scopes separated by spaces. None when an entry is malformed or there are too many.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::LONGEST {
            return None;
        }
        let mut entries = Vec::new();
        for entry in text.split(' ').filter(|entry| !entry.is_empty()) {
            if entries.len() == Self::MOST_ENTRIES {
                return None;
            }
            // A name may hold a colon (HOST:PORT/NAME), a kind and actions may not.
            let (kind, rest) = entry.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<String> =
                actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
            if kind.is_empty() || name.is_empty() {
                return None;
            }
            entries.push(ScopeEntry { kind: kind.to_owned(), name: name.to_owned(), actions });
        }
        Some(Self { entries })
    }

    /// Whether an entry names exactly this kind, name and action. No prefixes; the action `*` stands for itself
    /// and for every action.
    pub fn allows(&self, kind: &str, name: &str, action: &str) -> bool {
        self.entries.iter().any(|entry| {
            entry.kind == kind
                && entry.name == name
                && entry.actions.iter().any(|granted| granted == action || granted == "*")
        })
    }

    /// The canonical text.
    pub fn to_text(&self) -> String {
        let entries: Vec<String> = self
            .entries
            .iter()
            .map(|entry| format!("{}:{}:{}", entry.kind, entry.name, entry.actions.join(",")))
            .collect();
        entries.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::Scope;

    #[test]
    fn a_scope_allows_exactly_what_it_names() {
        let scope = Scope::parse("repository:team/app:pull registry:catalog:*").unwrap();
        for (kind, name, action, allowed) in [
            ("repository", "team/app", "pull", true),
            ("repository", "team/app", "push", false),
            ("repository", "team/app2", "pull", false),
            ("repository", "team/ap", "pull", false),
            ("repository", "team", "pull", false),
            ("repository", "team/app/sub", "pull", false),
            ("registry", "team/app", "pull", false),
            ("registry", "catalog", "list", true),
            ("repository", "*", "pull", false),
        ] {
            assert_eq!(scope.allows(kind, name, action), allowed, "{kind}:{name}:{action}");
        }
    }

    #[test]
    fn a_scope_of_nothing_allows_nothing() {
        assert!(!Scope::parse("").unwrap().allows("repository", "app", "pull"));
        assert!(!Scope::parse("repository:app:").unwrap().allows("repository", "app", "pull"));
    }

    #[test]
    fn malformed_or_endless_scopes_are_refused() {
        let repeated = "repository:app:pull ".repeat(10_000);
        for text in ["repository", "repository:app", ":app:pull", "repository::pull", &repeated] {
            assert!(Scope::parse(text).is_none(), "{}", &text[..text.len().min(40)]);
        }
    }
}
