//! An opened object: everything but its records is verified.

use registry_types::Digest;
use sha2::{Digest as _, Sha256};

use super::Inner;
use super::records::Records;
use crate::cipher::KEY_LEN;
use crate::error::BlobError;
use crate::format::footer::Footer;
use crate::format::header::{Header, ObjectKeys};
use crate::format::{FormatError, HEADER_LEN, Layout, MAX_FOOTER_LEN, MAX_TOTAL_LEN, RECORD_OVERHEAD};
use crate::key_row::KeyRow;
use crate::replicate::readers::{ReadSet, Tried};

/// Keys, runs and open files of one object.
pub(super) struct Opened {
    row: KeyRow,
    digest: Digest,
    pub(super) keys: ObjectKeys,
    pub(super) records: Records,
}

/// The length of the footer that a row speaks of, if such a row can be.
pub(super) fn footer_len(row: &KeyRow) -> Option<usize> {
    if row.total_len > MAX_TOTAL_LEN {
        return None;
    }
    let len = row.object_len.checked_sub(Layout { total_len: row.total_len }.footer_offset())?;
    let fits = len > RECORD_OVERHEAD as u64 && len <= MAX_FOOTER_LEN as u64;
    fits.then_some(len as usize)
}

/// Checks a header and a footer against the row and the digest.
pub(super) fn verify(
    row: &KeyRow,
    digest: &Digest,
    dek: &[u8; KEY_LEN],
    header: &[u8],
    footer: &[u8],
) -> Result<(ObjectKeys, Footer), FormatError> {
    let header = Header::parse(header)?;
    let keys = header.keys(row.file_id, &row.dek_id, row.domain.id(), dek)?;
    if Sha256::digest(footer).as_slice() != row.footer_sha256 {
        return Err(FormatError::Footer);
    }
    let footer = Footer::open(&keys.footer, header.as_bytes(), footer)?;
    if footer.total_len != row.total_len || footer.digest != *digest {
        return Err(FormatError::OtherBlob);
    }
    Ok((keys, footer))
}

impl Opened {
    pub(super) async fn open(inner: &Inner, row: &KeyRow, digest: &Digest) -> Result<Self, BlobError> {
        let dek = inner.unwrap_row(row, digest).await?;
        let footer_len = footer_len(row).ok_or(BlobError::KeyRow { file_id: row.file_id })?;
        let layout = Layout { total_len: row.total_len };
        let readers = ReadSet::new(inner.replicas(), row.file_id, row.object_len);
        let mut tried = Tried::default();
        loop {
            let replica = readers.pick(&tried).ok_or_else(|| tried.verdict(row.file_id))?;
            let header = inner.pool.take(HEADER_LEN);
            let Some(header) = readers.read(replica, 0, header, HEADER_LEN, &mut tried).await else {
                continue;
            };
            let footer_at = layout.footer_offset();
            let footer = inner.pool.take(footer_len);
            let Some(footer) = readers.read(replica, footer_at, footer, footer_len, &mut tried).await else {
                continue;
            };
            match verify(row, digest, &dek, &header[..HEADER_LEN], &footer[..footer_len]) {
                Ok((keys, footer)) => {
                    readers.prefer(replica);
                    let records = Records { file_id: row.file_id, layout, runs: footer.runs, readers };
                    return Ok(Self { row: row.clone(), digest: digest.clone(), keys, records });
                }
                Err(FormatError::Header | FormatError::OtherObject | FormatError::Commitment) => {
                    readers.reject(replica, 0..HEADER_LEN as u64, &mut tried);
                }
                Err(_) => readers.reject(replica, footer_at..row.object_len, &mut tried),
            }
        }
    }

    /// Whether this is what the row and the digest speak of. The wrapping may have changed since.
    pub(super) fn is(&self, row: &KeyRow, digest: &Digest) -> bool {
        self.row.file_id == row.file_id
            && self.row.domain == row.domain
            && self.row.dek_id == row.dek_id
            && self.row.total_len == row.total_len
            && self.row.object_len == row.object_len
            && self.row.footer_sha256 == row.footer_sha256
            && self.digest == *digest
    }

    pub(super) fn runs(&self) -> usize {
        self.records.runs.len()
    }
}
