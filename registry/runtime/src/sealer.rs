//! Seals secret columns, so that a copy of the database without the keys holds none of them in clear.
//!
//! AES-256-GCM under a key per column. The additional data names the row, so that a sealed value cannot be
//! moved to another one. Invariant: what opens is what was sealed for this very column and row.
//!
//! A sealed value is `version 1 | epoch be32 | nonce[12] | ciphertext | tag[16]`.

use std::collections::HashMap;
use std::sync::Arc;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use parking_lot::RwLock;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Secret, random_bytes};

const VERSION: u8 = 1;
const NONCE_AT: usize = 1 + 4;
const CIPHERTEXT_AT: usize = NONCE_AT + 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a sealed value, changed, or sealed for another column, row or key.
    #[error("a sealed value does not open here")]
    Invalid,
    /// Sealed under an epoch whose secret this process does not hold.
    #[error("a sealed value belongs to key epoch {0}")]
    Epoch(u32),
}

pub struct Sealer {
    keys: Hkdf<Sha256>,
    epoch: u32,
    ciphers: RwLock<HashMap<&'static str, Arc<Aes256Gcm>>>,
}

impl Sealer {
    /// From the secret of the key domain "system" and its epoch.
    pub fn new(secret: &Secret, epoch: u32) -> Sealer {
        Sealer { keys: Hkdf::new(None, secret.expose()), epoch, ciphers: RwLock::default() }
    }

    /// Seals a value for `column` ("table.column") of the row that `aad` names: by convention primary key,
    /// uid of the owner, version of the row.
    pub fn seal(&self, column: &'static str, aad: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
        let nonce = random_bytes::<12>();
        let payload = Payload { msg: plaintext, aad: &associated_data(self.epoch, column, aad) };
        let sealed = self
            .cipher(column)
            .encrypt(&Nonce::from(nonce), payload)
            .expect("AES-GCM takes up to 64 GiB, and memory holds less");
        let mut value = Vec::with_capacity(CIPHERTEXT_AT + sealed.len());
        value.push(VERSION);
        value.extend(self.epoch.to_be_bytes());
        value.extend(nonce);
        value.extend(sealed);
        value
    }

    /// Opens what was sealed for the same column and row.
    pub fn open(&self, column: &'static str, aad: &[&[u8]], sealed: &[u8]) -> Result<Secret, SealError> {
        let Some((header, ciphertext)) = sealed.split_at_checked(CIPHERTEXT_AT) else {
            return Err(SealError::Invalid);
        };
        let (version, epoch) = (header[0], u32::from_be_bytes([header[1], header[2], header[3], header[4]]));
        if version != VERSION {
            return Err(SealError::Invalid);
        }
        if epoch != self.epoch {
            return Err(SealError::Epoch(epoch));
        }
        let nonce =
            <[u8; 12]>::try_from(&header[NONCE_AT..]).expect("the header ends with 12 bytes of nonce");
        let payload = Payload { msg: ciphertext, aad: &associated_data(epoch, column, aad) };
        let plaintext = self.cipher(column).decrypt(&Nonce::from(nonce), payload);
        plaintext.map(Secret::new).map_err(|_| SealError::Invalid)
    }

    /// A key of 32 bytes for another use, such as "bearer tokens", never equal to a column's key.
    pub fn derive(&self, label: &str) -> Secret {
        Secret::new(self.key(b"berth derived key\0", label).to_vec())
    }

    fn cipher(&self, column: &'static str) -> Arc<Aes256Gcm> {
        if let Some(cipher) = self.ciphers.read().get(column) {
            return Arc::clone(cipher);
        }
        let key = self.key(b"berth sealed column\0", column);
        let cipher = Arc::new(Aes256Gcm::new((&*key).into()));
        Arc::clone(self.ciphers.write().entry(column).or_insert(cipher))
    }

    fn key(&self, purpose: &[u8], name: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        self.keys
            .expand_multi_info(&[purpose, name.as_bytes()], &mut *key)
            .expect("32 bytes are a valid length for HKDF-SHA256");
        key
    }
}

/// Every part with its length before it, so that no two lists of parts give the same bytes.
fn associated_data(epoch: u32, column: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut data = vec![VERSION];
    data.extend(epoch.to_be_bytes());
    for part in std::iter::once(&column.as_bytes()).chain(parts) {
        data.extend((part.len() as u64).to_be_bytes());
        data.extend(*part);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&Secret::new(vec![7; 32]), 1)
    }

    #[test]
    fn what_was_sealed_opens_for_its_row_only() {
        let sealer = sealer();
        let sealed = sealer.seal("access_keys.secret", &[b"AKIA1", b"u1", b"1"], b"canary");
        assert_eq!(
            sealer.open("access_keys.secret", &[b"AKIA1", b"u1", b"1"], &sealed).unwrap().expose(),
            b"canary"
        );
        for (column, aad) in [
            ("access_keys.other", &[&b"AKIA1"[..], b"u1", b"1"][..]),
            ("access_keys.secret", &[b"AKIA2", b"u1", b"1"]),
            ("access_keys.secret", &[b"AKIA1", b"u1", b"2"]),
            ("access_keys.secret", &[b"AKIA1u", b"1", b"1"]),
            ("access_keys.secret", &[b"AKIA1", b"u1"]),
            ("access_keys.secret", &[b"AKIA1", b"u1", b"1", b""]),
        ] {
            assert_eq!(sealer.open(column, aad, &sealed), Err(SealError::Invalid));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let sealer = sealer();
        let sealed = sealer.seal("t.c", &[], b"plaintext");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open("t.c", &[], &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open("t.c", &[], &sealed[..length]).is_err());
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes_and_no_plaintext() {
        let sealer = sealer();
        let (one, two) = (sealer.seal("t.c", &[], b"canary"), sealer.seal("t.c", &[], b"canary"));
        assert_ne!(one, two);
        assert!(!one.windows(6).any(|window| window == b"canary"));
        assert_eq!(one.len(), 1 + 4 + 12 + 6 + 16);
    }

    #[test]
    fn another_epoch_or_secret_opens_nothing() {
        let sealed = sealer().seal("t.c", &[], b"x");
        assert_eq!(
            Sealer::new(&Secret::new(vec![7; 32]), 2).open("t.c", &[], &sealed),
            Err(SealError::Epoch(1))
        );
        assert_eq!(
            Sealer::new(&Secret::new(vec![8; 32]), 1).open("t.c", &[], &sealed),
            Err(SealError::Invalid)
        );
    }

    #[test]
    fn derived_keys_differ_by_label() {
        let sealer = sealer();
        assert_ne!(sealer.derive("a"), sealer.derive("b"));
        assert_eq!(sealer.derive("a"), sealer.derive("a"));
        assert_eq!(sealer.derive("a").expose().len(), 32);
    }
}
