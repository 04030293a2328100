//! The footer: what the blob is, sealed under a key of its own.
//!
//! It binds the object to its digest, which is unknown while records are sealed, and lists the runs.

use registry_types::{Algorithm, Digest};

use super::runs::Runs;
use super::{FormatError, Layout, MAX_FOOTER_LEN, MAX_TOTAL_LEN, RECORD_OVERHEAD, record};
use crate::cipher::{Cipher, NONCE_LEN, TAG_LEN, random};
use crate::format::HEADER_LEN;

/// A footer in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) total_len: u64,
    pub(crate) digest: Digest,
    /// SHA-256 over nonce ‖ tag of every record in order.
    pub(crate) seals_sha256: [u8; 32],
    pub(crate) runs: Runs,
}

fn associated_data(header: &[u8; HEADER_LEN]) -> Vec<u8> {
    [header.as_slice(), b"footer"].concat()
}

impl Footer {
    /// The footer as it is stored.
    pub(crate) fn seal(&self, cipher: &Cipher, header: &[u8; HEADER_LEN]) -> Vec<u8> {
        self.seal_with_nonce(cipher, header, &random())
    }

    pub(crate) fn seal_with_nonce(
        &self,
        cipher: &Cipher,
        header: &[u8; HEADER_LEN],
        nonce: &[u8; NONCE_LEN],
    ) -> Vec<u8> {
        let mut output = Vec::with_capacity(RECORD_OVERHEAD + 256);
        output.extend_from_slice(nonce);
        output.extend_from_slice(&self.total_len.to_be_bytes());
        output.extend_from_slice(&Layout { total_len: self.total_len }.records().to_be_bytes());
        output.push(self.digest.algorithm().code());
        output.extend_from_slice(&self.digest.hash());
        output.extend_from_slice(&self.seals_sha256);
        self.runs.encode(&mut output);
        let tag = cipher.seal(nonce, &associated_data(header), &mut output[NONCE_LEN..]);
        output.extend_from_slice(&tag);
        let crc = crc32c::crc32c(&output);
        output.extend_from_slice(&crc.to_be_bytes());
        output
    }

    /// Opens a stored footer. Every field is checked against the others.
    pub(crate) fn open(
        cipher: &Cipher,
        header: &[u8; HEADER_LEN],
        stored: &[u8],
    ) -> Result<Self, FormatError> {
        if stored.len() < NONCE_LEN + TAG_LEN + 4 || stored.len() > MAX_FOOTER_LEN {
            return Err(FormatError::Footer);
        }
        record::check_crc(stored)?;
        let nonce: [u8; NONCE_LEN] = stored[..NONCE_LEN].try_into().expect("12 bytes");
        let mut in_out = stored[NONCE_LEN..stored.len() - 4].to_vec();
        let len =
            cipher.open(&nonce, &associated_data(header), &mut in_out, 0).map_err(|_| FormatError::Footer)?;
        Self::decode(&in_out[..len]).ok_or(FormatError::Footer)
    }

    pub(crate) fn decode(mut input: &[u8]) -> Option<Self> {
        let input = &mut input;
        let total_len = u64::from_be_bytes(take(input)?);
        let records = u64::from_be_bytes(take(input)?);
        let [code] = take(input)?;
        let digest = match code {
            1 => Digest::from_hash(Algorithm::Sha256, &take::<32>(input)?),
            2 => Digest::from_hash(Algorithm::Sha512, &take::<64>(input)?),
            _ => return None,
        };
        let seals_sha256 = take(input)?;
        if total_len > MAX_TOTAL_LEN || records != (Layout { total_len }).records() {
            return None;
        }
        let runs = Runs::decode(input, records).ok()?;
        input.is_empty().then_some(Self { total_len, digest, seals_sha256, runs })
    }
}

/// Takes `N` bytes off the front.
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*front)
}
