//! The marker in a replica's root: whose the replica is.
//!
//! A root without its marker is offline, not empty: the disk is not mounted, or it is another one.

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::replicate::ReplicaId;

/// The marker's name in the root.
pub(crate) const MARKER: &str = "berth-replica.json";
const FORMAT: u32 = 1;

/// Whose a replica's root is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    format: u32,
    pub cluster: String,
    pub replica: String,
}

impl Marker {
    pub(crate) fn new(cluster: &str, replica: &ReplicaId) -> Self {
        Self { format: FORMAT, cluster: cluster.to_owned(), replica: replica.as_str().to_owned() }
    }

    /// What `found` at `place` means for the replica whose marker this is.
    pub(crate) fn check(
        &self,
        place: &(dyn std::fmt::Display + Sync),
        found: Option<&Self>,
    ) -> Result<(), StoreError> {
        match found {
            Some(found) if found == self => Ok(()),
            Some(found) => Err(StoreError::Offline(format!(
                "{place} belongs to replica {} of cluster {}",
                found.replica, found.cluster
            ))),
            None => Err(StoreError::Offline(format!("{place} has no {MARKER}"))),
        }
    }
}
