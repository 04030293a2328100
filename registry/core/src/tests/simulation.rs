//! Drawn schedules of two servers over one database and one store: pushes, mounts, looks, deletions, tasks that
//! start and stop, collections, crashes and clocks that jump, in any order of their single steps.
//!
//! A model says what must still be there. Nothing that was acknowledged and is referenced, or runs, is ever lost;
//! what a client was told to rely on stays for its grace; and in the end nothing is left but what is needed.

mod turns;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use registry_blob::{
    BlobStore, ContentStore, FileId, MemoryStore, ObjectEntry, ObjectReader, ObjectWriter, Replacement,
    ReplicaId, Replicated, StoreError,
};
use registry_metadata::{Metadata, blobs};
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::{Database, params};
use registry_types::{Algorithm, Digest, MediaType, Reference};
use serde_json::json;
use tempfile::TempDir;

use self::turns::{Draw, Turns};
use super::support::{ALICE, body, sha256};
use crate::registry::default_domain;
use crate::{
    CoreError, ManifestPush, Mount, NewRepository, NewUpload, PinnedDigests, Pins, PushTarget, Registry,
    RegistryConfig, Repository, Source,
};

const HOUR: Duration = Duration::from_secs(3600);
const SERVERS: usize = 2;
const REPOSITORIES: usize = 2;
/// The layers of each image.
const IMAGES: [&[usize]; 4] = [&[0], &[0, 1], &[1, 2], &[2]];
const LAYERS: usize = 3;
/// A client that was told of a blob may rely on it for so long: its grace, less what a look may be noted late.
const RELIED_MS: i64 = 23 * 3_600_000;

/// A store whose every operation lets others go first.
struct Yielding(MemoryStore);

#[async_trait]
impl BlobStore for Yielding {
    async fn create(&self, file_id: FileId) -> Result<Box<dyn ObjectWriter>, StoreError> {
        tokio::task::yield_now().await;
        self.0.create(file_id).await
    }

    async fn resume(
        &self,
        file_id: FileId,
        len: u64,
        checkpoint: &[u8],
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        tokio::task::yield_now().await;
        self.0.resume(file_id, len, checkpoint).await
    }

    async fn open(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        tokio::task::yield_now().await;
        self.0.open(file_id).await
    }

    async fn replace(&self, file_id: FileId) -> Result<Box<dyn Replacement>, StoreError> {
        tokio::task::yield_now().await;
        self.0.replace(file_id).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.0.probe().await
    }

    async fn delete(&self, file_id: FileId) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.0.delete(file_id).await
    }

    async fn list(&self, after: Option<FileId>, limit: usize) -> Result<Vec<ObjectEntry>, StoreError> {
        self.0.list(after, limit).await
    }
}

/// What runs.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<PinnedDigests>>);

#[async_trait]
impl Pins for Running {
    async fn pinned_digests(&self) -> Result<PinnedDigests, Source> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().clone())
    }
}

/// When something was acknowledged, and when something last undid it or may have.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// The turn at which the last acknowledged push began; of blobs their clients know.
    pushed: Option<u64>,
    /// The turn at which the last deletion ended; the present while one is under way.
    deleted: Option<u64>,
    deleting: usize,
}

impl Fate {
    fn must_be_there(self) -> bool {
        self.pushed.is_some_and(|pushed| self.is_untouched_since(pushed))
    }

    fn is_untouched_since(self, turn: u64) -> bool {
        self.deleting == 0 && self.deleted.is_none_or(|deleted| deleted < turn)
    }
}

/// What must be there, as the clients were told.
#[derive(Default)]
struct Model {
    turn: u64,
    images: BTreeMap<(usize, usize), Fate>,
    /// Deletions of blobs, by repository and layer.
    links: BTreeMap<(usize, usize), Fate>,
    /// The turn at which the wall clock last jumped, or at which a collection ended that had read it before.
    jumped: u64,
    /// The turns at which the collections under way began.
    collecting: [Option<u64>; SERVERS],
    /// What happened, for whoever looks into a failure.
    history: Vec<String>,
    /// Work during which time does not pass by hours: no request takes so long.
    hasty: usize,
}

