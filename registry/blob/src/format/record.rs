//! Records: nonce, up to 64 KiB of ciphertext, tag, CRC.
//!
//! A record's tag binds it to its object, its run and its place, so that it opens nowhere else.

use sha2::{Digest as _, Sha256};

use super::runs::RunId;
use super::{FormatError, RECORD_OVERHEAD};
use crate::cipher::{BadTag, Cipher, NONCE_LEN, TAG_LEN, random};
use crate::file_id::FileId;

/// What a record is bound to besides its nonce.
pub(crate) fn associated_data(file_id: FileId, run: &RunId, index: u64) -> [u8; 40] {
    let mut aad = [0; 40];
    aad[..16].copy_from_slice(file_id.as_bytes());
    aad[16..32].copy_from_slice(run);
    aad[32..].copy_from_slice(&index.to_be_bytes());
    aad
}

/// Seals one record in place. `slot` is nonce, plaintext, tag and CRC, of which the plaintext is filled
/// in; nonce and tag also go into `seals`, the hash that the footer keeps over all of them.
pub(crate) fn seal(cipher: &Cipher, aad: &[u8; 40], slot: &mut [u8], seals: &mut Sha256) {
    let nonce: [u8; NONCE_LEN] = random();
    seal_with_nonce(cipher, aad, slot, seals, &nonce);
}

pub(crate) fn seal_with_nonce(
    cipher: &Cipher,
    aad: &[u8; 40],
    slot: &mut [u8],
    seals: &mut Sha256,
    nonce: &[u8; NONCE_LEN],
) {
    let end = slot.len() - RECORD_OVERHEAD + NONCE_LEN;
    slot[..NONCE_LEN].copy_from_slice(nonce);
    let tag = cipher.seal(nonce, aad, &mut slot[NONCE_LEN..end]);
    slot[end..end + TAG_LEN].copy_from_slice(&tag);
    let crc = crc32c::crc32c(&slot[..end + TAG_LEN]);
    slot[end + TAG_LEN..].copy_from_slice(&crc.to_be_bytes());
    seals.update(nonce);
    seals.update(tag);
}

/// Opens the record stored at `bytes[at..at + stored]` and moves its plaintext to `bytes[to..]`, where
/// `to <= at`. Records of a span opened in order come to lie side by side, and none is copied for it.
pub(crate) fn open_into(
    cipher: &Cipher,
    aad: &[u8; 40],
    bytes: &mut [u8],
    at: usize,
    stored: usize,
    to: usize,
) -> Result<usize, BadTag> {
    let nonce: [u8; NONCE_LEN] = bytes[at..at + NONCE_LEN].try_into().expect("12 bytes");
    let crc_at = at + stored - 4;
    cipher.open(&nonce, aad, &mut bytes[to..crc_at], at + NONCE_LEN - to)
}

/// Checks the CRC of a stored record, or of the footer, which ends in the same way.
pub(crate) fn check_crc(stored: &[u8]) -> Result<(), FormatError> {
    let (body, crc) = stored.split_last_chunk::<4>().ok_or(FormatError::Checksum)?;
    if crc32c::crc32c(body).to_be_bytes() == *crc { Ok(()) } else { Err(FormatError::Checksum) }
}
