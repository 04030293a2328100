//! What metadata keeps of a blob and of a suspended upload.
//!
//! These are plain values: this crate writes no database. All byte fields are opaque to the caller.

use std::fmt;
use std::sync::Arc;

use registry_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::file_id::FileId;
use crate::keys::wrap::Dek;
use crate::replicate::ReplicaId;

/// A key domain: blobs are deduplicated inside one, and one can be shredded alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Domain {
    name: Arc<str>,
    id: [u8; 16],
}

impl Domain {
    /// The domain of repositories that name no key of their own.
    pub const DEFAULT: &'static str = "default";

    /// `name` is the name that the key provider knows the domain by.
    pub fn new(name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"brf1-domain");
        hash.update(name);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self { name: name.into(), id }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands for the domain in headers and in what is authenticated.
    pub(crate) fn id(&self) -> &[u8; 16] {
        &self.id
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The row (domain, digest) -> object, as metadata keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub domain: Domain,
    pub file_id: FileId,
    /// Length of the blob.
    pub total_len: u64,
    /// Length of the object that holds it.
    pub object_len: u64,
    pub footer_sha256: [u8; 32],
    pub epoch: u32,
    pub dek_id: [u8; 16],
    pub wrap_nonce: [u8; 12],
    pub wrapped: [u8; 48],
}

/// The data key of an upload whose row is not committed yet. Held until it is, so that the row can be wrapped anew
/// although the epoch it was wrapped under is destroyed by then. Opaque, and wiped on drop.
#[derive(Clone)]
pub struct DataKey(pub(crate) Dek);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// A finished upload: durable on the write quorum, and invisible until its key row is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub digest: Digest,
    pub row: KeyRow,
    /// Replicas that hold the object durably: every other one in use when the key row is committed gets a
    /// repair row, in that transaction.
    pub durable_replicas: Vec<ReplicaId>,
}

/// An upload between two requests, as the upload row keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspendedUpload {
    pub file_id: FileId,
    /// Epoch that the data key is wrapped under; the row is rewrapped like a key row.
    pub epoch: u32,
    /// Version, wrapped key and sealed state; opaque, up to 64 KiB and a few hundred bytes, 24 bytes more for
    /// each request that wrote to the object, and about 40 bytes for each part on each S3 replica.
    pub sealed: Vec<u8>,
}
