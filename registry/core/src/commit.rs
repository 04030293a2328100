//! The commit point of content: what one metadata transaction writes once an object is durable.

use registry_blob::{DataKey, FileId, Sealed};
use registry_metadata::{Domain, KeyRow, Tx, blobs, garbage, repairs, replicas};
use registry_types::Digest;

use crate::error::CoreError;
use crate::registry::{Registry, blob_domain};

/// A durable object that is about to become the blob of its digest.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    domain: Domain,
    pub(crate) digest: Digest,
    key: KeyRow,
    /// Replicas that hold the object.
    durable_replicas: Vec<String>,
}

impl Content {
    pub(crate) fn new(domain: &Domain, sealed: Sealed) -> Self {
        let row = sealed.row;
        Self {
            domain: domain.clone(),
            digest: sealed.digest,
            key: KeyRow {
                file_id: *row.file_id.as_bytes(),
                dek_id: row.dek_id,
                total_len: row.total_len,
                object_len: row.object_len,
                footer_sha256: row.footer_sha256,
                epoch: row.epoch,
                wrap_nonce: row.wrap_nonce,
                wrapped: row.wrapped,
            },
            durable_replicas: sealed.durable_replicas.iter().map(|id| id.as_str().to_owned()).collect(),
        }
    }

    pub(crate) fn file_id(&self) -> FileId {
        FileId::from_bytes(self.key.file_id)
    }

    pub(crate) fn size(&self) -> u64 {
        self.key.total_len
    }

    /// Key row and repair rows; an object that this one replaces is condemned. The last committed wins, so
    /// a new push of a rotten blob heals it.
    pub(crate) fn commit(&self, tx: &Tx<'_>, now_ms: i64) -> Result<(), CoreError> {
        if blobs::active_epoch(tx, &self.domain)? != self.key.epoch {
            return Err(CoreError::Unavailable(Box::new(EpochRolled)));
        }
        if let Some(replaced) = blobs::put_key(tx, &self.domain, &self.digest, &self.key, now_ms)? {
            garbage::condemn(tx, &replaced, now_ms)?;
        }
        // Which replicas there are is asked here: one may have been added since the upload began.
        for replica in replicas::active_ids(tx)? {
            if !self.durable_replicas.contains(&replica) {
                repairs::put(tx, &self.key.file_id, &replica, &self.domain, &self.digest, now_ms)?;
            }
        }
        Ok(())
    }
}

/// The key of a domain was rolled while something was wrapped under the epoch before: it is wrapped anew and
/// tried again.
#[derive(Debug, thiserror::Error)]
#[error("the key epoch was rolled meanwhile")]
pub(crate) struct EpochRolled;

impl EpochRolled {
    pub(crate) fn is(error: &CoreError) -> bool {
        matches!(error, CoreError::Unavailable(source) if source.is::<EpochRolled>())
    }
}

impl Content {
    /// The same with its key, which is `key`, wrapped under the epoch that is active now.
    pub(crate) async fn wrapped_anew(
        mut self,
        registry: &Registry,
        key: &DataKey,
    ) -> Result<Self, CoreError> {
        registry.follow_epoch(&self.domain).await?;
        let row = blob_key(&self.domain, &self.key);
        let row = registry.inner.content.wrap_anew(&row, &self.digest, key).await?;
        self.key.epoch = row.epoch;
        self.key.wrap_nonce = row.wrap_nonce;
        self.key.wrapped = row.wrapped;
        Ok(self)
    }
}

/// A key row as the content store takes it.
pub(crate) fn blob_key(domain: &Domain, key: &KeyRow) -> registry_blob::KeyRow {
    registry_blob::KeyRow {
        domain: blob_domain(domain),
        file_id: FileId::from_bytes(key.file_id),
        total_len: key.total_len,
        object_len: key.object_len,
        footer_sha256: key.footer_sha256,
        epoch: key.epoch,
        dek_id: key.dek_id,
        wrap_nonce: key.wrap_nonce,
        wrapped: key.wrapped,
    }
}
