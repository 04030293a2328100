//! stub
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use registry_runtime::KeyProvider;
use registry_types::{Algorithm, Digest};

use crate::error::BlobError;
use crate::file_id::FileId;
use crate::key_row::{Domain, KeyRow, Sealed, SuspendedUpload};
use crate::replicate::Replicated;

/// The face of this crate: sealed, verified content over replicated stores. Cheap to clone.
#[derive(Clone)]
pub struct ContentStore;

impl ContentStore {
    pub fn new(_replicas: Replicated, _keys: Arc<dyn KeyProvider>) -> Self {
        Self
    }
    /// Makes `epoch` the one that new uploads to the domain are wrapped under, and its secret if there
    /// is none. Called at start for each domain (epoch 1 on a new installation), before `begin`.
    pub async fn activate(&self, _domain: &Domain, _epoch: u32) -> Result<(), BlobError> {
        Ok(())
    }
    /// Begins an upload: draws its file id and data key. Nothing is written until bytes come, so that
    /// the caller can register the upload first (`suspend` it, insert its row).
    pub async fn begin(&self, _d: &Domain, _uid: &str, _a: Algorithm) -> Result<Upload, BlobError> {
        Err(BlobError::UploadUnknown)
    }
    /// Goes on with a suspended upload. `lease` and `offset` are those it was suspended with.
    pub async fn resume(
        &self,
        _domain: &Domain,
        _state: &SuspendedUpload,
        _uid: &str,
        _lease: &str,
        _offset: u64,
    ) -> Result<Upload, BlobError> {
        Err(BlobError::UploadUnknown)
    }
    /// Opens a blob: everything but its records is verified before this returns.
    pub async fn open(&self, _row: &KeyRow, _digest: &Digest) -> Result<Blob, BlobError> {
        Err(BlobError::UploadUnknown)
    }
    /// Removes an object from every replica. The caller has deleted its rows before.
    pub async fn delete(&self, _file_id: FileId) -> Result<(), BlobError> {
        Err(BlobError::UploadUnknown)
    }
}

/// An upload that is receiving bytes.
pub struct Upload;

impl Upload {
    pub fn file_id(&self) -> FileId {
        FileId::from_bytes([0; 16])
    }
    /// Bytes received so far, earlier requests included.
    pub fn offset(&self) -> u64 {
        0
    }
    pub async fn write(&mut self, _chunk: Bytes) -> Result<(), BlobError> {
        Ok(())
    }
    /// Ends this request's part of the upload: visible to every server, survives SIGKILL. `lease` is
    /// the caller's lease of this moment; the next request gives the same one to `resume`.
    pub async fn suspend(self, _lease: &str) -> Result<SuspendedUpload, BlobError> {
        Err(BlobError::UploadUnknown)
    }
    /// Makes the object durable on the write quorum, if its bytes have the digest `expected`.
    pub async fn finish(self, _expected: &Digest) -> Result<Sealed, BlobError> {
        Err(BlobError::UploadUnknown)
    }
    /// Gives the upload up and removes its object.
    pub async fn abandon(self) {}
}

/// Plaintext in order. After an error the stream has ended.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>;

/// An opened blob. Cheap to clone.
#[derive(Clone)]
pub struct Blob;

impl Blob {
    pub fn len(&self) -> u64 {
        0
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The plaintext of `range`, each piece released only when its tag held.
    pub fn stream(&self, _range: Range<u64>) -> BlobStream {
        Box::pin(futures_util::stream::empty())
    }
    /// The whole blob in memory, for manifests and configs; `TooLarge` past `limit` bytes.
    pub async fn read_all(&self, _limit: u64) -> Result<Bytes, BlobError> {
        Err(BlobError::UploadUnknown)
    }
}
