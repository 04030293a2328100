//! Where replicas can lie: folders of this machine.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use registry_blob::{BlobStore, FsStore, Marker, ReplicaId, StoreError};
use registry_core::Places;
use registry_runtime::Sealer;

use crate::config::Settings;

/// Makes stores of locations.
pub(crate) struct ReplicaPlaces {
    cluster: String,
}

impl ReplicaPlaces {
    pub(crate) fn new(_settings: &Settings, sealer: &Sealer) -> anyhow::Result<Self> {
        let cluster = hex::encode(&sealer.derive("installation id").expose()[..16]);
        Ok(Self { cluster })
    }
}

/// Runs what asks a disk where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Io(std::io::Error::other(error)))?
}

#[async_trait]
impl Places for ReplicaPlaces {
    fn resolve(&self, location: &str) -> Result<String, String> {
        let path = Path::new(location);
        if !path.is_absolute() {
            return Err(format!("{location} is no absolute path"));
        }
        let path = path.components().as_path();
        path.to_str().map(str::to_owned).ok_or_else(|| format!("{location} is no text"))
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }

    async fn marker(&self, location: &str) -> Result<Option<Marker>, StoreError> {
        let root = location.to_owned();
        blocking(move || FsStore::marker(Path::new(&root))).await
    }

    async fn initialize(&self, location: &str, id: &ReplicaId) -> Result<(), StoreError> {
        let (root, cluster, id) = (location.to_owned(), self.cluster.clone(), id.clone());
        blocking(move || FsStore::initialize(Path::new(&root), &cluster, &id)).await
    }

    fn open(&self, location: &str, id: &ReplicaId) -> Result<Arc<dyn BlobStore>, StoreError> {
        Ok(Arc::new(FsStore::open(Path::new(location), &self.cluster, id)))
    }
}
