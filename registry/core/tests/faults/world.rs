//! A registry whose database, keys and content lie on one machine under test: all on one disk, or the content and the
//! database's change log on three replicas as well.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use registry_blob::{BlobStore, ContentStore, FileId, FsStore, Marker, ReplicaId, Replicated, StoreError};
use registry_core::{
    Body, CoreError, ManifestPush, NewRepository, NewUpload, Places, PushTarget, Registry, RegistryConfig,
    Repository, Upkeep, UpkeepConfig, initialize_replicas, open_replicas,
};
use registry_metadata::Metadata;
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::{Database, params};
use registry_types::{Algorithm, Digest, MediaType, Reference, RepositoryName};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, Fault, replica_folder};
use crate::replicas;

pub(crate) const ALICE: &str = "AIDAALICE";
pub(crate) const CLUSTER: &str = "faults";
pub(crate) const DATABASE: &str = "berth.db";
pub(crate) const REPLICAS: usize = 3;
/// What was acknowledged long ago, and must be there whatever happens.
pub(crate) const KEPT: &str = "kept";

/// How a server is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One folder of content, and a database that is nowhere else.
    One,
    /// Three replicas, of which two must hold what is acknowledged: objects, and what the database was told.
    Three,
}

impl Shape {
    fn folders(self) -> Vec<String> {
        match self {
            Self::One => vec!["content".to_owned()],
            Self::Three => (0..REPLICAS).map(replica_folder).collect(),
        }
    }
}

pub(crate) struct World {
    pub(crate) disk: Arc<Disk>,
    pub(crate) registry: Registry,
    pub(crate) repository: Repository,
    pub(crate) clock: Clock,
    pub(crate) database: Database,
    pub(crate) metadata: Metadata,
    /// There are replicas to keep up.
    pub(crate) upkeep: Option<Upkeep>,
    shape: Shape,
}

impl World {
    pub(crate) async fn new(shape: Shape) -> Self {
        let world = Self::open(shape, Arc::new(Disk::new()), Clock::manual(1_000_000_000)).await.unwrap();
        world.push_image(KEPT).await.unwrap();
        world
    }

    /// Starts a server on what a disk holds; the first one makes what it needs.
    pub(crate) async fn open(shape: Shape, disk: Arc<Disk>, clock: Clock) -> Result<Self, Box<dyn Error>> {
        let is_first = !disk.root().join(DATABASE).exists();
        let keys = Arc::new(LocalKeys::open(&disk.root().join("keys"))?);
        let sealer = Arc::new(Sealer::new(&keys.create("system", 1)?, 1));
        let folders = Arc::new(Folders::of(&disk));
        let (database, replicas) = match shape {
            Shape::One => {
                let (id, root) = (ReplicaId::new("files"), disk.root().join("content"));
                if is_first {
                    FsStore::initialize(&root, CLUSTER, &id)?;
                }
                let store = Arc::new(FsStore::open(&root, CLUSTER, &id));
                let database = Database::open_sqlite(&disk.root().join(DATABASE)).await?;
                (database, Replicated::single(id, store))
            }
            Shape::Three => {
                let wanted = shape.folders();
                if is_first {
                    initialize_replicas(folders.as_ref(), &wanted, None).await?;
                }
                let log = replicas::log_on(&disk, keys.as_ref())?;
                let database = Database::open_sqlite_logged(&disk.root().join(DATABASE), log).await?;
                let metadata = Metadata::open(database.clone()).await?;
                let set = open_replicas(&metadata, folders.as_ref(), &wanted, None, clock.now_ms()).await?;
                (database, set)
            }
        };
        let metadata = Metadata::open(database.clone()).await?;
        let content = ContentStore::new(replicas, keys);
        // What nothing names goes at once.
        let config = RegistryConfig { gc_grace_ms: 0, garbage_drain_ms: 0, ..RegistryConfig::default() };
        let registry = Registry::open(metadata.clone(), content, sealer, clock.clone(), config).await?;
        registry.follow_keys().await?;
        let upkeep = (shape == Shape::Three).then(|| {
            Upkeep::new(registry.clone(), folders, UpkeepConfig { scrub_rate: 0, ..Default::default() })
        });
        if let Some(upkeep) = &upkeep {
            upkeep.sync_replicas().await?;
        }
        let name: RepositoryName = "app".parse()?;
        let repository = match registry.repository(&name).await? {
            Some(repository) => repository,
            None => registry.create_repository(&name, NewRepository::default()).await?,
        };
        Ok(Self { disk, registry, repository, clock, database, metadata, upkeep, shape })
    }

    /// Ends the server and starts another on what it left.
    pub(crate) async fn after(self, crash: Fault) -> Self {
        let disk = Arc::new(self.disk.after(crash));
        Self::open(self.shape, disk, self.clock.clone()).await.unwrap()
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

    /// The objects that the database names.
    pub(crate) async fn named(&self) -> BTreeSet<String> {
        let named = self.metadata.read(|tx| {
            let rows = tx.query("SELECT file_id FROM blob_keys", params![])?;
            rows.iter().map(|row| row.get::<Vec<u8>>(0)).collect::<Result<Vec<_>, _>>()
        });
        let named = named.await.unwrap().into_iter();
        named.map(|file_id| FileId::from_bytes(file_id.try_into().unwrap()).to_string()).collect()
    }

    /// Whatever lies where objects belong.
    pub(crate) fn stored(&self, folder: &str) -> BTreeSet<String> {
        files_below(&self.disk.root().join(folder).join("objects"))
    }

    /// When everything is tidy every object has its key, every key its object, and nothing else lies there.
    pub(crate) async fn has_nothing_left_over(&self) {
        let named = self.named().await;
        for folder in self.shape.folders() {
            assert_eq!(self.stored(&folder), named, "{folder}");
        }
        let epochs = self.registry.key_epochs().await.unwrap();
        let mut keys: BTreeSet<String> = BTreeSet::from(["system-1.key".to_owned()]);
        let alive = epochs.iter().filter(|one| one.state != registry_core::EpochState::Destroyed);
        keys.extend(alive.map(|one| format!("{}-{}.key", one.domain, one.epoch)));
        assert_eq!(files_below(&self.disk.root().join("keys")), keys);
    }
}

/// Files and folders of a disk as places of replicas.
struct Folders {
    root: PathBuf,
}

impl Folders {
    fn of(disk: &Disk) -> Self {
        Self { root: disk.root().to_owned() }
    }

    fn store(&self, location: &str, id: &ReplicaId) -> FsStore {
        FsStore::open(&self.root.join(location), CLUSTER, id)
    }
}

/// A location is the name of a folder: the next disk has it elsewhere.
#[async_trait]
impl Places for Folders {
    fn resolve(&self, location: &str) -> Result<String, String> {
        Ok(location.to_owned())
    }

    fn cluster(&self) -> &str {
        CLUSTER
    }

    async fn marker(&self, location: &str) -> Result<Option<Marker>, StoreError> {
        FsStore::marker(&self.root.join(location))
    }

    async fn initialize(&self, location: &str, id: &ReplicaId) -> Result<(), StoreError> {
        FsStore::initialize(&self.root.join(location), CLUSTER, id)
    }

    fn open(&self, location: &str, id: &ReplicaId) -> Result<Arc<dyn BlobStore>, StoreError> {
        Ok(Arc::new(self.store(location, id)))
    }

    async fn keep_note(
        &self,
        location: &str,
        id: &ReplicaId,
        name: &str,
        text: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.store(location, id).keep_note(name, &text)
    }

    async fn note(&self, location: &str, id: &ReplicaId, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store(location, id).note(name)
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
