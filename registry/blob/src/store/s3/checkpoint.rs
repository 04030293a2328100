//! What a later request needs to go on with an upload: its multipart upload, the ETags of its parts, its tail.
//!
//! It lies in the upload's row, sealed. The tags are what fences a server that lost its lease: parts that it
//! overwrote have others, and cannot be completed with these.

use serde::{Deserialize, Serialize};

use crate::store::StoreError;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// None until a part was sent.
    pub(super) upload: Option<String>,
    /// ETags of the full parts, in order.
    pub(super) parts: Vec<String>,
    /// Key and length of what lies past the last full part.
    pub(super) tail: Option<(String, u64)>,
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always are JSON")
    }

    /// `NotFound` for what is none: the upload began where this replica was no S3 service.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes).map_err(|_| StoreError::NotFound)
    }
}
