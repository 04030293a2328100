//! A registry whose database, keys and content lie on one disk under test.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use registry_blob::{BlobStore, ContentStore, FileId, FsStore, ReplicaId, Replicated};
use registry_core::{
    Body, CoreError, ManifestPush, NewRepository, NewUpload, PushTarget, Registry, RegistryConfig, Repository,
};
use registry_metadata::Metadata;
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::{Database, params};
use registry_types::{Algorithm, Digest, MediaType, Reference, RepositoryName};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, Fault};

pub(crate) const ALICE: &str = "AIDAALICE";
const CLUSTER: &str = "faults";
/// What was acknowledged long ago, and must be there whatever happens.
const KEPT: &str = "kept";

pub(crate) struct World {
    pub(crate) disk: Arc<Disk>,
    pub(crate) registry: Registry,
    pub(crate) repository: Repository,
    pub(crate) clock: Clock,
    store: Arc<FsStore>,
    database: Database,
    metadata: Metadata,
}

impl World {
    pub(crate) async fn new() -> Self {
        let world = Self::open(Arc::new(Disk::new()), Clock::manual(1_000_000_000)).await.unwrap();
        world.push_image(KEPT).await.unwrap();
        world
    }

    /// Starts a server on what a disk holds; the first one makes what it needs.
    pub(crate) async fn open(disk: Arc<Disk>, clock: Clock) -> Result<Self, Box<dyn Error>> {
        let (id, root) = (ReplicaId::new("files"), disk.root().join("content"));
        if !disk.root().join("berth.db").exists() {
            FsStore::initialize(&root, CLUSTER, &id)?;
        }
        let database = Database::open_sqlite(&disk.root().join("berth.db")).await?;
        let metadata = Metadata::open(database.clone()).await?;
        let keys = Arc::new(LocalKeys::open(&disk.root().join("keys"))?);
        let sealer = Arc::new(Sealer::new(&keys.create("system", 1)?, 1));
        let store = Arc::new(FsStore::open(&root, CLUSTER, &id));
        let content = ContentStore::new(Replicated::single(id, Arc::clone(&store) as _), keys);
        // What nothing names goes at once.
        let config = RegistryConfig { gc_grace_ms: 0, garbage_drain_ms: 0, ..RegistryConfig::default() };
        let registry = Registry::open(metadata.clone(), content, sealer, clock.clone(), config).await?;
        registry.follow_keys().await?;
        let name: RepositoryName = "app".parse()?;
        let repository = match registry.repository(&name).await? {
            Some(repository) => repository,
            None => registry.create_repository(&name, NewRepository::default()).await?,
        };
        Ok(Self { disk, registry, repository, clock, store, database, metadata })
    }

    /// Ends the server and starts another on what it left.
    pub(crate) async fn after(self, crash: Fault) -> Self {
        let disk = Arc::new(self.disk.after(crash));
        Self::open(disk, self.clock.clone()).await.unwrap()
    }

    pub(crate) fn target(&self) -> PushTarget {
        PushTarget::Existing(self.repository.clone())
    }

    pub(crate) async fn push(&self, content: &[u8]) -> Result<Digest, CoreError> {
        let target = self.target();
        let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
        Ok(self.registry.upload_whole(new, body(content), &sha256(content)).await?.digest)
    }

    pub(crate) async fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<(), CoreError> {
        let push = ManifestPush {
            target: &self.target(),
            reference: tag.parse().unwrap(),
            tags: Vec::new(),
            content_type: MediaType::OCI_MANIFEST,
            bytes: Bytes::from(bytes),
        };
        self.registry.put_manifest(push).await.map(drop)
    }

    /// An image of one layer, tagged by its name; its digest.
    pub(crate) async fn push_image(&self, name: &str) -> Result<Digest, CoreError> {
        self.push(b"{}").await?;
        self.push(&layer(name)).await?;
        self.put_manifest(name, manifest(name)).await?;
        Ok(sha256(&manifest(name)))
    }

