//! stub
use std::fmt;
use std::sync::Arc;

use crate::store::BlobStore;

/// Name of a replica, as in its root's marker and in repair rows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(Arc<str>);

impl ReplicaId {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// N stores that hold identical objects.
pub struct Replicated {
    pub(crate) replicas: Vec<(ReplicaId, Arc<dyn BlobStore>)>,
}

impl Replicated {
    /// One store, which is its own quorum.
    pub fn single(id: ReplicaId, store: Arc<dyn BlobStore>) -> Self {
        Self { replicas: vec![(id, store)] }
    }
}
