//! The `Authorization` header of Docker clients: Basic, Bearer, or nothing.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use registry_aws::AwsError;
use registry_runtime::SecretString;
use subtle::ConstantTimeEq;

use super::{DUMMY_SECRET, LOG_IN, confidential};
use crate::caller::{Caller, Scope};
use crate::check::Check;
use crate::context::RequestContext;
use crate::directory::Directory;
use crate::error::AuthenticationError;
use crate::identity::Identity;
use crate::tokens::{Audience, Claims, LONGEST_TOKEN, TokenError};

/// The user name that goes with an ECR token.
const ECR_USER: &str = "AWS";

/// Longer bearer tokens are verified each time, so that the memory for them stays small.
const LONGEST_REMEMBERED: usize = 2048;

impl Identity {
    /// Who sent a request to the registry API: an access key or an ECR token (Basic), a bearer token, or
    /// nobody without an `Authorization` header.
    ///
    /// An access key must also be allowed `ecr:GetAuthorizationToken`; that decision is made here. Neither
    /// counts over plain HTTP from another machine, where signatures do.
    ///
    /// # Errors
    /// Credentials that are not accepted are an error, never the anonymous caller.
    pub fn authenticate_docker(
        &self,
        headers: &HeaderMap,
        ctx: &RequestContext,
    ) -> Result<Caller, AuthenticationError> {
        self.authenticate_header(headers, ctx, true)
    }

    /// Who asks `/token` for a bearer token: as [`Identity::authenticate_docker`], but a bearer token buys
    /// no other.
    ///
    /// # Errors
    /// As [`Identity::authenticate_docker`].
    pub fn authenticate_token_request(
        &self,
        headers: &HeaderMap,
        ctx: &RequestContext,
    ) -> Result<Caller, AuthenticationError> {
        self.authenticate_header(headers, ctx, false)
    }

    fn authenticate_header(
        &self,
        headers: &HeaderMap,
        ctx: &RequestContext,
        bearer_accepted: bool,
    ) -> Result<Caller, AuthenticationError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(self.anonymous()) };
        let mut attempt = Attempt { access_key_id: None };
        let result = match (value.to_str(), values.next()) {
            (Ok(value), None) => self.authenticate_value(value, ctx, bearer_accepted, &mut attempt),
            _ => Err(malformed("the Authorization header occurs twice or holds no text")),
        };
        if let Err(error) = &result {
            self.audit_refused(ctx, attempt.access_key_id.as_deref(), error);
        }
        result
    }

    fn authenticate_value(
        &self,
        value: &str,
        ctx: &RequestContext,
        bearer_accepted: bool,
        attempt: &mut Attempt,
    ) -> Result<Caller, AuthenticationError> {
        let directory = self.directory().ok_or(AuthenticationError::Unavailable)?;
        let (scheme, credentials) =
            value.split_once(' ').ok_or_else(|| malformed("the Authorization header has no credentials"))?;
        if scheme.eq_ignore_ascii_case("bearer") && bearer_accepted {
            let caller = self.bearer(&directory, credentials.trim())?;
            // A token of nobody is no secret: whoever has no credentials may pull anonymously anywhere.
            return if caller.is_anonymous() { Ok(caller) } else { confidential(ctx).map(|()| caller) };
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(malformed("the Authorization scheme is not one of those accepted here"));
        }
        confidential(ctx)?;
        let (user, password) = basic(credentials.trim())?;
        if user == ECR_USER {
            return self.ecr_token(&directory, password.expose());
        }
        attempt.access_key_id = Some(user.chars().take(128).collect());
        let caller = self.access_key(&directory, &user, &password)?;
        self.authorize(ctx, &caller, "GetAuthorizationToken", &Check::any(LOG_IN))
            .map_err(AuthenticationError::Denied)?;
        Ok(caller)
    }

    fn access_key(
        &self,
        directory: &Directory,
        access_key_id: &str,
        secret: &SecretString,
    ) -> Result<Caller, AuthenticationError> {
        let key = directory.key(access_key_id);
        let expected = key.map_or(DUMMY_SECRET, |key| key.secret.expose());
        let equal = bool::from(expected.as_bytes().ct_eq(secret.expose().as_bytes()));
        match key {
            Some(key) if equal => {
                key.use_log.note(self.now_ms(), "ecr");
                self.standing(directory, Caller::new(Arc::clone(&key.principal)))
            }
            Some(_) | None => Err(AuthenticationError::Mismatch),
        }
    }

    fn ecr_token(&self, directory: &Directory, token: &str) -> Result<Caller, AuthenticationError> {
        let claims = directory.token_keys.verify(token, Audience::Ecr, self.now_ms()).map_err(refused)?;
        if claims.akid.is_none() {
            return Err(AuthenticationError::InvalidToken);
        }
        self.named_caller(directory, &claims)
    }

    fn bearer(&self, directory: &Directory, token: &str) -> Result<Caller, AuthenticationError> {
        // Remembered is only that we signed it; whether its caller still stands is asked each time.
        if let Some(caller) = self.inner().bearers.get(token) {
            return self.standing(directory, caller);
        }
        let claims =
            directory.token_keys.verify(token, Audience::Registry, self.now_ms()).map_err(refused)?;
        let mut caller = match &claims.akid {
            None => self.anonymous(),
            Some(_) => self.named_caller(directory, &claims)?,
        };
        let scope = claims.scope.as_deref().unwrap_or_default();
        caller.scope = Some(Arc::new(Scope::parse(scope).ok_or(AuthenticationError::InvalidToken)?));
        caller.token_expires_ms = Some(claims.expires_ms());
        if token.len() <= LONGEST_REMEMBERED {
            self.inner().bearers.insert(token.into(), caller.clone());
        }
        Ok(caller)
    }

    /// The principal that a token names, if everything it depends on is as it was.
    fn named_caller(&self, directory: &Directory, claims: &Claims) -> Result<Caller, AuthenticationError> {
        let access_key_id = claims.akid.as_deref().ok_or(AuthenticationError::InvalidToken)?;
        let principal = match &claims.session {
            Some(token) => {
                let opened = self.open_session(directory, access_key_id, token);
                Arc::clone(&opened.ok_or(AuthenticationError::InvalidToken)?.principal)
            }
            None => {
                let key = directory.key(access_key_id).ok_or(AuthenticationError::InvalidToken)?;
                if key.principal.chain != claims.chain {
                    return Err(AuthenticationError::InvalidToken);
                }
                Arc::clone(&key.principal)
            }
        };
        let mut caller = Caller::new(principal);
        caller.token_expires_ms = Some(claims.expires_ms());
        self.standing(directory, caller)
    }
}

/// What the audit log may say of credentials that were not accepted.
struct Attempt {
    access_key_id: Option<String>,
}

fn basic(encoded: &str) -> Result<(String, SecretString), AuthenticationError> {
    let not_basic = || malformed("the Basic credentials are not base64 of USER:PASSWORD");
    if encoded.len() > LONGEST_TOKEN * 4 / 3 + 64 {
        return Err(not_basic());
    }
    let text = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = SecretString::new(text.ok_or_else(not_basic)?);
    let (user, password) = text.expose().split_once(':').ok_or_else(not_basic)?;
    Ok((user.to_owned(), password.into()))
}

fn malformed(message: &'static str) -> AuthenticationError {
    AuthenticationError::Malformed(AwsError::incomplete_signature(message))
}

fn refused(error: TokenError) -> AuthenticationError {
    match error {
        TokenError::Invalid => AuthenticationError::InvalidToken,
        TokenError::Expired => AuthenticationError::Expired,
    }
}