    /// Whether the repository holds a blob, which is whole then.
    pub(crate) async fn holds(&self, content: &[u8]) -> bool {
        let blob = match self.registry.blob(&self.repository, &sha256(content)).await {
            Ok(blob) => blob,
            Err(CoreError::BlobNotFound) => return false,
            Err(error) => panic!("a blob: {error}: {error:?}"),
        };
        let size = blob.size();
        let found: Vec<Bytes> = blob.read(0..size).await.unwrap().try_collect().await.unwrap();
        assert!(found.concat() == content, "a blob is another one");
        true
    }

    /// The digest of the manifest that a tag or digest stands for; its bytes are right.
    pub(crate) async fn resolve(&self, reference: &str) -> Option<Digest> {
        let reference: Reference = reference.parse().unwrap();
        match self.registry.manifest(&self.repository, &reference).await {
            Ok(manifest) => {
                assert_eq!(sha256(&manifest.bytes), manifest.digest);
                Some(manifest.digest)
            }
            Err(CoreError::ManifestNotFound) => None,
            Err(error) => panic!("a manifest: {error}: {error:?}"),
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.database.is_healthy()
    }

    /// What was acknowledged long ago is there.
    pub(crate) async fn keeps(&self) {
        assert_eq!(self.resolve(KEPT).await, Some(sha256(&manifest(KEPT))));
        assert!(self.holds(&layer(KEPT)).await);
    }

    pub(crate) async fn collect(&self) -> Result<(), CoreError> {
        for _ in 0..4 {
            self.clock.advance(Duration::from_millis(1));
            self.registry.collect_garbage().await?;
        }
        Ok(())
    }

    /// Lets go of all images but the one that is kept, and of what nobody comes back for.
    pub(crate) async fn tidy(&self) {
        let kept = sha256(&manifest(KEPT));
        for image in self.registry.images(&self.repository, "", 100).await.unwrap().items {
            if image.manifest.digest != kept {
                self.registry.delete_manifest(&self.repository, &image.manifest.digest).await.unwrap();
            }
        }
        self.clock.advance(Duration::from_secs(30 * 24 * 3600));
        while self.registry.expire_uploads().await.unwrap() > 0 {}
        self.collect().await.unwrap();
    }

    /// When everything is tidy every object has its key, every key its object, and nothing else lies there.
    pub(crate) async fn has_nothing_left_over(&self) {
        let named = self.metadata.read(|tx| {
            let rows = tx.query("SELECT file_id FROM blob_keys", params![])?;
            rows.iter().map(|row| row.get::<Vec<u8>>(0)).collect::<Result<BTreeSet<_>, _>>()
        });
        let named = named.await.unwrap();
        let stored = self.store.list(None, 1000).await.unwrap();
        let stored: BTreeSet<Vec<u8>> =
            stored.iter().map(|object| object.file_id.as_bytes().to_vec()).collect();
        assert_eq!(stored, named);
        let strangers = files_below(&self.disk.root().join("content/objects"));
        let strangers: Vec<_> = strangers.iter().filter(|name| name.parse::<FileId>().is_err()).collect();
        assert!(strangers.is_empty(), "{strangers:?}");
        let epochs = self.registry.key_epochs().await.unwrap();
        let mut keys: BTreeSet<String> = BTreeSet::from(["system-1.key".to_owned()]);
        let alive = epochs.iter().filter(|one| one.state != registry_core::EpochState::Destroyed);
        keys.extend(alive.map(|one| format!("{}-{}.key", one.domain, one.epoch)));
        assert_eq!(files_below(&self.disk.root().join("keys")), keys);
    }
}

fn files_below(folder: &std::path::Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.insert(entry.file_name().into_string().unwrap());
        }
    }
    found
}

pub(crate) fn body(content: &[u8]) -> Body {
    Box::pin(stream::iter([Ok(Bytes::copy_from_slice(content))]))
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &Sha256::digest(content))
}

/// Several records of the content store.
pub(crate) fn layer(name: &str) -> Vec<u8> {
    format!("layer of {name}, ").repeat(4_000).into_bytes()
}

pub(crate) fn manifest(name: &str) -> Vec<u8> {
    let part = |content: &[u8]| json!({ "mediaType": "application/x", "digest": sha256(content), "size": content.len() });
    let layers = [part(&layer(name))];
    json!({ "schemaVersion": 2, "config": part(b"{}"), "layers": layers }).to_string().into_bytes()
}
