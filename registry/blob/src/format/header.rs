//! The header: names the object, its key and its domain, and commits to the key.
//!
//! GCM alone does not bind a ciphertext to one key; the commitment does, and is checked before any
//! record is opened.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{FormatError, HEADER_LEN};
use crate::cipher::{Cipher, KEY_LEN};
use crate::file_id::FileId;

const MAGIC: &[u8; 4] = b"BRF1";
const VERSION: u8 = 1;
/// AES-256-GCM with HKDF-SHA256.
const ALGORITHM: u8 = 1;
const RECORD_LOG2: u8 = 16;
/// The part that every derived key depends on.
const NAMES: usize = 56;

/// A well-formed header.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header([u8; HEADER_LEN]);

/// The keys of one object.
pub(crate) struct ObjectKeys {
    pub(crate) record: Cipher,
    pub(crate) footer: Cipher,
    /// Seals the state of a suspended upload.
    pub(crate) tail: Cipher,
    commitment: [u8; 32],
}

impl Header {
    /// The header of an object and its keys, from its data key and salt.
    pub(crate) fn build(
        file_id: FileId,
        dek_id: &[u8; 16],
        domain_id: &[u8; 16],
        salt: &[u8; 32],
        dek: &[u8; KEY_LEN],
    ) -> (Self, ObjectKeys) {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&[VERSION, ALGORITHM, RECORD_LOG2, 0]);
        bytes[8..24].copy_from_slice(file_id.as_bytes());
        bytes[24..40].copy_from_slice(dek_id);
        bytes[40..56].copy_from_slice(domain_id);
        bytes[56..88].copy_from_slice(salt);
        let keys = ObjectKeys::derive(&bytes, dek);
        bytes[88..120].copy_from_slice(&keys.commitment);
        let crc = crc32c::crc32c(&bytes[..120]);
        bytes[120..124].copy_from_slice(&crc.to_be_bytes());
        (Self(bytes), keys)
    }

    /// Checks form and checksum; says nothing yet about whose header it is.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes: [u8; HEADER_LEN] = bytes.try_into().map_err(|_| FormatError::Header)?;
        let fixed = bytes[..4] == *MAGIC && bytes[4..8] == [VERSION, ALGORITHM, RECORD_LOG2, 0];
        let crc = crc32c::crc32c(&bytes[..120]).to_be_bytes();
        if !fixed || bytes[120..124] != crc || bytes[124..] != [0; 4] {
            return Err(FormatError::Header);
        }
        Ok(Self(bytes))
    }

    /// The object's keys, if this is the header of that object and `dek` its data key.
    pub(crate) fn keys(
        &self,
        file_id: FileId,
        dek_id: &[u8; 16],
        domain_id: &[u8; 16],
        dek: &[u8; KEY_LEN],
    ) -> Result<ObjectKeys, FormatError> {
        let named =
            self.0[8..24] == *file_id.as_bytes() && self.0[24..40] == *dek_id && self.0[40..56] == *domain_id;
        if !named {
            return Err(FormatError::OtherObject);
        }
        let keys = ObjectKeys::derive(&self.0, dek);
        // Both sides are public values: the commitment stands in the object in clear.
        if self.0[88..120] != keys.commitment {
            return Err(FormatError::Commitment);
        }
        Ok(keys)
    }

    pub(crate) fn names(&self, file_id: FileId, dek_id: &[u8; 16], domain_id: &[u8; 16]) -> bool {
        self.0[8..24] == *file_id.as_bytes() && self.0[24..40] == *dek_id && self.0[40..56] == *domain_id
    }

    pub(crate) fn salt(&self) -> &[u8; 32] {
        self.0[56..88].try_into().expect("32 bytes")
    }

    pub(crate) fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }
}

impl ObjectKeys {
    /// K_rec ‖ commitment, K_foot and K_tail; `header` needs to be filled up to its salt.
    fn derive(header: &[u8; HEADER_LEN], dek: &[u8; KEY_LEN]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(&header[NAMES..NAMES + 32]), dek);
        let expand = |label: &[u8]| {
            let mut output = Zeroizing::new([0; 64]);
            hkdf.expand_multi_info(&[label, &header[..NAMES]], output.as_mut())
                .expect("64 bytes are within HKDF's limit");
            output
        };
        let cipher =
            |output: &[u8; 64]| Cipher::new(output[..KEY_LEN].try_into().expect("the front of 64 bytes"));
        let record = expand(b"brf1");
        Self {
            commitment: record[KEY_LEN..].try_into().expect("the other half of 64 bytes"),
            record: cipher(&record),
            footer: cipher(&expand(b"brf1-footer")),
            tail: cipher(&expand(b"brf1-tail")),
        }
    }
}
