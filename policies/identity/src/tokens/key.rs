//! One token key with everything derived from it, and the set of those that are live.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use registry_runtime::{Sealer, Secret, SecretString};
use sha2::{Digest, Sha256};

use super::signed::{Audience, JwtKey};
use super::{KEY_SETTLES_MS, LONGEST_TOKEN};
use crate::session;

const SESSION_COLUMN: &str = "session token";

/// A token key.
pub(crate) struct TokenKey {
    id: u32,
    created_ms: i64,
    sealer: Sealer,
    temporary: Secret,
    bearer: JwtKey,
    ecr: JwtKey,
}

/// The live token keys, oldest first. Never empty once Berth has started.
#[derive(Clone, Default)]
pub(crate) struct TokenKeys {
    keys: Vec<Arc<TokenKey>>,
}

impl TokenKey {
    pub(crate) fn new(id: u32, created_ms: i64, secret: &Secret) -> Self {
        let sealer = Sealer::new(secret, id);
        let jwt = |audience: Audience| JwtKey::new(id, audience, &sealer.derive(audience.as_str()));
        let (bearer, ecr) = (jwt(Audience::Registry), jwt(Audience::Ecr));
        Self { id, created_ms, temporary: sealer.derive("temporary secret"), sealer, bearer, ecr }
    }

    pub(crate) fn jwt(&self, audience: Audience) -> &JwtKey {
        match audience {
            Audience::Registry => &self.bearer,
            Audience::Ecr => &self.ecr,
        }
    }

    /// Seals a session for its access key: base64url of `version | key id | nonce | ciphertext | tag`.
    pub(crate) fn seal(&self, claims: &session::Claims) -> String {
        let text = serde_json::to_vec(claims).expect("strings and numbers always have a JSON form");
        URL_SAFE_NO_PAD.encode(self.sealer.seal(SESSION_COLUMN, &[claims.access_key_id.as_bytes()], &text))
    }

    /// The secret of a temporary access key: 40 characters, computed from the token and stored nowhere.
    pub(crate) fn temporary_secret(&self, access_key_id: &str, token: &str) -> SecretString {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.temporary.expose()).expect("HMAC takes any key");
        mac.update(access_key_id.as_bytes());
        mac.update(&Sha256::digest(token.as_bytes()));
        let mac = mac.finalize().into_bytes();
        STANDARD_NO_PAD.encode(&mac[..30]).into()
    }
}

impl TokenKeys {
    pub(crate) fn new(mut keys: Vec<Arc<TokenKey>>) -> Self {
        keys.sort_by_key(|key| key.id);
        Self { keys }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Arc<TokenKey>> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The key to make tokens with: the newest that every server knows by now.
    pub(crate) fn signing(&self, now_ms: i64) -> Option<&Arc<TokenKey>> {
        let settled = self.keys.iter().rev().find(|key| now_ms - key.created_ms >= KEY_SETTLES_MS);
        settled.or(self.keys.first())
    }

    pub(crate) fn newest_created_ms(&self) -> Option<i64> {
        self.keys.last().map(|key| key.created_ms)
    }

    /// Opens a session token that belongs to `access_key_id`, with the key it was sealed with.
    pub(crate) fn open(&self, access_key_id: &str, token: &str) -> Option<(session::Claims, &Arc<TokenKey>)> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let id = u32::from_be_bytes(sealed.get(1..5)?.try_into().ok()?);
        let key = self.get(id)?;
        let text = key.sealer.open(SESSION_COLUMN, &[access_key_id.as_bytes()], &sealed).ok()?;
        let claims: session::Claims = serde_json::from_slice(text.expose()).ok()?;
        (claims.access_key_id == access_key_id).then_some((claims, key))
    }
}
