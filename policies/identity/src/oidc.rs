//! Tokens of other issuers (OIDC): a CI system's job proves who it is without a stored secret.
//!
//! An issuer counts only as far as a provider names it, over HTTPS, with the keys that it publishes itself.
//! Nothing in a token chooses where keys come from, nor how they are used.

mod fetch;
mod keys;
mod provider;
mod token;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use policies::ContextValue;
use registry_aws::AwsError;
use serde_json::{Map, Value};

pub use fetch::Issuers;
pub(crate) use keys::KeyCache;
pub(crate) use provider::{
    MOST_CLIENT_IDS, MOST_THUMBPRINTS, Provider, ProviderError, check_client_id, check_thumbprint,
    issuer_name,
};
use token::{Problem, Unverified};

use crate::authenticate::confidential;
use crate::caller::{Caller, CallerKind, Principal};
use crate::context::RequestContext;
use crate::error::AuthenticationError;
use crate::identity::Identity;
use crate::session::Link;

/// Claims beyond this are not shown to policies, nor those that are longer.
const MOST_CLAIMS: usize = 64;
const LONGEST_CLAIM: usize = 2048;
/// What the audit log shows of a subject.
const LONGEST_SUBJECT: usize = 256;

/// Who bears a token that an issuer signed.
#[derive(Debug)]
pub(crate) struct WebIdentity {
    pub(crate) provider: Arc<Provider>,
    pub(crate) subject: String,
    pub(crate) audience: String,
    /// Condition keys: `ISSUER:claim`.
    pub(crate) claims: Vec<(String, ContextValue)>,
    pub(crate) said: SessionTags,
}

/// What an issuer says of the session that a token is for. Limits are those of AssumeRole's own members.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionTags {
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) transitive_tag_keys: Vec<String>,
    pub(crate) source_identity: Option<String>,
}

impl Identity {
    /// Lets Berth ask issuers in this way. Without it they lie on the public internet, with public certificates.
    pub fn reach_issuers(&self, issuers: Issuers) {
        // What was set first stays.
        let _ = self.inner().issuers.set(issuers);
    }

    /// The bearer of a token, if its issuer is a provider here and the token holds now.
    pub(crate) async fn web_identity(&self, ctx: &RequestContext, token: &str) -> Result<Caller, AwsError> {
        if let Err(insecure) = confidential(ctx) {
            self.audit_refused(ctx, None, &insecure);
            return Err(insecure.to_aws());
        }
        let verified = self.verify_web_identity(token).await;
        verified.map_err(|problem| {
            self.audit_refused(ctx, None, &AuthenticationError::InvalidToken);
            problem.to_aws()
        })
    }

    async fn verify_web_identity(&self, token: &str) -> Result<Caller, Problem> {
        let unverified = Unverified::read(token)?;
        let directory = self.directory().ok_or(Problem::Unavailable)?;
        let provider = directory.provider(&unverified.issuer).cloned();
        drop(directory);
        let Some(provider) = provider else { return Err(Problem::NoProvider(unverified.issuer)) };
        let keys = self.inner().oidc_keys.of(self, &provider, &unverified).await?;
        let claims = keys.verify(&unverified)?;
        let now_s = self.now_ms().div_euclid(1000);
        let (subject, audience) = token::check(&claims, &provider, now_s)?;
        let identity = WebIdentity {
            claims: condition_keys(&provider, &claims, &audience),
            said: token::session_tags(&claims)?,
            provider,
            subject,
            audience,
        };
        Ok(self.web_identity_caller(identity))
    }

    fn web_identity_caller(&self, identity: WebIdentity) -> Caller {
        let provider = &identity.provider;
        let end = identity.subject.floor_char_boundary(LONGEST_SUBJECT);
        let user_id = format!("{}:{}:{}", provider.name, identity.audience, &identity.subject[..end]);
        let principal = Principal {
            kind: CallerKind::WebIdentity,
            account: self.account_id().clone(),
            arn: Arc::clone(&provider.arn),
            uid: user_id.as_str().into(),
            user_id: user_id.into(),
            name: identity.subject[..end].into(),
            of_host: false,
            access_key_id: None,
            chain: vec![Link::Provider(Arc::clone(&provider.uid), provider.generation)],
            session: None,
        };
        Caller { web_identity: Some(Arc::new(identity)), ..Caller::new(Arc::new(principal)) }
    }
}

/// `ISSUER:claim` for every claim that conditions can compare.
fn condition_keys(
    provider: &Provider,
    claims: &Map<String, Value>,
    audience: &str,
) -> Vec<(String, ContextValue)> {
    let mut keys = Vec::new();
    let shown = |name: &str| name.len() <= 128 && name != "aud" && !name.starts_with(token::OF_AWS);
    for (name, value) in claims.iter().filter(|(name, _)| shown(name)).take(MOST_CLAIMS) {
        let short = |text: &str| text.len() <= LONGEST_CLAIM;
        let value = match value {
            Value::String(text) if short(text) => ContextValue::from(text.as_str()),
            Value::Bool(value) => ContextValue::from(*value),
            Value::Number(number) => ContextValue::from(number.to_string()),
            Value::Array(items) => {
                let texts: Option<Vec<String>> = items
                    .iter()
                    .map(|item| item.as_str().filter(|text| short(text)).map(str::to_owned))
                    .collect();
                match texts {
                    Some(texts) if texts.len() <= MOST_CLAIMS => ContextValue::from(texts),
                    _ => continue,
                }
            }
            Value::String(_) | Value::Null | Value::Object(_) => continue,
        };
        keys.push((format!("{}:{name}", provider.name), value));
    }
    // Of several audiences policies see the one that counted.
    keys.push((format!("{}:aud", provider.name), audience.into()));
    keys
}
