//! Who sent this request? From a signature, a password or a token to a [`Caller`].
//!
//! Nothing here asks the database. An unknown key costs the same work and gets the same answer as a wrong
//! secret, and credentials that are not accepted never turn their sender into the anonymous caller.

mod docker;
mod signature;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use registry_runtime::SecretString;
use sha2::{Digest, Sha256};

use crate::audit::{Line, Outcome, Who};
use crate::authorize::DeniedKind;
use crate::caller::{Caller, CallerKind, Principal};
use crate::context::RequestContext;
use crate::directory::{Directory, ROLE_USE};
use crate::error::AuthenticationError;
use crate::identity::Identity;
use crate::tokens::LONGEST_TOKEN;

/// A session token, opened once and remembered by its hash.
pub(crate) struct OpenedSession {
    pub(crate) principal: Arc<Principal>,
    pub(crate) secret: SecretString,
}

/// What logging in at the registry needs. It is asked in the account of the caller, whose it is to give: the token or
/// the login names the caller and carries no right.
pub(crate) const LOG_IN: &str = "ecr:GetAuthorizationToken";

/// What unknown access keys are checked against. Nothing verifies with it: see the callers.
const DUMMY_SECRET: &str = "a secret that belongs to no access key!!";

/// Passwords and tokens that anybody on the way could have read do not count.
pub(crate) fn confidential(ctx: &RequestContext) -> Result<(), AuthenticationError> {
    if ctx.confidential { Ok(()) } else { Err(AuthenticationError::InsecureTransport) }
}

impl Identity {
    /// Opens a session token for its access key; None when it is not one of ours, or not of this key.
    pub(crate) fn open_session(
        &self,
        directory: &Directory,
        access_key_id: &str,
        token: &str,
    ) -> Option<Arc<OpenedSession>> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(opened) = self.inner().sessions.get(&hash) {
            let of_this_key = opened.principal.access_key_id.as_deref() == Some(access_key_id);
            return of_this_key.then_some(opened);
        }
        let (claims, key) = directory.token_keys.open(access_key_id, token)?;
        let secret = key.temporary_secret(access_key_id, token);
        let principal = claims.compile(self.account_id(), token)?;
        let opened = Arc::new(OpenedSession { principal, secret });
        self.inner().sessions.insert(hash, Arc::clone(&opened));
        Some(opened)
    }

    /// The caller, if its credential is as it was when it was made.
    fn standing(&self, directory: &Directory, caller: Caller) -> Result<Caller, AuthenticationError> {
        if caller.expires_ms().is_some_and(|expires_ms| expires_ms <= self.now_ms()) {
            return Err(AuthenticationError::Expired);
        }
        if caller.is_anonymous() {
            return Ok(caller);
        }
        let principal = &caller.principal;
        let entity = directory.entity(principal.kind, &principal.uid);
        let Some(entity) = entity.filter(|_| self.holds(directory, &principal.chain)) else {
            return Err(AuthenticationError::InvalidToken);
        };
        if entity.kind == CallerKind::RoleSession {
            entity.use_log.note(self.now_ms(), ROLE_USE);
        }
        Ok(caller)
    }

    /// Writes the audit line of credentials that were not accepted.
    pub(crate) fn audit_refused(
        &self,
        ctx: &RequestContext,
        access_key_id: Option<&str>,
        error: &AuthenticationError,
    ) {
        // What the gate said about the credentials stands in its own line.
        let recorded =
            matches!(error, AuthenticationError::Denied(denied) if denied.kind() != DeniedKind::Unavailable);
        if recorded {
            return;
        }
        let directory = self.inner().directory.load();
        let line = Line {
            request: ctx,
            caller: Who { arn: "unknown", user_id: "unknown", access_key_id, source_identity: None },
            operation: "Authenticate",
            asked: None,
            outcome: Outcome::NotAuthenticated(error.audit_word()),
            generations: (directory.security_generation, directory.file_generation),
        };
        // The request is refused whether or not there is room for the line.
        let _ = self.audit(&line);
    }
}
