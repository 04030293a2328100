//! Sealed content: the face that the use-cases build on.
//!
//! Bytes are hashed and sealed in one pass on their way in, and verified on their way out; nothing that
//! did not verify is released. Dedupe, visibility and commit are the caller's, in metadata.

mod blob;
mod opened;
mod records;
mod repair;
mod sealing;
mod state;
mod upload;
mod verify;

use std::sync::Arc;

use parking_lot::RwLock;
use quick_cache::sync::Cache;
use registry_runtime::KeyProvider;
use registry_types::{Algorithm, Digest};

use crate::buffer::Pool;
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::key_row::{DataKey, Domain, KeyRow, SuspendedUpload};
use crate::keys::KeyRing;
use crate::keys::wrap::{Dek, Kek, Wrapped, blob_context};
use crate::replicate::{ReplicaId, Replicated};
use opened::Opened;
use state::State;

pub use blob::{Blob, BlobStream};
pub use repair::Repaired;
pub use upload::Upload;
pub use verify::Damage;

/// Opened objects kept: keys, runs and open files of each. A footer with more runs than this many is
/// opened anew each time instead.
const OPENED_KEPT: usize = 256;
const RUNS_KEPT: usize = 1024;

/// The content store. Cheap to clone.
#[derive(Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    replicas: RwLock<Arc<Replicated>>,
    keys: KeyRing,
    pool: Arc<Pool>,
    opened: Cache<FileId, Arc<Opened>>,
}

