//! Repair of one replica's copy, from whatever good bytes the replicas hold together.
//!
//! Every record is verified while it is copied; the new copy is written beside the bad one, read back from
//! the medium and verified whole, and only then takes its place. Without a good source nothing is touched. A copy
//! counts as good only when it is durable too.

use bytes::Bytes;
use registry_types::Digest;

use super::opened::{footer_len, verify};
use super::records::Records;
use super::{ContentStore, Inner};
use crate::error::BlobError;
use crate::format::header::ObjectKeys;
use crate::format::{HEADER_LEN, Layout};
use crate::key_row::KeyRow;
use crate::pace::Pace;
use crate::replicate::ReplicaId;
use crate::replicate::readers::{ReadSet, Tried};
use crate::store::{Replacement, StoreError};

/// What repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// Nothing: the copy is good.
    WasGood,
    /// The copy was missing or bad, and is whole again.
    Rewritten { bytes: u64 },
}

impl ContentStore {
    /// Makes one replica's copy of an object good. Reads at the pace of `pace`.
    ///
    /// # Errors
    /// `Damaged` or `ObjectMissing` when the replicas together do not hold the whole object any more;
    /// `Unavailable` when one could not be asked, or the copy could not be written.
    pub async fn repair(
        &self,
        replica: &ReplicaId,
        row: &KeyRow,
        digest: &Digest,
        pace: &Pace,
    ) -> Result<Repaired, BlobError> {
        let replicas = self.inner.replicas();
        let store = replicas.store(replica).ok_or_else(|| {
            BlobError::Unavailable(StoreError::Offline(format!("there is no replica {replica}")))
        })?;
        // A replica that failed, or was late, may show bytes that no disk holds.
        let is_durable = match store.sync(row.file_id).await {
            Ok(()) => true,
            Err(StoreError::NotFound | StoreError::Io(_)) => false,
            Err(error) => return Err(failed(error)),
        };
        if is_durable && self.verify_keyed(replica, row, digest, pace).await?.is_none() {
            return Ok(Repaired::WasGood);
        }
        let mut copy = store.replace(row.file_id).await.map_err(failed)?;
        self.copy(copy.as_mut(), row, digest, pace).await?;
        let reader = copy.finish().await.map_err(failed)?;
        if let Some(damage) = self.verify_beside(reader.as_ref(), row, digest, pace).await? {
            let error = std::io::Error::other(format!("the new copy reads back wrong: {}", damage.reason));
            return Err(BlobError::Unavailable(StoreError::Io(error)));
        }
        drop(reader);
        copy.swap().await.map_err(failed)?;
        store.forget(row.file_id);
        self.inner.opened.remove(&row.file_id);
        Ok(Repaired::Rewritten { bytes: row.object_len })
    }

    /// Copies header, records and footer, each verified, and each from whichever replica has it good.
    async fn copy(
        &self,
        target: &mut dyn Replacement,
        row: &KeyRow,
        digest: &Digest,
        pace: &Pace,
    ) -> Result<(), BlobError> {
        let source = Source::open(&self.inner, row, digest).await?;
        target.append(source.header.clone()).await.map_err(failed)?;
        let records = &source.records;
        let (mut next, end, mut tried) = (0, records.layout.records(), Tried::default());
        while next < end {
            let cipher = &source.keys.record;
            let (bytes, read) = records.read_sealed(cipher, &self.inner.pool, next, end, &mut tried).await?;
            pace.take(bytes.len() as u64).await;
            target.append(bytes).await.map_err(failed)?;
            next += read;
        }
        target.append(source.footer).await.map_err(failed)
    }
}

/// An object's good ends, and its records.
struct Source {
    header: Bytes,
    footer: Bytes,
    keys: ObjectKeys,
    records: Records,
}

impl Source {
    /// Reads header and footer, which may come from two replicas.
    async fn open(inner: &Inner, row: &KeyRow, digest: &Digest) -> Result<Self, BlobError> {
        let dek = inner.unwrap_row(row, digest).await?;
        let footer_len = footer_len(row).ok_or(BlobError::KeyRow { file_id: row.file_id })?;
        let layout = Layout { total_len: row.total_len };
        let footer_at = layout.footer_offset();
        let readers = ReadSet::cold(inner.replicas(), row.file_id, row.object_len);
        let mut tried = Tried::default();
        let mut headers = Vec::new();
        let mut footers = Vec::new();
        while let Some(replica) = readers.pick(&tried) {
            let before = (headers.len(), footers.len());
            for (offset, len, found) in [(0, HEADER_LEN, &mut headers), (footer_at, footer_len, &mut footers)]
            {
                let mut lost = Tried::default();
                let buffer = inner.pool.take(len);
                if let Some(buffer) = readers.read(replica, offset, buffer, len, &mut lost).await {
                    found.push(Bytes::copy_from_slice(&buffer[..len]));
                }
                tried.absorb(lost);
            }
            for header in &headers {
                for footer in &footers {
                    if let Ok((keys, opened)) = verify(row, digest, &dek, header, footer) {
                        let (header, footer) = (header.clone(), footer.clone());
                        let records = Records { file_id: row.file_id, layout, runs: opened.runs, readers };
                        return Ok(Self { header, footer, keys, records });
                    }
                }
            }
            if (headers.len(), footers.len()) != before {
                tried.add_damaged(replica);
            }
        }
        Err(tried.verdict(row.file_id))
    }
}

fn failed(error: StoreError) -> BlobError {
    BlobError::Unavailable(error)
}
