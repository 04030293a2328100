//! Sessions of roles and of users. They lie in no table: the session token is the session, sealed.
//!
//! A session holds the chain of everything it came from, with generations; it works only while every
//! link is as it was. The secret of its access key lies in no token: it is computed from the token.

use std::sync::Arc;

use policies::{Named, Policy, PolicyKind};
use registry_types::AccountId;
use serde::{Deserialize, Serialize};

use crate::caller::{CallerKind, Principal};

/// One thing that a credential depends on, as it was when the credential was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Link {
    /// Access key id and generation.
    #[serde(rename = "k")]
    Key(Arc<str>, i64),
    /// A user's uid and generation.
    #[serde(rename = "u")]
    User(Arc<str>, i64),
    /// A role's uid and generation.
    #[serde(rename = "r")]
    Role(Arc<str>, i64),
    /// An OIDC provider's uid and generation.
    #[serde(rename = "o")]
    Provider(Arc<str>, i64),
    /// A session's uid.
    #[serde(rename = "s")]
    Session(Arc<str>),
    /// A task's ARN: what was made for a task ends with it.
    #[serde(rename = "t")]
    Task(Arc<str>),
}

/// What a session token holds, sealed. Member names are short because the token travels with every request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// `ASIA…`, which also names the session.
    #[serde(rename = "ak")]
    pub(crate) access_key_id: String,
    #[serde(rename = "k")]
    pub(crate) kind: CallerKind,
    /// Of the role, or of the user.
    #[serde(rename = "pu")]
    pub(crate) principal_uid: Arc<str>,
    #[serde(rename = "pr")]
    pub(crate) principal_arn: Arc<str>,
    #[serde(rename = "pn")]
    pub(crate) principal_name: Arc<str>,
    /// Of a session of a role.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(rename = "c")]
    pub(crate) chain: Vec<Link>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    #[serde(rename = "pa", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) policy_arns: Vec<String>,
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<(String, String)>,
    #[serde(rename = "tt", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) transitive_tag_keys: Vec<String>,
    #[serde(rename = "si", default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_identity: Option<String>,
    /// ARN of the OIDC provider whose token opened it.
    #[serde(rename = "fp", default, skip_serializing_if = "Option::is_none")]
    pub(crate) federated_provider: Option<Arc<str>>,
    #[serde(rename = "i")]
    pub(crate) issued_ms: i64,
    #[serde(rename = "e")]
    pub(crate) expires_ms: i64,
}

/// A session, opened and compiled.
#[derive(Debug)]
pub(crate) struct Session {
    /// The token itself, for tokens that are made with this session.
    pub(crate) token: registry_runtime::SecretString,
    /// Of the role, or of the user.
    pub(crate) principal_arn: Arc<str>,
    pub(crate) policy: Option<Named>,
    pub(crate) policy_arns: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) transitive_tag_keys: Vec<String>,
    pub(crate) source_identity: Option<String>,
    pub(crate) federated_provider: Option<Arc<str>>,
    pub(crate) issued_ms: i64,
    pub(crate) expires_ms: i64,
}

impl Claims {
    /// The principal that the session stands for. None when the session policy does not parse, which
    /// cannot be unless the grammar has become stricter since.
    pub(crate) fn compile(self, account: &AccountId, token: &str) -> Option<Arc<Principal>> {
        let policy = match &self.policy {
            None => None,
            Some(text) => Some(Named {
                name: "session policy".into(),
                policy: Arc::new(Policy::parse(text, PolicyKind::Session).ok()?),
            }),
        };
        // A session belongs to the account of what it was made from.
        let of_arn = self.principal_arn.split(':').nth(4).and_then(|account| account.parse().ok());
        let account = &of_arn.unwrap_or_else(|| account.clone());
        let (arn, user_id) = match self.kind {
            CallerKind::RoleSession => (
                format!("arn:aws:sts::{account}:assumed-role/{}/{}", self.principal_name, self.name).into(),
                format!("{}:{}", self.principal_uid, self.name).into(),
            ),
            CallerKind::User => (Arc::clone(&self.principal_arn), Arc::clone(&self.principal_uid)),
            CallerKind::Anonymous | CallerKind::WebIdentity => return None,
        };
        let session = Session {
            token: token.into(),
            principal_arn: self.principal_arn,
            policy,
            policy_arns: self.policy_arns,
            tags: self.tags,
            transitive_tag_keys: self.transitive_tag_keys,
            source_identity: self.source_identity,
            federated_provider: self.federated_provider,
            issued_ms: self.issued_ms,
            expires_ms: self.expires_ms,
        };
        Some(Arc::new(Principal {
            kind: self.kind,
            account: account.clone(),
            arn,
            user_id,
            uid: self.principal_uid,
            name: self.principal_name,
            of_host: false,
            access_key_id: Some(self.access_key_id.into()),
            chain: self.chain,
            session: Some(Arc::new(session)),
        }))
    }
}