impl ContentStore {
    pub fn new(replicas: Replicated, keys: Arc<dyn KeyProvider>) -> Self {
        let inner = Inner {
            replicas: RwLock::new(Arc::new(replicas)),
            keys: KeyRing::new(keys),
            pool: Arc::default(),
            opened: Cache::new(OPENED_KEPT),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes `epoch` the one that new uploads to the domain are wrapped under, and its secret if there
    /// is none. Called for each domain at start (epoch 1 on a new installation) and when a key rolls.
    pub async fn activate(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.inner.keys.activate(domain, epoch).await
    }

    /// Begins an upload to an object of its own that nobody registered: it is for whoever keeps no metadata, as tests
    /// and benchmarks do. Draws file id and data key; nothing is written before bytes come.
    pub async fn begin(
        &self,
        domain: &Domain,
        upload_uid: &str,
        algorithm: Algorithm,
    ) -> Result<Upload, BlobError> {
        Upload::begin(Arc::clone(&self.inner), domain, upload_uid, FileId::random(), algorithm).await
    }

    /// Begins an upload to an object that is registered already. One that its caller will end, and never suspend, needs
    /// no uid: an empty one.
    pub async fn begin_reserved(
        &self,
        domain: &Domain,
        file_id: FileId,
        upload_uid: &str,
        algorithm: Algorithm,
    ) -> Result<Upload, BlobError> {
        Upload::begin(Arc::clone(&self.inner), domain, upload_uid, file_id, algorithm).await
    }

    /// Goes on with a suspended upload. `lease` and `offset` are those it was suspended with, as the
    /// upload row keeps them; what a later attempt wrote and did not suspend is given up.
    ///
    /// # Errors
    /// `UploadUnknown` when the state is not this upload's, of another release, or no longer held by the
    /// replicas (a power cut): the upload is gone. `UploadBusy` while another request still writes.
    pub async fn resume(
        &self,
        domain: &Domain,
        suspended: &SuspendedUpload,
        upload_uid: &str,
        lease: &str,
        offset: u64,
    ) -> Result<Upload, BlobError> {
        let state = State::open(&self.inner.keys, domain, suspended, upload_uid, lease, offset).await?;
        Upload::resume(Arc::clone(&self.inner), domain, upload_uid, suspended.file_id, state).await
    }

    /// Opens a blob: length, header, commitment and footer are verified before this returns, each record
    /// before it is released.
    pub async fn open(&self, row: &KeyRow, digest: &Digest) -> Result<Blob, BlobError> {
        if let Some(opened) = self.inner.opened.get(&row.file_id)
            && opened.is(row, digest)
        {
            return Ok(Blob::new(Arc::clone(&self.inner), opened));
        }
        let opened = Arc::new(Opened::open(&self.inner, row, digest).await?);
        if opened.runs() <= RUNS_KEPT {
            self.inner.opened.insert(row.file_id, Arc::clone(&opened));
        }
        Ok(Blob::new(Arc::clone(&self.inner), opened))
    }

    /// Removes an object from every replica. The caller has deleted the rows that name it before. Gives the replicas
    /// that could not be asked, and may hold it still; fails when that is all of them.
    pub async fn delete(&self, file_id: FileId) -> Result<Vec<ReplicaId>, BlobError> {
        self.inner.opened.remove(&file_id);
        self.inner.replicas().delete(file_id).await
    }

    /// Makes the secret of an epoch that the domain is to roll to.
    pub async fn prepare_epoch(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.inner.keys.prepare(domain, epoch).await
    }

    /// Makes `epoch` the active one, whose secret is there already.
    pub async fn follow_epoch(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.inner.keys.follow(domain, epoch).await
    }

    /// Whether the provider has the secret of an epoch, asked once.
    pub async fn check_epoch(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.inner.keys.get(domain, epoch).await.map(drop)
    }

    /// Destroys the secret of an epoch at the provider; what it wraps can be read no more.
    pub async fn destroy_epoch(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        let destroyed = self.inner.keys.destroy(domain, epoch).await;
        self.inner.opened.clear();
        destroyed
    }

    /// Wraps the key of a row that is not committed yet under the domain's active epoch. What the row was wrapped
    /// under before is not asked for: it may be destroyed by now.
    pub async fn wrap_anew(&self, row: &KeyRow, digest: &Digest, key: &DataKey) -> Result<KeyRow, BlobError> {
        let (epoch, kek) = self.inner.keys.active(&row.domain).await?;
        Ok(wrapped_under(row, digest, key, epoch, &kek))
    }

    /// The same for an upload whose suspension is not committed yet.
    pub async fn wrap_upload_anew(
        &self,
        domain: &Domain,
        suspended: &SuspendedUpload,
        upload_uid: &str,
        key: &DataKey,
    ) -> Result<SuspendedUpload, BlobError> {
        state::wrap_anew(&self.inner.keys, domain, suspended, upload_uid, key).await
    }

    /// Wraps the keys of rows of one domain and epoch anew, under the domain's active epoch. The objects stay as they
    /// are. `None` for a row whose key does not open.
    pub async fn rewrap_all(
        &self,
        domain: &Domain,
        epoch: u32,
        rows: &[(Digest, KeyRow)],
    ) -> Result<Vec<Option<KeyRow>>, BlobError> {
        let (active, kek) = self.inner.keys.active(domain).await?;
        let old = self.inner.keys.get(domain, epoch).await?;
        Ok(rows.iter().map(|(digest, row)| rewrap(row, digest, &old, active, &kek)).collect())
    }

    /// Wraps a suspended upload's key anew, under the domain's active epoch.
    pub async fn rewrap_upload(
        &self,
        domain: &Domain,
        suspended: &SuspendedUpload,
        upload_uid: &str,
    ) -> Result<SuspendedUpload, BlobError> {
        state::rewrap(&self.inner.keys, domain, suspended, upload_uid).await
    }

    /// The replicas in use now.
    pub fn replicas(&self) -> Arc<Replicated> {
        self.inner.replicas()
    }

    /// Puts another set of replicas in the place of the one in use. What has begun ends with the old set.
    pub fn set_replicas(&self, replicas: Replicated) {
        let mut current = self.inner.replicas.write();
        let next = replicas.continuing(&current);
        *current = Arc::new(next);
        drop(current);
        self.inner.opened.clear();
    }
}

impl Inner {
    fn replicas(&self) -> Arc<Replicated> {
        Arc::clone(&self.replicas.read())
    }

    /// The data key of a blob, which its row must describe to the letter.
    async fn unwrap_row(&self, row: &KeyRow, digest: &Digest) -> Result<Dek, BlobError> {
        let kek = self.keys.get(&row.domain, row.epoch).await?;
        let context = blob_context(&row.domain, &row.dek_id, row.file_id, row.total_len, digest);
        let wrapped = Wrapped { nonce: row.wrap_nonce, bytes: row.wrapped };
        kek.unwrap(&row.dek_id, &wrapped, &context).map_err(|_| BlobError::KeyRow { file_id: row.file_id })
    }
}

fn rewrap(row: &KeyRow, digest: &Digest, old: &Kek, epoch: u32, kek: &Kek) -> Option<KeyRow> {
    let context = blob_context(&row.domain, &row.dek_id, row.file_id, row.total_len, digest);
    let wrapped = Wrapped { nonce: row.wrap_nonce, bytes: row.wrapped };
    let dek = old.unwrap(&row.dek_id, &wrapped, &context).ok()?;
    Some(wrapped_under(row, digest, &DataKey(dek), epoch, kek))
}

fn wrapped_under(row: &KeyRow, digest: &Digest, key: &DataKey, epoch: u32, kek: &Kek) -> KeyRow {
    let context = blob_context(&row.domain, &row.dek_id, row.file_id, row.total_len, digest);
    let wrapped = kek.wrap(&row.dek_id, &key.0, &context);
    KeyRow { epoch, wrap_nonce: wrapped.nonce, wrapped: wrapped.bytes, ..row.clone() }
}

#[cfg(test)]
pub(crate) mod tests;
