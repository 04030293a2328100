//! An upload: hash and seal in one pass, write behind.
//!
//! Memory is one buffer being filled and one on its way to the replicas, whatever the blob's size.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use registry_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Inner;
use super::blob::Blob;
use super::opened::Opened;
use super::sealing::Sealing;
use super::state::{self, Keyed, Progress, State};
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::format::footer::Footer;
use crate::format::hash_state::Hasher;
use crate::format::{Layout, MAX_TOTAL_LEN, staged_len};
use crate::key_row::{DataKey, Domain, KeyRow, Sealed, SuspendedUpload};
use crate::keys::wrap::blob_context;
use crate::replicate::writers::WriteSet;

/// Bytes hashed and sealed before other tasks get their turn.
const WORK_BETWEEN_YIELDS: usize = 256 * 1024;

/// An upload that is receiving bytes. Dropped, it leaves its object to whoever resumes or abandons it.
pub struct Upload {
    inner: Arc<Inner>,
    domain: Domain,
    uid: String,
    file_id: FileId,
    keyed: Keyed,
    hasher: Hasher,
    pub(super) offset: u64,
    sealing: Sealing,
    writers: Option<WriteSet>,
    /// The object may be there from an attempt that was given up.
    resumed: bool,
    /// Bytes worked on since other tasks had their turn.
    worked: usize,
    /// Set while a call is under way: one that failed or was dropped leaves the upload unusable.
    failed: bool,
}

impl Upload {
    pub(super) async fn begin(
        inner: Arc<Inner>,
        domain: &Domain,
        uid: &str,
        file_id: FileId,
        algorithm: Algorithm,
    ) -> Result<Self, BlobError> {
        inner.keys.active(domain).await?;
        Ok(Self {
            domain: domain.clone(),
            uid: uid.to_owned(),
            file_id,
            keyed: Keyed::generate(domain, file_id),
            hasher: Hasher::new(algorithm),
            offset: 0,
            sealing: Sealing::begin(Arc::clone(&inner.pool), file_id),
            inner,
            writers: None,
            resumed: false,
            worked: 0,
            failed: false,
        })
    }

    pub(super) async fn resume(
        inner: Arc<Inner>,
        domain: &Domain,
        uid: &str,
        file_id: FileId,
        state: State,
    ) -> Result<Self, BlobError> {
        let State { keyed, progress } = state;
        let Progress { hasher, seals, records, participants, runs, open } = progress;
        let mut writers = None;
        if records > 0 {
            let replicas = inner.replicas();
            let set = WriteSet::resume(replicas, file_id, staged_len(records), Some(&participants)).await?;
            writers = Some(set);
        }
        let offset = records * crate::format::RECORD_LEN as u64 + open.len() as u64;
        Ok(Self {
            domain: domain.clone(),
            uid: uid.to_owned(),
            file_id,
            keyed,
            hasher,
            offset,
            sealing: Sealing::go_on(Arc::clone(&inner.pool), file_id, records, seals, runs, &open),
            inner,
            writers,
            resumed: true,
            worked: 0,
            failed: false,
        })
    }

    pub fn file_id(&self) -> FileId {
        self.file_id
    }

    /// To be held until what `suspend` or `finish` gives is committed.
    pub fn data_key(&self) -> DataKey {
        DataKey(self.keyed.dek.clone())
    }

