//! GetSessionToken: a session of the user itself, with its own rights and an end.

use registry_aws::AwsError;

use super::{LONGEST_SESSION_MS, NewSession};
use crate::authorize::Denied;
use crate::caller::{Caller, CallerKind};
use crate::credentials::TemporaryCredentials;
use crate::error::unavailable;
use crate::identity::Identity;

const DEFAULT_DURATION_S: i64 = 12 * 3600;
const SHORTEST_S: i64 = 900;
const LONGEST_S: i64 = LONGEST_SESSION_MS / 1000;

impl Identity {
    /// A session of the user that asks with an access key of its own. AWS lets every user have one.
    ///
    /// # Errors
    /// AWS's own: AccessDenied for a caller that is a session itself, or a host, ValidationError for the duration.
    pub(crate) fn session_of_user(
        &self,
        caller: &Caller,
        duration_s: Option<i64>,
    ) -> Result<TemporaryCredentials, AwsError> {
        if caller.kind() != CallerKind::User || caller.expires_ms().is_some() {
            return Err(AwsError::access_denied("Cannot call GetSessionToken with session credentials"));
        }
        // What binds a host to its own instance goes by its key.
        if caller.instance().is_some() {
            return Err(AwsError::access_denied("The key of a host gets no sessions"));
        }
        let duration_s = duration_s.unwrap_or(DEFAULT_DURATION_S);
        if !(SHORTEST_S..=LONGEST_S).contains(&duration_s) {
            return Err(AwsError::client(
                "ValidationError",
                format!(
                    "1 validation error detected: Value '{duration_s}' at 'durationSeconds' failed to satisfy \
                     constraint: between 900 and 129600"
                ),
            ));
        }
        let directory = self.directory().ok_or_else(unavailable)?;
        let user = directory
            .entity(CallerKind::User, caller.principal_uid())
            .filter(|_| self.holds(&directory, &caller.principal.chain))
            .ok_or_else(|| Denied::revoked().to_aws())?;
        let new = NewSession {
            parent_chain: caller.principal.chain.clone(),
            expires_ms: self.now_ms() + duration_s * 1000,
            ..NewSession::default()
        };
        let made = self.make_session(&directory, user, new).map_err(|_| unavailable())?;
        made.ok().and_then(|opened| opened.credentials()).ok_or_else(AwsError::server)
    }
}
