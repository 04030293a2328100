//! A recovery key under a passphrase: Argon2id makes the key, AES-256-GCM seals the text.
//!
//! The cost is fixed by the version in the first line, so that a forged file cannot take all memory.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::text::{RecoveryError, checked, numbered, push_line};
use crate::{SecretString, random_bytes};

const TITLE: &str = "berth-recovery-key 1 passphrase";
/// What RFC 9106 recommends where memory is scarce: 64 MiB, three passes, four lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Bytes of ciphertext a line.
const LINE: usize = 32;

pub(super) fn is_sealed(text: &str) -> bool {
    numbered(text).next().is_some_and(|(_, first)| first == TITLE)
}

pub(super) fn seal(plain: &str, passphrase: &SecretString) -> Zeroizing<String> {
    let (salt, nonce) = (random_bytes::<16>(), random_bytes::<12>());
    let key = stretch(passphrase, &salt).expect("the cost is a constant that Argon2 takes");
    let payload = Payload { msg: plain.as_bytes(), aad: TITLE.as_bytes() };
    let sealed = Aes256Gcm::new((&*key).into())
        .encrypt(&Nonce::from(nonce), payload)
        .expect("AES-GCM takes up to 64 GiB, and memory holds less");
    let mut text = Zeroizing::new(String::new());
    text.push_str(TITLE);
    text.push_str("\n# Its passphrase opens it; there is no other way.\n");
    push_line(&mut text, "salt", &hex::encode(salt));
    push_line(&mut text, "nonce", &hex::encode(nonce));
    for (index, chunk) in sealed.chunks(LINE).enumerate() {
        push_line(&mut text, &format!("s{index}"), &hex::encode(chunk));
    }
    text
}

pub(super) fn open(text: &str, passphrase: &SecretString) -> Result<Zeroizing<String>, RecoveryError> {
    let (mut salt, mut nonce, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = 0;
    for (line, content) in numbered(text).skip(1) {
        let damaged = || RecoveryError::Damaged { line };
        let (name, value) = checked(content).ok_or_else(damaged)?;
        let bytes = hex::decode(value.as_bytes()).map_err(|_| damaged())?;
        match name {
            "salt" => salt = bytes,
            "nonce" => nonce = bytes,
            name if name == format!("s{next}") => {
                sealed.extend(bytes);
                next += 1;
            }
            _ => return Err(damaged()),
        }
    }
    let nonce = <[u8; 12]>::try_from(nonce).map_err(|_| RecoveryError::Damaged { line: 3 })?;
    let key = stretch(passphrase, &salt).ok_or(RecoveryError::Damaged { line: 2 })?;
    let payload = Payload { msg: &sealed, aad: TITLE.as_bytes() };
    let plain = Aes256Gcm::new((&*key).into()).decrypt(&Nonce::from(nonce), payload);
    let plain = plain.map_err(|_| RecoveryError::Passphrase)?;
    String::from_utf8(plain).map(Zeroizing::new).map_err(|_| RecoveryError::Passphrase)
}

/// `None` for a salt that is none.
fn stretch(passphrase: &SecretString, salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(passphrase.expose().as_bytes(), salt, &mut *key).ok()?;
    Some(key)
}
