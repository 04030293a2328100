//! Wrapping data keys: the only module that uses `aes-gcm`, which checks `ring`'s work in tests and is
//! checked by it.
//!
//! What a wrapped key is for is authenticated with it: the key of one blob opens no other, and the key
//! of an upload row is no key of a blob.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use registry_types::Digest;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cipher::{BadTag, KEY_LEN, NONCE_LEN, random};
use crate::file_id::FileId;
use crate::key_row::Domain;

pub(crate) const WRAPPED_LEN: usize = KEY_LEN + 16;

/// The key that wraps the data keys of one domain and epoch.
pub(crate) struct Kek(Zeroizing<[u8; KEY_LEN]>);

/// A data key.
pub(crate) type Dek = Zeroizing<[u8; KEY_LEN]>;

/// A data key under a key of its domain.
#[derive(Clone, Copy)]
pub(crate) struct Wrapped {
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) bytes: [u8; WRAPPED_LEN],
}

/// "brf1-wrap" ‖ domain ‖ dek_id ‖ file_id ‖ total_len ‖ algorithm ‖ digest
pub(crate) fn blob_context(
    domain: &Domain,
    dek_id: &[u8; 16],
    file_id: FileId,
    total_len: u64,
    digest: &Digest,
) -> Vec<u8> {
    [
        b"brf1-wrap",
        domain.id().as_slice(),
        dek_id,
        file_id.as_bytes(),
        &total_len.to_be_bytes(),
        &[digest.algorithm().code()],
        &digest.hash(),
    ]
    .concat()
}

/// "brf1-upload" ‖ domain ‖ dek_id ‖ file_id ‖ upload uid
pub(crate) fn upload_context(domain: &Domain, dek_id: &[u8; 16], file_id: FileId, uid: &str) -> Vec<u8> {
    [b"brf1-upload", domain.id().as_slice(), dek_id, file_id.as_bytes(), uid.as_bytes()].concat()
}

impl Kek {
    /// HKDF of the provider's secret, bound to domain and epoch.
    pub(crate) fn derive(secret: &[u8], domain_id: &[u8; 16], epoch: u32) -> Self {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Hkdf::<Sha256>::new(Some(domain_id), secret)
            .expand_multi_info(&[b"brf1-kek", &epoch.to_be_bytes()], key.as_mut())
            .expect("32 bytes are within HKDF's limit");
        Self(key)
    }

    /// One key per data key, so that no number of blobs wears a wrapping key out.
    fn cipher(&self, dek_id: &[u8; 16]) -> Aes256Gcm {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Hkdf::<Sha256>::new(None, self.0.as_ref())
            .expand(dek_id, key.as_mut())
            .expect("32 bytes are within HKDF's limit");
        Aes256Gcm::new((&*key).into())
    }

    pub(crate) fn wrap(&self, dek_id: &[u8; 16], dek: &Dek, context: &[u8]) -> Wrapped {
        self.wrap_with_nonce(dek_id, dek, context, random())
    }

    pub(crate) fn wrap_with_nonce(
        &self,
        dek_id: &[u8; 16],
        dek: &Dek,
        context: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Wrapped {
        let payload = Payload { msg: dek.as_ref(), aad: context };
        let bytes = self
            .cipher(dek_id)
            .encrypt(&Nonce::from(nonce), payload)
            .expect("32 bytes are within GCM's limit")
            .try_into()
            .expect("a sealed key has 48 bytes");
        Wrapped { nonce, bytes }
    }

    pub(crate) fn unwrap(&self, dek_id: &[u8; 16], wrapped: &Wrapped, context: &[u8]) -> Result<Dek, BadTag> {
        let payload = Payload { msg: &wrapped.bytes, aad: context };
        let dek = self.cipher(dek_id).decrypt(&Nonce::from(wrapped.nonce), payload).map_err(|_| BadTag)?;
        let dek = Zeroizing::new(dek);
        let mut output = Zeroizing::new([0; KEY_LEN]);
        output.copy_from_slice(&dek);
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use hkdf::Hkdf;
    use registry_types::{Algorithm, Digest};
    use sha2::Sha256;
    use zeroize::Zeroizing;

    use super::{Kek, blob_context, upload_context};
    use crate::cipher::Cipher;
    use crate::file_id::FileId;
    use crate::key_row::Domain;

    const FILE: FileId = FileId::from_bytes([7; 16]);

    #[test]
    fn wrapped_key_opens_only_in_its_own_context() {
        let domain = Domain::new("default");
        let digest = Digest::from_hash(Algorithm::Sha256, &[1; 32]);
        let kek = Kek::derive(&[9; 32], domain.id(), 1);
        let dek = Zeroizing::new([5; 32]);
        let context = blob_context(&domain, &[3; 16], FILE, 10, &digest);
        let wrapped = kek.wrap(&[3; 16], &dek, &context);
        assert_eq!(kek.unwrap(&[3; 16], &wrapped, &context).unwrap(), dek);

        let other = Digest::from_hash(Algorithm::Sha256, &[2; 32]);
        for wrong in [
            blob_context(&Domain::new("other"), &[3; 16], FILE, 10, &digest),
            blob_context(&domain, &[4; 16], FILE, 10, &digest),
            blob_context(&domain, &[3; 16], FileId::from_bytes([8; 16]), 10, &digest),
            blob_context(&domain, &[3; 16], FILE, 11, &digest),
            blob_context(&domain, &[3; 16], FILE, 10, &other),
            upload_context(&domain, &[3; 16], FILE, "uid"),
        ] {
            assert!(kek.unwrap(&[3; 16], &wrapped, &wrong).is_err());
        }
        assert!(kek.unwrap(&[4; 16], &wrapped, &context).is_err());
        assert!(Kek::derive(&[9; 32], domain.id(), 2).unwrap(&[3; 16], &wrapped, &context).is_err());
        for bit in 0..wrapped.bytes.len() * 8 {
            let mut flipped = wrapped;
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(kek.unwrap(&[3; 16], &flipped, &context).is_err());
        }
    }

    #[test]
    fn ring_opens_what_was_wrapped() {
        let kek = Kek::derive(&[1; 32], &[2; 16], 3);
        let dek = Zeroizing::new([4; 32]);
        let wrapped = kek.wrap(&[5; 16], &dek, b"context");
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, kek.0.as_ref()).expand(&[5; 16], &mut key).unwrap();
        let mut in_out = wrapped.bytes;
        let len = Cipher::new(&key).open(&wrapped.nonce, b"context", &mut in_out, 0).unwrap();
        assert_eq!(&in_out[..len], dek.as_ref());
    }
}
