//! Remembers the signatures of requests that must not be repeated.
//!
//! Only verified signatures come here, so a stranger cannot fill it. When it is full, requests are
//! refused rather than forgotten: forgetting would let an old one through again.

use std::collections::HashMap;

use super::error::SigV4Error;
use super::parse::Signed;

/// The signatures seen within their validity. Wrap it in a lock; it takes the time as an argument.
#[derive(Debug)]
pub struct ReplayGuard {
    /// Signature -> when it ceases to be valid by itself.
    seen: HashMap<[u8; 32], i64>,
    capacity: usize,
    skew_ms: i64,
}

impl ReplayGuard {
    /// Holds at most `capacity` signatures (about 60 bytes each); `skew_ms` as in `Expected`.
    pub fn new(capacity: usize, skew_ms: i64) -> Self {
        Self { seen: HashMap::new(), capacity, skew_ms }
    }

    /// Accepts a verified signature the first time, and refuses it afterwards as `Replayed`.
    pub fn admit(&mut self, signed: &Signed, now_ms: i64) -> Result<(), SigV4Error> {
        if self.seen.len() >= self.capacity {
            self.seen.retain(|_, valid_until_ms| *valid_until_ms >= now_ms);
        }
        if self.seen.contains_key(&signed.signature) || self.seen.len() >= self.capacity {
            return Err(SigV4Error::Replayed);
        }
        self.seen.insert(signed.signature, signed.valid_until_ms(self.skew_ms));
        Ok(())
    }
}