impl Model {
    fn note(&mut self, clock: &Clock, what: String) {
        let hours = clock.now_ms() as f64 / 3_600_000.0;
        self.history.push(format!("{:4} {hours:9.2} h  {what}", self.turn));
    }
}

/// Ends what was begun, also when its server crashes.
struct Ending<F: FnMut(&mut Model)>(Rc<RefCell<Model>>, F);

impl<F: FnMut(&mut Model)> Drop for Ending<F> {
    fn drop(&mut self) {
        self.1(&mut self.0.borrow_mut());
    }
}

/// What servers share and a crash leaves.
struct Installation {
    metadata: Metadata,
    store: Arc<Yielding>,
    keys: Arc<LocalKeys>,
    sealer: Arc<Sealer>,
    clock: Clock,
    running: Running,
    _folder: TempDir,
}

impl Installation {
    async fn new(seed: u64) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let file = folder.path().join("berth.db");
        let database = Database::open_rerunning(file.to_str().unwrap(), seed).await.unwrap();
        let keys = Arc::new(LocalKeys::open(&folder.path().join("keys")).unwrap());
        let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
        Self {
            metadata: Metadata::open(database).await.unwrap(),
            store: Arc::new(Yielding(MemoryStore::default())),
            keys,
            sealer,
            clock: Clock::manual(1_000_000_000),
            running: Running::default(),
            _folder: folder,
        }
    }

    async fn server(&self) -> Registry {
        let replicas = Replicated::single(ReplicaId::new("memory"), Arc::clone(&self.store) as _);
        let content = ContentStore::new(replicas, Arc::clone(&self.keys) as _);
        let (metadata, sealer) = (self.metadata.clone(), Arc::clone(&self.sealer));
        // What the queues do not know is to be seen as left.
        let config = RegistryConfig { candidate_walk_interval_ms: None, ..RegistryConfig::default() };
        let registry = Registry::open(metadata, content, sealer, self.clock.clone(), config).await.unwrap();
        registry.connect_pins(Arc::new(self.running.clone()));
        registry
    }

    /// What the rows say of every object in the store, for whoever looks into a failure.
    async fn describe(&self) -> String {
        let objects = self.store.list(None, 1000).await.unwrap();
        let read = self.metadata.read(move |tx| {
            let mut told = String::new();
            for entry in &objects {
                let id = params![entry.file_id.as_bytes().to_vec()];
                let keys = tx.query("SELECT digest FROM blob_keys WHERE file_id = $1", id)?;
                let uploads = tx.query("SELECT uid FROM uploads WHERE file_id = $1", id)?.len();
                let garbage = tx.query("SELECT file_id FROM garbage_objects WHERE file_id = $1", id)?.len();
                told += &format!("\n{}: uploads {uploads}, garbage {garbage}", entry.file_id);
                for key in &keys {
                    let digest: String = key.get(0)?;
                    let named = params![digest.as_str()];
                    let links = tx.query("SELECT noted_at FROM blob_links WHERE digest = $1", named)?.len();
                    let manifests = tx.query("SELECT size FROM manifests WHERE digest = $1", named)?.len();
                    let retired = tx.query("SELECT retired_at FROM retired_manifests WHERE digest = $1", named)?.len();
                    let contents = tx.query("SELECT size FROM manifest_contents WHERE digest = $1", named)?.len();
                    let condemned = tx.query("SELECT file_id FROM condemned_keys WHERE digest = $1", named)?.len();
                    let noted = tx.query("SELECT digest FROM unnamed_digests WHERE digest = $1", named)?.len();
                    told += &format!(
                        ", key of {digest}: noted {noted}, links {links}, manifests {manifests}, retired {retired}, contents \
                         {contents}, condemned {condemned}"
                    );
                }
            }
            Ok::<_, CoreError>(told)
        });
        read.await.unwrap()
    }

    /// Whether the content of a digest is in the store.
    async fn holds(&self, digest: &Digest) -> bool {
        let wanted = digest.clone();
        let read =
            self.metadata.read(move |tx| Ok::<_, CoreError>(blobs::key(tx, &default_domain(), &wanted)?));
        let key = read.await.unwrap();
        key.is_some_and(|key| self.store.0.bytes(FileId::from_bytes(key.file_id)).is_some())
    }
}

