//! Whether one replica's copy of an object is good, byte for byte: what scrub and repair ask.
//!
//! Checksums find accidents; against whoever can write to a replica only the keyed check counts.

use std::ops::Range;
use std::time::Duration;

use registry_types::Digest;
use sha2::{Digest as _, Sha256};

use super::ContentStore;
use super::opened::{footer_len, verify};
use crate::buffer::{Buffer, SPAN_RECORDS};
use crate::error::BlobError;
use crate::format::footer::Footer;
use crate::format::header::{Header, ObjectKeys};
use crate::format::{FormatError, HEADER_LEN, Layout, RECORD_OVERHEAD, record, record_offset};
use crate::key_row::KeyRow;
use crate::keys::wrap::Dek;
use crate::pace::Pace;
use crate::replicate::ReplicaId;
use crate::store::{ObjectReader, StoreError};

/// What is wrong with a copy: the first thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Bytes of the object that do not hold.
    pub range: Range<u64>,
    /// For logs and reports.
    pub reason: String,
}

/// Why a copy counts as damaged that is not there at all.
const MISSING: &str = "the copy is missing";
/// What a check waits for one answer of a replica.
const PATIENCE: Duration = Duration::from_secs(60);

impl Damage {
    /// Whether the replica has no copy at all.
    pub fn is_missing(&self) -> bool {
        self.reason == MISSING
    }

    fn new(range: Range<u64>, reason: &FormatError) -> Self {
        Self { range, reason: reason.to_string() }
    }
}

