//! Tokens that name a caller: ECR tokens, bearer tokens, refresh tokens.
//!
//! None carries a right, and none outlives the credential it was asked with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry_runtime::{SecretString, random_bytes, random_id};
use sha2::{Digest, Sha256};

use crate::authenticate::confidential;
use crate::caller::{Caller, CallerKind, Scope};
use crate::context::RequestContext;
use crate::credentials::{BearerToken, EcrToken, RefreshToken};
use crate::error::{AuthenticationError, IdentityError};
use crate::identity::Identity;
use crate::store::refresh::{self, Stored};
use crate::tokens::{Audience, Claims};

const ECR_LIFE_MS: i64 = 12 * 60 * 60 * 1000;
const BEARER_LIFE_MS: i64 = 5 * 60 * 1000;
const REFRESH_LIFE_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// What a refresh token turned out to be.
enum Exchange {
    Unknown,
    /// It was exchanged before: somebody has a copy, and the whole family ends.
    Reused,
    Good(Stored),
}

impl Identity {
    /// A password for the Docker user `AWS`: 12 hours, or until the caller's own credential ends.
    ///
    /// # Errors
    /// `Stale` when the snapshot is too old; `Invalid` for the anonymous caller.
    pub fn mint_ecr_token(&self, caller: &Caller) -> Result<EcrToken, IdentityError> {
        if caller.is_anonymous() {
            return Err(IdentityError::Invalid("nobody gets no ECR token".to_owned()));
        }
        let (token, claims) = self.mint(caller, Audience::Ecr, ECR_LIFE_MS, None)?;
        Ok(EcrToken { token, expires_ms: claims.expires_ms() })
    }

    /// A bearer token for the registry API: five minutes, or until the caller's own credential ends. The
    /// scope is an upper bound on what it may do. The anonymous caller gets one that names nobody.
    ///
    /// # Errors
    /// `Stale` when the snapshot is too old.
    pub fn mint_bearer(&self, caller: &Caller, scope: &Scope) -> Result<BearerToken, IdentityError> {
        let (token, claims) = self.mint(caller, Audience::Registry, BEARER_LIFE_MS, Some(scope.to_text()))?;
        Ok(BearerToken { token, issued_ms: claims.issued_ms(), expires_ms: claims.expires_ms() })
    }

    fn mint(
        &self,
        caller: &Caller,
        audience: Audience,
        life_ms: i64,
        scope: Option<String>,
    ) -> Result<(SecretString, Claims), IdentityError> {
        let directory = self.directory().ok_or(IdentityError::Stale)?;
        let now_ms = self.now_ms();
        let expires_ms = caller.expires_ms().map_or(now_ms + life_ms, |end| end.min(now_ms + life_ms));
        let key = directory.token_keys.signing(now_ms).ok_or(IdentityError::Stale)?;
        let mut claims = Claims::new(audience, now_ms, expires_ms);
        claims.scope = scope;
        let principal = &caller.principal;
        claims.akid = principal.access_key_id.as_deref().map(str::to_owned);
        match &principal.session {
            Some(session) => claims.session = Some(session.token.expose().to_owned()),
            None => claims.chain.clone_from(&principal.chain),
        }
        Ok((key.jwt(audience).sign(&claims), claims))
    }

    /// A refresh token, for a caller with a long-lived access key of its own.
    ///
    /// # Errors
    /// `Invalid` for everybody else; the database's.
    pub async fn mint_refresh_token(&self, caller: &Caller) -> Result<RefreshToken, IdentityError> {
        let long_lived = caller.kind() == CallerKind::User && caller.expires_ms().is_none();
        let Some(access_key_id) = caller.access_key_id().filter(|_| long_lived) else {
            return Err(IdentityError::Invalid(
                "refresh tokens are for long-lived access keys only".to_owned(),
            ));
        };
        let (token, hash) = new_refresh_token();
        let stored = Stored {
            family: random_id(),
            access_key_id: access_key_id.to_owned(),
            chain: serde_json::to_string(&caller.principal.chain).expect("links always have a JSON form"),
            used: false,
            expires_ms: self.now_ms() + REFRESH_LIFE_MS,
        };
        let expires_ms = stored.expires_ms;
        self.inner().database.write(move |tx| refresh::insert(tx, &hash, &stored)).await?;
        Ok(RefreshToken { token, expires_ms })
    }

    /// Exchanges a refresh token for its caller and the next refresh token. It works once; a second use ends
    /// every token of its family.
    ///
    /// # Errors
    /// `InvalidToken` for a token that is unknown, spent or expired, or whose access key was revoked;
    /// `InsecureTransport` where it was sent in clear; `Unavailable` when the database does not answer.
    pub async fn exchange_refresh_token(
        &self,
        token: &str,
        ctx: &RequestContext,
    ) -> Result<(Caller, RefreshToken), AuthenticationError> {
        let result = match confidential(ctx) {
            Ok(()) => self.exchange(token).await,
            Err(insecure) => Err(insecure),
        };
        if let Err(error) = &result {
            self.audit_refused(ctx, None, error);
        }
        result
    }

    async fn exchange(&self, token: &str) -> Result<(Caller, RefreshToken), AuthenticationError> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let (next, next_hash) = new_refresh_token();
        let now_ms = self.now_ms();
        let exchanged = self.inner().database.write(move |tx| {
            let Some(stored) = refresh::get(tx, &hash)? else { return Ok(Exchange::Unknown) };
            if stored.used {
                refresh::revoke_family(tx, &stored.family)?;
                return Ok(Exchange::Reused);
            }
            if stored.expires_ms <= now_ms {
                return Ok(Exchange::Unknown);
            }
            refresh::spend(tx, &hash)?;
            let stored = Stored { expires_ms: now_ms + REFRESH_LIFE_MS, ..stored };
            refresh::insert(tx, &next_hash, &stored)?;
            Ok::<_, registry_sql::Error>(Exchange::Good(stored))
        });
        let stored = match exchanged.await {
            Ok(Exchange::Good(stored)) => stored,
            Ok(Exchange::Unknown) => return Err(AuthenticationError::InvalidToken),
            Ok(Exchange::Reused) => {
                tracing::warn!("a refresh token was used twice: its family was ended");
                return Err(AuthenticationError::InvalidToken);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a refresh token could not be exchanged"
                );
                return Err(AuthenticationError::Unavailable);
            }
        };
        let directory = self.directory().ok_or(AuthenticationError::Unavailable)?;
        let chain: Vec<_> =
            serde_json::from_str(&stored.chain).map_err(|_| AuthenticationError::InvalidToken)?;
        let key = directory.key(&stored.access_key_id).ok_or(AuthenticationError::InvalidToken)?;
        if key.principal.chain != chain || !directory.holds(&chain) {
            return Err(AuthenticationError::InvalidToken);
        }
        let caller = Caller::new(std::sync::Arc::clone(&key.principal));
        Ok((caller, RefreshToken { token: next, expires_ms: stored.expires_ms }))
    }
}

fn new_refresh_token() -> (SecretString, [u8; 32]) {
    let token = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
    let hash = Sha256::digest(token.as_bytes()).into();
    (token.into(), hash)
}