fn layer(at: usize) -> Vec<u8> {
    format!("the content of layer {at}").into_bytes()
}

/// The manifest of an image, its configuration the layer before the others.
fn manifest(image: usize) -> Bytes {
    let part = |at: usize| {
        let content = layer(at);
        json!({ "mediaType": "application/x", "digest": sha256(&content), "size": content.len() })
    };
    let layers: Vec<_> = IMAGES[image].iter().map(|at| part(*at)).collect();
    let manifest = json!({ "schemaVersion": 2, "config": part(LAYERS), "layers": layers, "annotations": { "n": image.to_string() } });
    Bytes::from(manifest.to_string())
}

/// Every digest that an image needs, its own among them.
fn closure(image: usize) -> BTreeSet<Digest> {
    let parts = IMAGES[image].iter().chain([&LAYERS]).map(|at| sha256(&layer(*at)));
    parts.chain([sha256(&manifest(image))]).collect()
}

/// One client, or one worker, at one server.
#[derive(Clone)]
struct Actor {
    registry: Registry,
    repositories: Vec<Repository>,
    model: Rc<RefCell<Model>>,
    clock: Clock,
    running: Running,
}

/// How a client comes by a layer.
#[derive(Clone, Copy, Debug)]
enum Way {
    Upload,
    Look,
    Mount,
}

impl Actor {
    fn note(&self, what: String) {
        self.model.borrow_mut().note(&self.clock, what);
    }

    fn ending<F: FnMut(&mut Model)>(&self, end: F) -> Ending<F> {
        Ending(Rc::clone(&self.model), end)
    }

    async fn push(self, repository: usize, image: usize, ways: [Way; LAYERS + 1]) {
        let began = self.model.borrow().turn;
        self.note(format!("push of {repository}/{image} begins"));
        let mut relied = BTreeMap::new();
        for at in IMAGES[image].iter().chain([&LAYERS]) {
            let began = (self.model.borrow().turn, self.clock.now_ms());
            self.provide(repository, *at, ways[*at]).await;
            relied.insert(*at, began);
        }
        let push = ManifestPush {
            target: &PushTarget::Existing(self.repositories[repository].clone()),
            reference: Reference::Tag(format!("v{image}").parse().unwrap()),
            tags: Vec::new(),
            content_type: MediaType::OCI_MANIFEST,
            bytes: manifest(image),
        };
        let pushed = self.registry.put_manifest(push).await;
        self.note(format!("push of {repository}/{image}: {:?}", pushed.as_ref().map(|_| ())));
        match pushed {
            Ok(_) => {
                self.model.borrow_mut().images.entry((repository, image)).or_default().pushed = Some(began)
            }
            Err(CoreError::ContentsMissing(missing)) => self.may_be_missing(repository, &missing, &relied),
            Err(error) => panic!("a push ended with {error}: {error:?}"),
        }
    }

