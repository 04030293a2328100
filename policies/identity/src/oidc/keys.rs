//! The keys of issuers, kept for a while.
//!
//! A token with a key that is not known has the keys fetched again, as issuers rotate theirs at any time; how often
//! is bounded, since anybody can make such a token up. Each issuer is asked once at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::token::{Problem, Unverified};
use super::{Issuers, Provider};
use crate::identity::Identity;

/// Keys that an issuer withdrew count no longer than this.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// An issuer is asked no more often than this.
const GAP: Duration = Duration::from_secs(5);
const MOST_KEYS: usize = 64;
/// In bytes: 2048 to 8192 bits.
const RSA_SIZES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What one issuer published.
pub(crate) struct KeySet(Vec<PublicKey>);

struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Default)]
pub(crate) struct KeyCache {
    /// By the provider's uid.
    issuers: Mutex<HashMap<Arc<str>, Arc<Kept>>>,
}

/// What is known of one issuer. Whoever finds its key here waits for nobody.
#[derive(Default)]
struct Kept {
    known: Mutex<Known>,
    asking: tokio::sync::Mutex<()>,
}

/// Times are those of the monotonic clock.
#[derive(Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Duration)>,
    asked: Option<Duration>,
    /// Whether the last answer was none.
    failed: bool,
}

impl Known {
    /// The keys, if they are young enough to count.
    fn fresh(&self, now: Duration) -> Option<&Arc<KeySet>> {
        let (keys, fetched) = self.keys.as_ref()?;
        (now.saturating_sub(*fetched) < LIFE).then_some(keys)
    }

    fn with_key_of(&self, token: &Unverified<'_>, now: Duration) -> Option<Arc<KeySet>> {
        self.fresh(now).filter(|keys| keys.find(token).is_some()).cloned()
    }
}

impl KeyCache {
    /// Keys of the provider's issuer, among them the one that the token names.
    pub(super) async fn of(
        &self,
        identity: &Identity,
        provider: &Provider,
        token: &Unverified<'_>,
    ) -> Result<Arc<KeySet>, Problem> {
        let clock = &identity.inner().clock;
        let kept = self.entry(identity, provider);
        if let Some(keys) = kept.known.lock().with_key_of(token, clock.monotonic()) {
            return Ok(keys);
        }
        // One request at a time; the others find what it brought.
        let _turn = kept.asking.lock().await;
        let now = clock.monotonic();
        {
            let mut known = kept.known.lock();
            if let Some(keys) = known.with_key_of(token, now) {
                return Ok(keys);
            }
            if known.asked.is_some_and(|asked| now.saturating_sub(asked) < GAP) {
                return Err(if known.failed { Problem::Unreachable } else { Problem::NoKey });
            }
            // Failed until an answer is there: whoever asks may go away meanwhile.
            (known.asked, known.failed) = (Some(now), true);
        }
        let issuers = match identity.inner().issuers.get() {
            Some(issuers) => Ok(issuers.clone()),
            None => Issuers::new(Vec::new(), Vec::new()).map_err(|error| error.to_string()),
        };
        let fetched = match issuers {
            Ok(issuers) => issuers.keys_of(provider).await,
            Err(problem) => Err(problem),
        };
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                let mut known = kept.known.lock();
                (known.keys, known.failed) = (Some((Arc::clone(&keys), now)), false);
                keys.find(token).is_some().then_some(keys).ok_or(Problem::NoKey)
            }
            // Keys that are there go on counting for their time: anybody can make a token up for which they are
            // fetched again.
            Err(problem) => {
                tracing::warn!(
                    provider.arn = &*provider.arn,
                    problem,
                    "the keys of an issuer cannot be fetched"
                );
                Err(Problem::Unreachable)
            }
        }
    }

    fn entry(&self, identity: &Identity, provider: &Provider) -> Arc<Kept> {
        let mut issuers = self.issuers.lock();
        if let Some(kept) = issuers.get(&provider.uid) {
            return Arc::clone(kept);
        }
        let directory = identity.inner().directory.load();
        issuers.retain(|uid, _| directory.has_provider(uid));
        Arc::clone(issuers.entry(Arc::clone(&provider.uid)).or_default())
    }
}

impl KeySet {
    /// Of a JWK set; what is not for signatures that count here is passed over.
    pub(super) fn read(bytes: &[u8]) -> Option<KeySet> {
        let set: Value = serde_json::from_slice(bytes).ok()?;
        let keys = set.get("keys")?.as_array()?;
        Some(KeySet(keys.iter().take(MOST_KEYS).filter_map(PublicKey::read).collect()))
    }

    fn find(&self, token: &Unverified<'_>) -> Option<&PublicKey> {
        let mut suitable = self.0.iter().filter(|key| key.algorithm == token.algorithm);
        match &token.key_id {
            Some(id) => suitable.find(|key| key.id.as_ref() == Some(id)),
            // Without a name only where there is no choice.
            None => suitable.next().filter(|_| suitable.next().is_none()),
        }
    }

    /// The claims, if the key that the token names signed them.
    pub(super) fn verify(&self, token: &Unverified<'_>) -> Result<Map<String, Value>, Problem> {
        let key = self.find(token).ok_or(Problem::NoKey)?;
        let mut validation = Validation::new(key.algorithm);
        // Claims are checked by the caller, with the clock that it has.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let verified = decode::<Map<String, Value>>(token.text, &key.key, &validation);
        verified.map(|verified| verified.claims).map_err(|_| Problem::Signature)
    }
}

impl PublicKey {
    fn read(value: &Value) -> Option<PublicKey> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let size = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?.len();
                RSA_SIZES.contains(&size).then_some(Algorithm::RS256)?
            }
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        let stated = value.get("alg").and_then(Value::as_str);
        let fits = stated.is_none_or(|stated| stated == format!("{algorithm:?}"));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (signs && fits).then_some(PublicKey { id: jwk.common.key_id, algorithm, key })
    }
}