    /// Bytes received so far, earlier requests included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes. Returns when they are hashed and sealed, not when they are written. After
    /// an error, or when the call was dropped, the upload takes no more.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        self.enter()?;
        if chunk.len() as u64 > MAX_TOTAL_LEN - self.offset {
            return Err(BlobError::TooLarge { limit: MAX_TOTAL_LEN });
        }
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(self.sealing.room()));
            rest = after;
            self.hasher.update(piece);
            self.sealing.push(piece);
            self.offset += piece.len() as u64;
            if self.sealing.is_record_full() {
                self.sealing.seal(&self.keyed.keys.record, &self.keyed.header)?;
                if self.sealing.is_full() {
                    let sealed = self.sealing.take_pages();
                    self.writers().await?.append(sealed).await?;
                }
            }
            self.worked += piece.len();
            if self.worked >= WORK_BETWEEN_YIELDS {
                self.worked = 0;
                tokio::task::yield_now().await;
            }
        }
        self.failed = false;
        Ok(())
    }

    /// Ends this request's part of the upload: what came is visible to every server and survives
    /// SIGKILL. `lease` is the caller's lease; the next request gives `resume` the same one, beside the
    /// offset.
    pub async fn suspend(mut self, lease: &str) -> Result<SuspendedUpload, BlobError> {
        self.enter()?;
        let sealed = self.sealing.take();
        let participants = if !sealed.is_empty() || self.writers.is_some() {
            self.writers().await?.flush(sealed).await?
        } else {
            Vec::new()
        };
        let progress = Progress {
            hasher: self.hasher,
            seals: self.sealing.seals().clone(),
            records: self.sealing.records(),
            participants,
            runs: self.sealing.runs().clone(),
            open: Zeroizing::new(self.sealing.open().to_vec()),
        };
        let place = (self.uid.as_str(), lease, self.offset);
        state::seal(&self.inner.keys, &self.domain, self.file_id, place, &self.keyed, &progress).await
    }

    /// Makes the object durable on the write quorum, if its bytes have the digest `expected`.
    ///
    /// On an error the object is left: only the caller knows whether it still holds the lease. If it
    /// does, it deletes the upload row, and then the object.
    pub async fn finish(mut self, expected: &Digest) -> Result<Sealed, BlobError> {
        self.enter()?;
        let (epoch, kek) = self.inner.keys.active(&self.domain).await?;
        self.sealing.seal(&self.keyed.keys.record, &self.keyed.header)?;
        let same_algorithm = expected.algorithm() == self.hasher.algorithm();
        let actual = if same_algorithm { self.hasher.clone().finish() } else { expected.clone() };
        if actual != *expected {
            return Err(BlobError::DigestMismatch { expected: expected.clone(), actual });
        }
        let footer = Footer {
            total_len: self.offset,
            digest: actual,
            seals_sha256: self.sealing.seals().clone().finalize().into(),
            runs: self.sealing.runs().clone(),
        };
        let header = self.keyed.header.as_bytes();
        let footer = footer.seal(&self.keyed.keys.footer, header);
        let footer_sha256 = Sha256::digest(&footer).into();
        let object_len = Layout { total_len: self.offset }.footer_offset() + footer.len() as u64;
        let (last, end) = match self.sealing.records() {
            0 => self.sealing.take_with(&[header.as_slice(), &footer].concat()),
            _ => self.sealing.take_with(&footer),
        };
        if !last.is_empty() {
            self.writers().await?.append(last).await?;
        }
        self.writers().await?;
        let writers = self.writers.take().expect("they were made a line above");
        let durable_replicas = writers.commit(end).await?;

        let (dek_id, digest) = (self.keyed.dek_id, expected.clone());
        let context = blob_context(&self.domain, &dek_id, self.file_id, self.offset, &digest);
        let wrapped = kek.wrap(&dek_id, &self.keyed.dek, &context);
        let row = KeyRow {
            domain: self.domain.clone(),
            file_id: self.file_id,
            total_len: self.offset,
            object_len,
            footer_sha256,
            epoch,
            dek_id,
            wrap_nonce: wrapped.nonce,
            wrapped: wrapped.bytes,
        };
        if !same_algorithm {
            self.inner.check_digest(&row, &digest).await?;
        }
        Ok(Sealed { digest, row, durable_replicas })
    }

    /// The writers, made when the first bytes are ready for them.
    async fn writers(&mut self) -> Result<&mut WriteSet, BlobError> {
        if self.writers.is_none() {
            let replicas = self.inner.replicas();
            let writers = if self.resumed {
                WriteSet::resume(replicas, self.file_id, 0, None).await?
            } else {
                WriteSet::create(replicas, self.file_id).await?
            };
            self.writers = Some(writers);
        }
        Ok(self.writers.as_mut().expect("just made"))
    }

    fn enter(&mut self) -> Result<(), BlobError> {
        if std::mem::replace(&mut self.failed, true) { Err(BlobError::UploadFailed) } else { Ok(()) }
    }
}

impl Inner {
    /// The one case in which content is read back: the closing request named another algorithm than the
    /// upload was hashed with. The object is durable by then, and nobody knows of it yet.
    async fn check_digest(self: &Arc<Self>, row: &KeyRow, expected: &Digest) -> Result<(), BlobError> {
        let blob = Blob::new(Arc::clone(self), Arc::new(Opened::open(self, row, expected).await?));
        let mut hasher = Hasher::new(expected.algorithm());
        let mut stream = blob.stream(0..row.total_len);
        while let Some(bytes) = stream.next().await {
            for piece in bytes?.chunks(WORK_BETWEEN_YIELDS) {
                hasher.update(piece);
                tokio::task::yield_now().await;
            }
        }
        let actual = hasher.finish();
        if actual == *expected {
            return Ok(());
        }
        Err(BlobError::DigestMismatch { expected: expected.clone(), actual })
    }
}
