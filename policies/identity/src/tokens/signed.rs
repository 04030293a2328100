//! Signed tokens (HS256): they name a session or an access key, and carry no rights.
//!
//! Key id and algorithm are pinned: a token chooses between our two keys and nothing else. Each audience
//! has a key of its own, so that a token for one is not even signed for the other.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use registry_runtime::{Secret, SecretString, random_id};
use serde::{Deserialize, Serialize};

use super::{LONGEST_TOKEN, TokenKeys};
use crate::session::Link;

const ISSUER: &str = "berth";

/// How far ahead of ours another server's clock may be, in seconds.
const LEEWAY_S: i64 = 5;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The registry API, with a bearer token of `/token`.
    Registry,
    /// The password of the Docker user `AWS`.
    Ecr,
}

impl Audience {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Audience::Registry => "berth:registry",
            Audience::Ecr => "berth:ecr",
        }
    }
}

/// The content of a token. Without an access key it names the anonymous principal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    /// Seconds since the Unix epoch, as all times of JWT.
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) akid: Option<String>,
    /// Of a long-lived access key: what must still be as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chain: Vec<Link>,
    /// Of a session: its sealed token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
}

impl Claims {
    /// Claims that hold from now until `expires_ms`.
    pub(crate) fn new(audience: Audience, now_ms: i64, expires_ms: i64) -> Self {
        let now = now_ms.div_euclid(1000);
        Self {
            iss: ISSUER.to_owned(),
            aud: audience.as_str().to_owned(),
            iat: now,
            nbf: now,
            exp: expires_ms.div_euclid(1000),
            jti: random_id(),
            akid: None,
            chain: Vec::new(),
            session: None,
            scope: None,
        }
    }

    pub(crate) fn issued_ms(&self) -> i64 {
        self.iat.saturating_mul(1000)
    }

    pub(crate) fn expires_ms(&self) -> i64 {
        self.exp.saturating_mul(1000)
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    Invalid,
    Expired,
}

/// The signing key of one audience.
pub(crate) struct JwtKey {
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl JwtKey {
    pub(super) fn new(id: u32, audience: Audience, secret: &Secret) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(id.to_string());
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience.as_str()]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf"]);
        // Times are compared below, with the clock that is passed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self {
            header,
            encoding: EncodingKey::from_secret(secret.expose()),
            decoding: DecodingKey::from_secret(secret.expose()),
            validation,
        }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> SecretString {
        encode(&self.header, claims, &self.encoding).expect("HS256 signs any claims").into()
    }
}

impl TokenKeys {
    /// The claims of a token for this audience that holds at `now_ms`.
    pub(crate) fn verify(&self, token: &str, audience: Audience, now_ms: i64) -> Result<Claims, TokenError> {
        // Three parts: a JWE has five, and nobody needs a million dots to be split.
        let three_parts =
            token.len() <= LONGEST_TOKEN && token.bytes().filter(|byte| *byte == b'.').count() == 2;
        if !three_parts {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let id = header.kid.as_deref().and_then(|kid| kid.parse().ok()).ok_or(TokenError::Invalid)?;
        let key = self.get(id).ok_or(TokenError::Invalid)?.jwt(audience);
        let claims =
            decode::<Claims>(token, &key.decoding, &key.validation).map_err(|_| TokenError::Invalid)?.claims;
        let now = now_ms.div_euclid(1000);
        if claims.nbf > now + LEEWAY_S || claims.iat > now + LEEWAY_S {
            return Err(TokenError::Invalid);
        }
        if claims.expires_ms() <= now_ms {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}