enum Fault {
    Damage(Damage),
    Error(BlobError),
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl ContentStore {
    /// Checks length, every checksum and the footer's hash of one copy; needs no key. `None`: it is good.
    ///
    /// # Errors
    /// When the replica can not be asked; a copy that is not there is damage.
    pub async fn verify_plain(
        &self,
        replica: &ReplicaId,
        row: &KeyRow,
        pace: &Pace,
    ) -> Result<Option<Damage>, BlobError> {
        answer(self.verify_copy(replica, row, None, pace).await)
    }

    /// Checks everything that `verify_plain` does, and that every record and the footer open.
    pub async fn verify_keyed(
        &self,
        replica: &ReplicaId,
        row: &KeyRow,
        digest: &Digest,
        pace: &Pace,
    ) -> Result<Option<Damage>, BlobError> {
        answer(self.verify_copy(replica, row, Some(digest), pace).await)
    }

    /// `verify_keyed` of a copy that lies beside its place.
    pub(super) async fn verify_beside(
        &self,
        reader: &dyn ObjectReader,
        row: &KeyRow,
        digest: &Digest,
        pace: &Pace,
    ) -> Result<Option<Damage>, BlobError> {
        let dek = self.inner.unwrap_row(row, digest).await?;
        answer(self.verify_reader(reader, row, Some((&dek, digest)), pace).await)
    }

    async fn verify_copy(
        &self,
        replica: &ReplicaId,
        row: &KeyRow,
        digest: Option<&Digest>,
        pace: &Pace,
    ) -> Result<(), Fault> {
        let dek = match digest {
            Some(digest) => Some((self.inner.unwrap_row(row, digest).await.map_err(Fault::Error)?, digest)),
            None => None,
        };
        let replicas = self.inner.replicas();
        let unknown = || StoreError::Offline(format!("there is no replica {replica}"));
        let store = replicas.store(replica).ok_or_else(|| lost(unknown()))?;
        let reader = match in_time(store.open_cold(row.file_id)).await {
            Ok(reader) => reader,
            Err(StoreError::NotFound) => {
                return Err(Damage { range: 0..row.object_len, reason: MISSING.into() }.into());
            }
            Err(error) => return Err(lost(error)),
        };
        let keyed = dek.as_ref().map(|(dek, digest)| (dek, *digest));
        self.verify_reader(reader.as_ref(), row, keyed, pace).await
    }

    async fn verify_reader(
        &self,
        reader: &dyn ObjectReader,
        row: &KeyRow,
        keyed: Option<(&Dek, &Digest)>,
        pace: &Pace,
    ) -> Result<(), Fault> {
        let footer_len = footer_len(row).ok_or(Fault::Error(BlobError::KeyRow { file_id: row.file_id }))?;
        if reader.len() != row.object_len {
            let range = reader.len().min(row.object_len)..reader.len().max(row.object_len);
            return Err(Damage::new(range, &FormatError::Length).into());
        }
        let layout = Layout { total_len: row.total_len };
        let footer_at = layout.footer_offset();
        let header = self.fetch(reader, 0, HEADER_LEN).await?;
        let footer = self.fetch(reader, footer_at, footer_len).await?;
        let (header, footer) = (&header[..HEADER_LEN], &footer[..footer_len]);
        check_ends(row, header, footer)?;
        let opened = match keyed {
            None => None,
            Some((dek, digest)) => Some(
                verify(row, digest, dek, header, footer)
                    .map_err(|error| Damage::new(0..row.object_len, &error))?,
            ),
        };
        pace.take(HEADER_LEN as u64 + footer.len() as u64).await;
        self.check_records(reader, row, layout, opened.as_ref(), pace).await
    }

    async fn check_records(
        &self,
        reader: &dyn ObjectReader,
        row: &KeyRow,
        layout: Layout,
        opened: Option<&(ObjectKeys, Footer)>,
        pace: &Pace,
    ) -> Result<(), Fault> {
        let mut seals = Sha256::new();
        let mut next = 0;
        while next < layout.records() {
            let end = layout.records().min(next + SPAN_RECORDS as u64);
            let offset = record_offset(next);
            let stored = |index| layout.record_len(index) + RECORD_OVERHEAD;
            let len = (record_offset(end - 1) - offset) as usize + stored(end - 1);
            pace.take(len as u64).await;
            let mut buffer = self.fetch(reader, offset, len).await?;
            for index in next..end {
                let at = (record_offset(index) - offset) as usize;
                let slot = &mut buffer[at..at + stored(index)];
                let place = record_offset(index)..record_offset(index) + slot.len() as u64;
                record::check_crc(slot).map_err(|error| Damage::new(place.clone(), &error))?;
                let Some((keys, footer)) = opened else { continue };
                seals.update(&slot[..12]);
                seals.update(&slot[slot.len() - 20..slot.len() - 4]);
                let run = footer.runs.of(index).expect("runs begin with record 0");
                let aad = record::associated_data(row.file_id, run, index);
                let (at, stored) = (0, slot.len());
                record::open_into(&keys.record, &aad, slot, at, stored, 0)
                    .map_err(|_| Damage::new(place, &FormatError::Record(index)))?;
            }
            next = end;
            tokio::task::yield_now().await;
        }
        match opened {
            Some((_, footer)) if seals.finalize().as_slice() != footer.seals_sha256 => {
                Err(Damage::new(0..row.object_len, &FormatError::Checksum).into())
            }
            _ => Ok(()),
        }
    }

    async fn fetch(&self, reader: &dyn ObjectReader, offset: u64, len: usize) -> Result<Buffer, Fault> {
        match in_time(reader.read_at(offset, self.inner.pool.take(len), 0, len)).await {
            Ok(buffer) => Ok(buffer),
            Err(StoreError::Short) => {
                Err(Damage::new(offset..offset + len as u64, &FormatError::Length).into())
            }
            Err(error) => Err(lost(error)),
        }
    }
}

/// What can be said of header and footer without a key.
fn check_ends(row: &KeyRow, header: &[u8], footer: &[u8]) -> Result<(), Damage> {
    let footer_at = row.object_len - footer.len() as u64;
    let header_range = 0..HEADER_LEN as u64;
    let parsed = Header::parse(header).map_err(|error| Damage::new(header_range.clone(), &error))?;
    if !parsed.names(row.file_id, &row.dek_id, row.domain.id()) {
        return Err(Damage::new(header_range, &FormatError::OtherObject));
    }
    if Sha256::digest(footer).as_slice() != row.footer_sha256 {
        return Err(Damage::new(footer_at..row.object_len, &FormatError::Footer));
    }
    record::check_crc(footer).map_err(|error| Damage::new(footer_at..row.object_len, &error))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| StoreError::TimedOut)?
}

fn lost(error: StoreError) -> Fault {
    Fault::Error(BlobError::Unavailable(error))
}

fn answer(result: Result<(), Fault>) -> Result<Option<Damage>, BlobError> {
    match result {
        Ok(()) => Ok(None),
        Err(Fault::Damage(damage)) => Ok(Some(damage)),
        Err(Fault::Error(error)) => Err(error),
    }
}
