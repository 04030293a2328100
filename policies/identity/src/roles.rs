//! Sessions: AssumeRole, GetSessionToken, and the credentials of tasks.

mod assume;
mod pass;
mod session_token;
mod task;
mod web_identity;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::authenticate::OpenedSession;
use crate::caller::CallerKind;
use crate::credentials::TemporaryCredentials;
use crate::directory::{Directory, Entity};
use crate::error::IdentityError;
use crate::identity::Identity;
use crate::session::{Claims, Link};
use crate::unique_id;

pub use assume::{AssumeRole, AssumeRoleError};
pub use task::{LiveTasks, TaskRole, TaskRoleError};
pub(crate) use web_identity::AssumeWithWebIdentity;

/// Longest content of a session token; tokens made with the session must stay below 16 KiB.
const LARGEST_SESSION: usize = 6 * 1024;

/// No session lives longer: that of GetSessionToken may live so long.
const LONGEST_SESSION_MS: i64 = 36 * 3600 * 1000;

/// What a session is made of, beside its role or user.
#[derive(Default)]
struct NewSession {
    name: String,
    /// Of the caller that assumed the role.
    parent_chain: Vec<Link>,
    policy: Option<String>,
    policy_arns: Vec<String>,
    tags: Vec<(String, String)>,
    transitive_tag_keys: Vec<String>,
    source_identity: Option<String>,
    /// ARN of the provider of the token that it was made for.
    federated_provider: Option<Arc<str>>,
    expires_ms: i64,
    /// ARN of the task that the session ends with.
    task: Option<Arc<str>>,
}

/// The session does not fit into a token.
struct TooLarge {
    percent: usize,
}

impl Identity {
    /// Seals a session of a role or user, and opens it again as its caller will.
    fn make_session(
        &self,
        directory: &Directory,
        principal: &Entity,
        new: NewSession,
    ) -> Result<Result<Arc<OpenedSession>, TooLarge>, IdentityError> {
        let now_ms = self.now_ms();
        let key = directory.token_keys.signing(now_ms).ok_or(IdentityError::Stale)?;
        let access_key_id = unique_id::temporary_access_key_id();
        let mut chain = new.parent_chain;
        if principal.kind == CallerKind::RoleSession {
            chain.push(Link::Role(Arc::clone(&principal.uid), principal.generation));
        }
        chain.push(Link::Session(access_key_id.as_str().into()));
        chain.extend(new.task.map(Link::Task));
        let claims = Claims {
            access_key_id,
            kind: principal.kind,
            principal_uid: Arc::clone(&principal.uid),
            principal_arn: Arc::clone(&principal.arn),
            principal_name: Arc::clone(&principal.name),
            name: new.name,
            chain,
            policy: new.policy,
            policy_arns: new.policy_arns,
            tags: new.tags,
            transitive_tag_keys: new.transitive_tag_keys,
            source_identity: new.source_identity,
            federated_provider: new.federated_provider,
            issued_ms: now_ms,
            expires_ms: new.expires_ms,
        };
        let access_key_id = claims.access_key_id.clone();
        let token = key.seal(&claims);
        let size = token.len() / 4 * 3;
        if size > LARGEST_SESSION {
            return Ok(Err(TooLarge { percent: size * 100 / LARGEST_SESSION }));
        }
        let opened = self.open_session(directory, &access_key_id, &token);
        opened.map(Ok).ok_or_else(|| IdentityError::Invalid("the session policy does not parse".to_owned()))
    }

    /// Ends a session before its time, with everything that was made with it. It is named by its access key id, and
    /// need not be known here.
    ///
    /// # Errors
    /// `Invalid` for what is no access key id of a session; the database's.
    pub async fn revoke_session(&self, access_key_id: &str) -> Result<(), IdentityError> {
        if !unique_id::is_temporary_access_key_id(access_key_id) {
            return Err(IdentityError::Invalid(format!("{access_key_id} is no access key id of a session")));
        }
        // What was made with it may outlive it, and must stay ended.
        let (session, expires_ms) = (access_key_id.to_owned(), self.now_ms() + LONGEST_SESSION_MS);
        self.inner()
            .database
            .write(move |tx| {
                crate::store::sessions::revoke(tx, &session, expires_ms)?;
                crate::store::bump(tx)
            })
            .await?;
        self.refresh().await
    }
}

impl OpenedSession {
    fn credentials(&self) -> Option<TemporaryCredentials> {
        let session = self.principal.session.as_ref()?;
        Some(TemporaryCredentials {
            access_key_id: self.principal.access_key_id.as_deref()?.to_owned(),
            secret_access_key: self.secret.clone(),
            session_token: session.token.clone(),
            expires_ms: session.expires_ms,
            assumed_role_arn: self.principal.arn.to_string(),
            assumed_role_id: self.principal.user_id.to_string(),
        })
    }
}
