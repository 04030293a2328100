//! The part of verification that needs the secret, the body or the clock.
//!
//! No signing keys are cached: deriving one is four short HMACs (about 2 µs), and a key that lives
//! nowhere needs no purge when an access key is disabled.

use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::SigV4Error;
use super::parse::{Form, Payload, Scope, Signed};
use super::{ALGORITHM, canonical};
use crate::timestamp::amz_date;

/// What the server accepts.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Signing names of the service addressed, e.g. `["ecr"]`.
    pub services: &'a [&'a str],
    /// Regions that clients may sign for; empty accepts any.
    pub regions: &'a [&'a str],
    pub now_ms: i64,
    /// Tolerance in either direction, usually `DEFAULT_SKEW_MS`.
    pub skew_ms: i64,
    /// Whether `UNSIGNED-PAYLOAD` is permitted: only over TLS, and only where the body is checked otherwise.
    pub unsigned_payload: bool,
}

impl Signed {
    /// Whether the signature holds for this request, the body read with it, and this moment.
    ///
    /// For an access key that does not exist, call it with any other secret and give the same answer:
    /// that takes the same work. Scope and time are checked first, as they depend on no key.
    pub fn verify(
        &self,
        parts: &Parts,
        secret: &[u8],
        body_sha256: &[u8; 32],
        expected: &Expected<'_>,
    ) -> Result<(), SigV4Error> {
        self.check_scope(expected)?;
        self.check_time(expected)?;
        let payload_hash = match self.payload {
            Payload::Unsigned if !expected.unsigned_payload => return Err(SigV4Error::PayloadUnsigned),
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Declared(hash) if &hash != body_sha256 => return Err(SigV4Error::PayloadMismatch),
            Payload::Declared(_) | Payload::Body => hex::encode(body_sha256),
        };
        let request = canonical::request(parts, &self.signed_headers, &payload_hash)?;
        let calculated = signature(secret, &self.scope, &self.amz_date, &request);
        if bool::from(calculated.ct_eq(&self.signature)) { Ok(()) } else { Err(SigV4Error::Mismatch) }
    }

    fn check_scope(&self, expected: &Expected<'_>) -> Result<(), SigV4Error> {
        if !expected.services.contains(&self.scope.service.as_str()) {
            let service = expected.services.first().copied().unwrap_or_default();
            return Err(SigV4Error::Scope(format!(
                "Credential should be scoped to correct service: '{service}'"
            )));
        }
        if !expected.regions.is_empty() && !expected.regions.contains(&self.scope.region.as_str()) {
            return Err(SigV4Error::Scope(format!(
                "Credential should be scoped to a valid region, not '{}': this server's region is '{}'",
                self.scope.region, expected.regions[0]
            )));
        }
        Ok(())
    }

    fn check_time(&self, expected: &Expected<'_>) -> Result<(), SigV4Error> {
        let latest = expected.now_ms.saturating_add(expected.skew_ms);
        if self.timestamp_ms > latest {
            return Err(SigV4Error::NotYetValid {
                signed_at: self.amz_date.clone(),
                latest: amz_date(latest),
            });
        }
        // A presigned request names its own end; the tolerance is not added to it.
        let lifetime_ms = match self.form {
            Form::Header => expected.skew_ms,
            Form::Query { expires_s } => i64::from(expires_s) * 1000,
        };
        let earliest = expected.now_ms.saturating_sub(lifetime_ms);
        if self.timestamp_ms < earliest {
            return Err(SigV4Error::Expired {
                signed_at: self.amz_date.clone(),
                earliest: amz_date(earliest),
            });
        }
        Ok(())
    }

    /// Until when this signature could be presented again.
    pub(super) fn valid_until_ms(&self, skew_ms: i64) -> i64 {
        match self.form {
            Form::Header => self.timestamp_ms.saturating_add(skew_ms),
            Form::Query { expires_s } => self.timestamp_ms.saturating_add(i64::from(expires_s) * 1000),
        }
    }
}

/// The signature of a canonical request.
pub(super) fn signature(secret: &[u8], scope: &Scope, amz_date: &str, canonical_request: &[u8]) -> [u8; 32] {
    let hash = hex::encode(Sha256::digest(canonical_request));
    let string_to_sign = format!("{ALGORITHM}\n{amz_date}\n{scope}\n{hash}");
    hmac(signing_key(secret, scope).as_slice(), string_to_sign.as_bytes())
}

fn signing_key(secret: &[u8], scope: &Scope) -> zeroize::Zeroizing<[u8; 32]> {
    let mut first = zeroize::Zeroizing::new(Vec::with_capacity(4 + secret.len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret);
    let date = hmac(&first, scope.date.as_bytes());
    let region = hmac(&date, scope.region.as_bytes());
    let service = hmac(&region, scope.service.as_bytes());
    zeroize::Zeroizing::new(hmac(&service, b"aws4_request"))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
