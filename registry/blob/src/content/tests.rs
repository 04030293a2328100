//! The content store over stores in memory.

mod hostile;
mod resume;
mod round_trip;
mod tampering;
mod vectors;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::StreamExt;
use registry_runtime::{KeyError, KeyProvider, Secret};
use registry_types::{Algorithm, Digest};

use super::ContentStore;
use crate::error::BlobError;
use crate::format::hash_state::Hasher;
use crate::key_row::{Domain, KeyRow, Sealed};
use crate::replicate::{ReplicaId, Replicated};
use crate::store::memory::MemoryStore;

/// Secrets that are the same in every run.
pub(crate) struct TestKeys;

impl KeyProvider for TestKeys {
    fn secret(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        let mut bytes = [epoch as u8; 32];
        bytes[..domain.len().min(31)].copy_from_slice(&domain.as_bytes()[..domain.len().min(31)]);
        if epoch > 90 {
            return Err(KeyError::Missing { domain: domain.to_owned(), epoch });
        }
        Ok(Secret::new(bytes.to_vec()))
    }

    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.secret(domain, epoch)
    }

    /// They come from nowhere, so that there is nothing to be destroyed.
    fn destroy(&self, _domain: &str, _epoch: u32) -> Result<(), KeyError> {
        Ok(())
    }
}

pub(crate) fn domain() -> Domain {
    Domain::new(Domain::DEFAULT)
}

pub(crate) fn replica() -> ReplicaId {
    ReplicaId::new("one")
}

/// A content store over one store in memory, which two of these may share.
pub(crate) async fn store_over(memory: &MemoryStore) -> ContentStore {
    store_of(Replicated::single(replica(), Arc::new(memory.clone()))).await
}

pub(crate) async fn store_of(replicas: Replicated) -> ContentStore {
    let store = ContentStore::new(replicas, Arc::new(TestKeys));
    store.activate(&domain(), 1).await.unwrap();
    store
}

/// The first `len` bytes of one content, made once.
pub(crate) fn content(len: usize) -> Bytes {
    static LONGEST: LazyLock<Bytes> = LazyLock::new(|| {
        (0..5_000_000usize).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into()
    });
    LONGEST.slice(..len)
}

pub(crate) fn digest_of(bytes: &[u8], algorithm: Algorithm) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

pub(crate) async fn push(store: &ContentStore, bytes: &Bytes) -> Result<Sealed, BlobError> {
    let mut upload = store.begin(&domain(), "upload", Algorithm::Sha256).await?;
    upload.write(bytes.clone()).await?;
    upload.finish(&digest_of(bytes, Algorithm::Sha256)).await
}

pub(crate) async fn pull(store: &ContentStore, row: &KeyRow, digest: &Digest) -> Result<Vec<u8>, BlobError> {
    let blob = store.open(row, digest).await?;
    let mut stream = blob.stream(0..blob.len());
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}