    /// Makes sure that the repository has a blob, in one way or another.
    async fn provide(&self, repository: usize, at: usize, way: Way) {
        let content = layer(at);
        let digest = sha256(&content);
        let target = PushTarget::Existing(self.repositories[repository].clone());
        let has = match way {
            Way::Upload => false,
            Way::Look => match self.registry.blob_info(&self.repositories[repository], &digest).await {
                Ok(_) => true,
                Err(CoreError::BlobNotFound) => false,
                Err(error) => panic!("a look ended with {error}: {error:?}"),
            },
            Way::Mount => {
                let source = &self.repositories[(repository + 1) % REPOSITORIES];
                matches!(self.registry.mount_blob(&target, source, &digest).await.unwrap(), Mount::Mounted(_))
            }
        };
        if !has {
            let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
            self.registry.upload_whole(new, body(&content), &digest).await.unwrap();
        }
        let way = if has { format!("{way:?}") } else { "Upload".to_owned() };
        self.note(format!("blob {repository}/{at} by {way}"));
    }

    /// A manifest was refused: something it names was deleted since the client was told to rely on it, or the client
    /// took longer than the grace.
    fn may_be_missing(&self, repository: usize, missing: &[Digest], relied: &BTreeMap<usize, (u64, i64)>) {
        let (model, now_ms) = (self.model.borrow(), self.clock.now_ms());
        // What the wall clock said before a jump is believed until a collection ends that read it.
        let is_mistaken = model.collecting.iter().flatten().any(|began| *began <= model.jumped);
        for (at, (turn, at_ms)) in relied.iter().filter(|(at, _)| missing.contains(&sha256(&layer(**at)))) {
            let link = model.links.get(&(repository, *at)).copied().unwrap_or_default();
            assert!(
                !link.is_untouched_since(*turn)
                    || model.jumped >= *turn
                    || is_mistaken
                    || now_ms - at_ms >= RELIED_MS,
                "a client was told to rely on layer {at} of repository {repository}, and it went"
            );
        }
    }

    async fn delete_image(self, repository: usize, image: usize) {
        let key = (repository, image);
        self.model.borrow_mut().images.entry(key).or_default().deleting += 1;
        self.model.borrow_mut().hasty += 1;
        let _ended = self.ending(move |model| {
            model.hasty -= 1;
            let turn = model.turn;
            let fate = model.images.entry(key).or_default();
            (fate.deleting, fate.deleted) = (fate.deleting - 1, Some(turn));
        });
        let deleted =
            self.registry.delete_manifest(&self.repositories[repository], &sha256(&manifest(image))).await;
        self.note(format!("image {repository}/{image} deleted: {:?}", deleted.is_ok()));
        match deleted {
            Ok(_) | Err(CoreError::ManifestNotFound) => {}
            Err(error) => panic!("a deletion ended with {error}: {error:?}"),
        }
    }

    async fn delete_blob(self, repository: usize, at: usize) {
        let key = (repository, at);
        self.model.borrow_mut().links.entry(key).or_default().deleting += 1;
        let _ended = self.ending(move |model| {
            let turn = model.turn;
            let fate = model.links.entry(key).or_default();
            (fate.deleting, fate.deleted) = (fate.deleting - 1, Some(turn));
        });
        let deleted = self.registry.delete_blob(&self.repositories[repository], &sha256(&layer(at))).await;
        self.note(format!("blob {repository}/{at} deleted: {:?}", deleted.is_ok()));
        match deleted {
            Ok(()) | Err(CoreError::BlobNotFound) => {}
            Err(error) => panic!("a deletion ended with {error}: {error:?}"),
        }
    }

    /// A task starts: it asks what to run, and what it was told is written down.
    async fn run(self, repository: usize, image: usize) {
        self.model.borrow_mut().hasty += 1;
        let _ended = self.ending(|model| model.hasty -= 1);
        let repository = &self.repositories[repository];
        let tag = Reference::Tag(format!("v{image}").parse().unwrap());
        let resolved = self.registry.resolve(repository, &tag).await;
        self.note(format!("{}:{tag} runs: {:?}", repository.name, resolved.is_ok()));
        match resolved {
            Ok(digest) => drop(self.running.0.lock().insert((repository.name.clone(), digest))),
            Err(CoreError::ManifestNotFound) => {}
            Err(error) => panic!("a task ended with {error}: {error:?}"),
        }
    }

