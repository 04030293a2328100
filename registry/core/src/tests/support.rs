//! A registry without a protocol.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use registry_blob::{BlobStore, ContentStore, FileId, MemoryStore, ReplicaId, Replicated};
use registry_metadata::{Metadata, UploadUid};
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::Database;
use registry_types::{Algorithm, Digest, RepositoryName};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{Body, CoreError, NewRepository, NewUpload, PushTarget, Registry, RegistryConfig, Repository};

pub(super) const ALICE: &str = "AIDAALICE";

pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    pub(super) store: Arc<MemoryStore>,
    database: Option<Database>,
    _folder: Option<TempDir>,
}

impl World {
    pub(super) async fn new(config: RegistryConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Runs closures twice at random: they must be free of side effects.
        let database = Database::open_rerunning(&test_support::database_in(folder.path()), 3).await.unwrap();
        let keys = Arc::new(LocalKeys::open(&folder.path().join("keys")).unwrap());
        let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
        let store = Arc::new(MemoryStore::default());
        let replicas = Replicated::single(ReplicaId::new("memory"), Arc::clone(&store) as _);
        let content = ContentStore::new(replicas, keys);
        let clock = Clock::manual(1_000_000);
        let metadata = Metadata::open(database.clone()).await.unwrap();
        let registry = Registry::open(metadata, content, sealer, clock.clone(), config).await.unwrap();
        Self { registry, clock, store, database: Some(database), _folder: Some(folder) }
    }

    /// A server whose database and store are elsewhere.
    pub(super) fn of(registry: Registry, clock: &Clock) -> Self {
        Self { registry, clock: clock.clone(), store: Arc::default(), database: None, _folder: None }
    }

    /// Statements that went through a whole table so far.
    pub(super) fn walks(&self) -> Vec<&'static str> {
        self.database.as_ref().map_or(Vec::new(), Database::walks)
    }

    pub(super) async fn repository(&self, name: &str) -> Repository {
        let name: RepositoryName = name.parse().unwrap();
        self.registry.create_repository(&name, NewRepository::default()).await.unwrap()
    }

    pub(super) async fn begin(&self, repository: &Repository) -> UploadUid {
        let target = PushTarget::Existing(repository.clone());
        let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
        self.registry.start_upload(new).await.unwrap().uid
    }

    pub(super) async fn push(&self, repository: &Repository, content: &[u8]) -> Result<Digest, CoreError> {
        let target = PushTarget::Existing(repository.clone());
        let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
        let digest = sha256(content);
        let finished = self.registry.upload_whole(new, body(content), &digest).await?;
        assert_eq!(finished.size, content.len() as u64);
        Ok(finished.digest)
    }

    pub(super) async fn read(&self, repository: &Repository, digest: &Digest) -> Result<Vec<u8>, CoreError> {
        use futures_util::TryStreamExt;
        let blob = self.registry.blob(repository, digest).await?;
        let size = blob.size();
        let chunks: Vec<Bytes> = blob.read(0..size).await?.try_collect().await?;
        Ok(chunks.concat())
    }

    pub(super) async fn objects(&self) -> Vec<FileId> {
        let entries = self.store.list(None, 1000).await.unwrap();
        entries.into_iter().map(|entry| entry.file_id).collect()
    }
}

pub(super) fn body(content: &[u8]) -> Body {
    Box::pin(stream::iter([Ok(Bytes::copy_from_slice(content))]))
}

pub(super) fn sha256(content: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &Sha256::digest(content))
}
