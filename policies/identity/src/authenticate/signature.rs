//! Requests signed with Signature Version 4.

use std::sync::Arc;

use http::request::Parts;
use registry_aws::AwsError;
use registry_aws::sigv4::{self, Expected, SigV4Error, Signed};
use sha2::{Digest, Sha256};

use super::DUMMY_SECRET;
use crate::caller::Caller;
use crate::context::RequestContext;
use crate::error::AuthenticationError;
use crate::identity::Identity;

/// What clients sign for when a service is global to them, wherever it stands.
const GLOBAL_REGION: &str = "us-east-1";

impl Identity {
    /// Checks the signature of a request against its body, and says who signed.
    ///
    /// # Errors
    /// `Missing` without a signature; `Mismatch` for an unknown key and for a wrong secret alike;
    /// `InvalidToken` for a session token that is not ours, and for whatever was disabled or deleted.
    pub async fn authenticate_aws(
        &self,
        parts: &Parts,
        body: &[u8],
        service: &[&str],
        ctx: &RequestContext,
    ) -> Result<Caller, AuthenticationError> {
        let body_sha256 = Sha256::digest(body).into();
        let (caller, _) = self.authenticate_signature(parts, &body_sha256, service, ctx)?;
        Ok(caller)
    }

    /// The same, with the signature, so that its replay can be refused.
    pub(crate) fn authenticate_signature(
        &self,
        parts: &Parts,
        body_sha256: &[u8; 32],
        service: &[&str],
        ctx: &RequestContext,
    ) -> Result<(Caller, Signed), AuthenticationError> {
        let signed = match sigv4::parse(parts) {
            Ok(Some(signed)) => signed,
            Ok(None) => return self.refuse(ctx, None, AuthenticationError::Missing),
            Err(error) => return self.refuse(ctx, None, malformed(error)),
        };
        match self.verify(parts, body_sha256, service, ctx, &signed) {
            Ok(caller) => Ok((caller, signed)),
            Err(error) => self.refuse(ctx, Some(&signed.access_key_id), error),
        }
    }

    /// Whether the signature names a key that it could hold for. Only decides whether the body is worth its
    /// memory; the answer is the same for keys that are unknown.
    pub(crate) fn knows_key(&self, signed: &Signed) -> bool {
        let Some(directory) = self.directory() else { return false };
        match &signed.session_token {
            None => directory.key(&signed.access_key_id).is_some(),
            Some(token) => self.open_session(&directory, &signed.access_key_id, token).is_some(),
        }
    }

    /// Refuses a signature that came before.
    pub(crate) fn refuse_replay(
        &self,
        ctx: &RequestContext,
        signed: &Signed,
    ) -> Result<(), AuthenticationError> {
        let admitted = self.inner().replays.lock().admit(signed, ctx.now_ms);
        admitted.or_else(|error| self.refuse(ctx, Some(&signed.access_key_id), malformed(error)))
    }

    fn verify(
        &self,
        parts: &Parts,
        body_sha256: &[u8; 32],
        service: &[&str],
        ctx: &RequestContext,
        signed: &Signed,
    ) -> Result<Caller, AuthenticationError> {
        let directory = self.directory().ok_or(AuthenticationError::Unavailable)?;
        let home = self.region().as_str();
        let global = service.iter().any(|service| matches!(*service, "iam" | "sts"));
        let expected = Expected {
            services: service,
            regions: if global { &[home, GLOBAL_REGION] } else { &[home] },
            now_ms: ctx.now_ms,
            skew_ms: self.inner().config.clock_skew_ms,
            unsigned_payload: false,
        };
        let check = |secret: &str| signed.verify(parts, secret.as_bytes(), body_sha256, &expected);
        let principal = match &signed.session_token {
            None => match directory.key(&signed.access_key_id) {
                Some(key) => {
                    check(key.secret.expose()).map_err(malformed)?;
                    key.use_log.note(ctx.now_ms, service.first().copied().unwrap_or_default());
                    Arc::clone(&key.principal)
                }
                None => {
                    check(DUMMY_SECRET).map_err(malformed)?;
                    return Err(AuthenticationError::Mismatch);
                }
            },
            Some(token) => match self.open_session(&directory, &signed.access_key_id, token) {
                Some(opened) => {
                    check(opened.secret.expose()).map_err(malformed)?;
                    Arc::clone(&opened.principal)
                }
                None => {
                    let _ = check(DUMMY_SECRET);
                    return Err(AuthenticationError::InvalidToken);
                }
            },
        };
        self.standing(&directory, Caller::new(principal))
    }

    fn refuse<T>(
        &self,
        ctx: &RequestContext,
        access_key_id: Option<&str>,
        error: AuthenticationError,
    ) -> Result<T, AuthenticationError> {
        self.audit_refused(ctx, access_key_id, &error);
        Err(error)
    }
}

fn malformed(error: SigV4Error) -> AuthenticationError {
    match error {
        SigV4Error::Mismatch => AuthenticationError::Mismatch,
        other => AuthenticationError::Malformed(AwsError::from(other)),
    }
}