    async fn collect(self, server: usize) {
        let began = self.model.borrow().turn;
        self.model.borrow_mut().collecting[server] = Some(began);
        let _ended = self.ending(move |model| {
            model.collecting[server] = None;
            if model.jumped >= began {
                model.jumped = model.turn;
            }
        });
        self.note(format!("server {server} collects"));
        let deleted = self.registry.collect_garbage().await.unwrap();
        self.note(format!("server {server} has collected {deleted}"));
    }
}

/// An installation on which schedule follows schedule.
struct Simulation {
    turns: Turns,
    draw: Draw,
    installation: Installation,
    servers: Vec<Registry>,
    schedules: usize,
    /// Of the present schedule.
    model: Rc<RefCell<Model>>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let turns = Turns::new();
        let installation = turns.runtime.block_on(Installation::new(seed));
        let servers = (0..SERVERS).map(|_| turns.runtime.block_on(installation.server())).collect();
        Self { turns, draw: Draw(seed), installation, servers, schedules: 0, model: Rc::default() }
    }

    /// One schedule, in repositories of its own; what it leaves is for the next one's collections.
    fn schedule(&mut self) {
        self.schedules += 1;
        let repositories: Vec<Repository> = (0..REPOSITORIES)
            .map(|at| {
                let name = format!("s{}/{at}", self.schedules).parse().unwrap();
                let made = self.servers[0].create_repository(&name, NewRepository::default());
                self.turns.runtime.block_on(made).unwrap()
            })
            .collect();
        let model = Rc::<RefCell<Model>>::default();
        self.model = Rc::clone(&model);
        let mut left = 8 + self.draw.below(12);
        while left > 0 || self.turns.len() > 0 {
            model.borrow_mut().turn += 1;
            if left > 0 && (self.turns.len() == 0 || (self.turns.len() < 6 && self.draw.one_in(8))) {
                left -= 1;
                self.event(&model, &repositories);
            } else {
                self.turns.step(&mut self.draw);
            }
        }
        self.settle(&model.borrow(), &repositories);
    }

    fn event(&mut self, model: &Rc<RefCell<Model>>, repositories: &[Repository]) {
        let server = self.draw.below(SERVERS);
        let (repository, image) = (self.draw.below(REPOSITORIES), self.draw.below(IMAGES.len()));
        let actor = Actor {
            registry: self.servers[server].clone(),
            repositories: repositories.to_vec(),
            model: Rc::clone(model),
            clock: self.installation.clock.clone(),
            running: self.installation.running.clone(),
        };
        let is_hasty = model.borrow().hasty > 0;
        match self.draw.below(20) {
            0..=6 => {
                let ways = std::array::from_fn(|_| [Way::Upload, Way::Look, Way::Mount][self.draw.below(3)]);
                self.turns.begin(server, actor.push(repository, image, ways));
            }
            7 | 8 => self.turns.begin(server, actor.delete_image(repository, image)),
            9 => self.turns.begin(server, actor.delete_blob(repository, self.draw.below(LAYERS + 1))),
            10 => self.turns.begin(server, actor.run(repository, image)),
            11 => {
                let mut running = self.installation.running.0.lock();
                let stopped = running.iter().nth(self.draw.below(running.len().max(1))).cloned();
                stopped.map(|stopped| running.remove(&stopped));
            }
            12..=15 if model.borrow().collecting[server].is_none() => {
                self.turns.begin(server, actor.collect(server));
            }
            16 | 17 if !is_hasty => {
                let by = [HOUR / 2, 13 * HOUR, 25 * HOUR][self.draw.below(3)];
                self.installation.clock.advance(by);
                model.borrow_mut().note(&self.installation.clock, format!("{by:?} pass"));
            }
            18 if !is_hasty => {
                let hours = [-30, 2, 30][self.draw.below(3)];
                self.installation.clock.jump(hours * 3_600_000);
                let mut model = model.borrow_mut();
                model.jumped = model.turn;
                model.note(&self.installation.clock, format!("the wall clock jumps by {hours} hours"));
            }
            19 => {
                self.turns.crash(server);
                model.borrow_mut().note(&self.installation.clock, format!("server {server} crashes"));
                self.servers[server] = self.turns.runtime.block_on(self.installation.server());
            }
            _ => self.installation.clock.advance(Duration::from_millis(1)),
        }
    }

    /// All is quiet: what must be there is, whole, and after a while nothing else.
    fn settle(&mut self, model: &Model, repositories: &[Repository]) {
        let (runtime, installation) = (&self.turns.runtime, &self.installation);
        let server = &self.servers[self.draw.below(SERVERS)];
        let mut needed = BTreeSet::new();
        for (at, repository) in repositories.iter().enumerate() {
            for image in 0..IMAGES.len() {
                let digest = sha256(&manifest(image));
                let fate = model.images.get(&(at, image)).copied().unwrap_or_default();
                let found = runtime.block_on(server.manifest(repository, &Reference::Digest(digest.clone())));
                match found {
                    Ok(found) => assert_eq!(found.bytes, manifest(image)),
                    Err(CoreError::ManifestNotFound) => {
                        assert!(
                            !fate.must_be_there(),
                            "image {image} of repository {at} was acknowledged and is gone"
                        );
                        let pin = (repository.name.clone(), digest);
                        if installation.running.0.lock().contains(&pin) {
                            needed.extend(closure(image));
                        }
                        continue;
                    }
                    Err(error) => {
                        panic!("image {image} of repository {at} cannot be read: {error}: {error:?}")
                    }
                }
                needed.extend(closure(image));
            }
        }
        let holds_all = || needed.iter().all(|digest| runtime.block_on(installation.holds(digest)));
        assert!(holds_all(), "content that is referenced, or runs, is gone");
        // Uploads of crashed servers have their lifetime (and the wall clock may have gone back), then a link its grace, a key its own, an object its drain.
        installation.clock.advance(60 * 24 * HOUR);
        while runtime.block_on(server.expire_uploads()).unwrap() > 0 {}
        while runtime.block_on(server.purge_deleted_repositories()).unwrap() {}
        for _ in 0..4 {
            runtime.block_on(server.collect_garbage()).unwrap();
            installation.clock.advance(25 * HOUR);
        }
        assert!(holds_all(), "content that is referenced, or runs, was collected");
        let left = runtime.block_on(installation.store.list(None, 1000)).unwrap().len();
        assert_eq!(
            left,
            needed.len(),
            "objects that nothing needs are left: {}",
            runtime.block_on(installation.describe())
        );
        installation.running.0.lock().clear();
        for repository in repositories {
            runtime.block_on(server.delete_repository(&repository.uid, true)).unwrap();
        }
    }
}

/// Schedules of one installation; the seed stands in what is printed when one fails.
fn simulate(seed: u64, schedules: usize) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..schedules {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.schedule()));
        let history = || simulation.model.borrow().history.join("\n");
        assert!(result.is_ok(), "schedule {} of seed {seed} fails:\n{}", simulation.schedules, history());
    }
}

#[test]
fn no_schedule_loses_what_is_needed_or_keeps_what_is_not() {
    for seed in 1..=4 {
        simulate(seed, 250);
    }
}

#[test]
#[ignore = "100,000 schedules take half an hour of a processor"]
#[allow(clippy::print_stdout, reason = "its figure is asked for")]
fn a_hundred_thousand_schedules_lose_nothing() {
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let done = &done;
            scope.spawn(move || {
                for batch in 0..50 {
                    simulate(1000 + 2 * batch + half, 1000);
                    println!("{} schedules", done.fetch_add(1000, Ordering::Relaxed) + 1000);
                }
            });
        }
    });
}
