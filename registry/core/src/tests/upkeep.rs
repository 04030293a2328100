//! Replicas in folders: rot, loss, and change while serving.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use registry_blob::{BlobStore, ContentStore, FsStore, Marker, ReplicaId, StoreError};
use registry_metadata::{Metadata, repairs, scrubs};
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer, random_bytes};
use registry_sql::Database;
use registry_types::Digest;
use tempfile::TempDir;

use super::support::{ALICE, body, sha256};
use crate::upkeep::{RENEWED_EACH, TAKEN_FOR_MS, renewing};
use crate::{
    CoreError, FindingKind, NewRepository, NewUpload, Places, PushTarget, Registry, RegistryConfig,
    ReplicaError, Repository, ScrubState, Upkeep, UpkeepConfig, initialize_replicas, open_replicas,
};

const CLUSTER: &str = "cluster";

struct Folders;

#[async_trait]
impl Places for Folders {
    fn resolve(&self, location: &str) -> Result<String, String> {
        Ok(location.to_owned())
    }

    fn cluster(&self) -> &str {
        CLUSTER
    }

    async fn marker(&self, location: &str) -> Result<Option<Marker>, StoreError> {
        FsStore::marker(Path::new(location))
    }

    async fn initialize(&self, location: &str, id: &ReplicaId) -> Result<(), StoreError> {
        FsStore::initialize(Path::new(location), CLUSTER, id)
    }

    fn open(&self, location: &str, id: &ReplicaId) -> Result<Arc<dyn BlobStore>, StoreError> {
        Ok(Arc::new(FsStore::open(Path::new(location), CLUSTER, id)))
    }

    async fn keep_note(
        &self,
        location: &str,
        id: &ReplicaId,
        name: &str,
        text: Vec<u8>,
    ) -> Result<(), StoreError> {
        FsStore::open(Path::new(location), CLUSTER, id).keep_note(name, &text)
    }

    async fn note(&self, location: &str, id: &ReplicaId, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        FsStore::open(Path::new(location), CLUSTER, id).note(name)
    }
}

/// A registry over three folders.
struct House {
    folder: TempDir,
    clock: Clock,
    registry: Registry,
    upkeep: Upkeep,
    repository: Repository,
    pushed: HashMap<Digest, Vec<u8>>,
}

impl House {
    async fn new(replicas: usize, write_quorum: Option<usize>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let locations: Vec<String> = (0..replicas).map(|number| root(folder.path(), number)).collect();
        initialize_replicas(&Folders, &locations, write_quorum).await.unwrap();
        let clock = Clock::manual(1_000_000);
        let (registry, upkeep) = open(folder.path(), &locations, write_quorum, &clock).await.unwrap();
        let name = "app".parse().unwrap();
        let repository = registry.create_repository(&name, NewRepository::default()).await.unwrap();
        Self { folder, clock, registry, upkeep, repository, pushed: HashMap::new() }
    }

    fn root(&self, number: usize) -> PathBuf {
        PathBuf::from(root(self.folder.path(), number))
    }

    async fn push(&mut self, len: usize) -> Digest {
        let mut content = random_bytes::<32>().repeat(len / 32 + 1);
        content.truncate(len);
        let target = PushTarget::Existing(self.repository.clone());
        let new =
            NewUpload { target: &target, principal: ALICE, algorithm: registry_types::Algorithm::Sha256 };
        let digest = sha256(&content);
        self.registry.upload_whole(new, body(&content), &digest).await.unwrap();
        self.pushed.insert(digest.clone(), content);
        digest
    }

    async fn read(&self, digest: &Digest) -> Result<Vec<u8>, CoreError> {
        use futures_util::TryStreamExt;
        let blob = self.registry.blob(&self.repository, digest).await?;
        let size = blob.size();
        let chunks: Vec<bytes::Bytes> = blob.read(0..size).await?.try_collect().await?;
        Ok(chunks.concat())
    }

    async fn everything_reads(&self) {
        for (digest, content) in &self.pushed {
            assert!(self.read(digest).await.unwrap() == *content, "{digest}");
        }
    }

    /// Every object of one replica with its bytes.
    fn objects(&self, number: usize) -> HashMap<String, Vec<u8>> {
        let mut found = HashMap::new();
        collect(&self.root(number).join("objects"), &mut found);
        found
    }

    async fn scrub(&self) {
        self.upkeep.start_scrub().await.unwrap();
        while self.upkeep.scrub().await.unwrap() {}
        assert_eq!(self.scrub_state().await, ScrubState::Finished);
    }

    async fn scrub_state(&self) -> ScrubState {
        self.upkeep.status().await.unwrap().scrub.unwrap().state
    }

    /// Works until nothing is owed.
    async fn repair(&self) {
        for _ in 0..10_000 {
            self.upkeep.hurry_repairs().await.unwrap();
            let more = self.upkeep.repair().await.unwrap();
            let status = self.upkeep.status().await.unwrap();
            let owed = status.replicas.iter().any(|one| one.repairs > 0 || one.backfilled.is_some());
            if !more && !owed {
                return;
            }
        }
        panic!("repairs do not end: {:?}", self.upkeep.status().await.unwrap());
    }

    /// What each replica is still to delete.
    async fn removals(&self) -> Vec<u64> {
        let status = self.upkeep.status().await.unwrap();
        status.replicas.iter().map(|replica| replica.removals).collect()
    }

    async fn open_findings(&self) -> Vec<u64> {
        let status = self.upkeep.status().await.unwrap();
        status.open_findings.into_iter().map(|(_, count)| count).collect()
    }
}

fn root(folder: &Path, number: usize) -> String {
    folder.join(format!("disk{number}")).to_str().unwrap().to_owned()
}

async fn open(
    folder: &Path,
    locations: &[String],
    write_quorum: Option<usize>,
    clock: &Clock,
) -> Result<(Registry, Upkeep), ReplicaError> {
    let database = Database::open_sqlite(&folder.join("berth.db")).await.unwrap();
    let metadata = Metadata::open(database).await.unwrap();
    let keys = Arc::new(LocalKeys::open(&folder.join("keys")).unwrap());
    let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
    let replicas = open_replicas(&metadata, &Folders, locations, write_quorum, clock.now_ms()).await?;
    let content = ContentStore::new(replicas, keys);
    let config = RegistryConfig { garbage_drain_ms: 0, ..RegistryConfig::default() };
    let registry = Registry::open(metadata, content, sealer, clock.clone(), config).await?;
    let config = UpkeepConfig { write_quorum, scrub_rate: 0, scrub_interval_ms: 0 };
    let upkeep = Upkeep::new(registry.clone(), Arc::new(Folders), config);
    upkeep.sync_replicas().await.unwrap();
    Ok((registry, upkeep))
}

fn collect(folder: &Path, found: &mut HashMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

fn object_path(root: &Path, name: &str) -> PathBuf {
    root.join("objects").join(&name[..1]).join(&name[1..2]).join(name)
}

fn random(below: usize) -> usize {
    (u64::from_le_bytes(random_bytes()) % below as u64) as usize
}

/// Flips one random bit of one random copy on one of the first `replicas` replicas.
fn flip(house: &House, names: &[String], replicas: usize) {
    let path = object_path(&house.root(random(replicas)), &names[random(names.len())]);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = random(bytes.len());
    bytes[at] ^= 1 << random(8);
    std::fs::write(&path, bytes).unwrap();
}

/// In rounds: flips bits on two of three replicas, reads everything, scrubs, repairs, and looks at the disks.
async fn flips_are_found_and_repaired(rounds: usize, flips: usize) {
    let mut house = House::new(3, None).await;
    for len in [0, 1, 1000, 65_535, 65_536, 65_537, 200_000, 1_048_577] {
        house.push(len).await;
    }
    let original = house.objects(2);
    let names: Vec<String> = original.keys().cloned().collect();
    assert_eq!((house.objects(0), house.objects(1)), (original.clone(), original.clone()));
    for round in 0..rounds {
        for _ in 0..flips {
            flip(&house, &names, 2);
        }
        house.everything_reads().await;
        house.scrub().await;
        house.repair().await;
        for number in 0..3 {
            assert!(house.objects(number) == original, "round {round}, replica {number}");
        }
        assert_eq!(house.open_findings().await, [0, 0, 0]);
    }
    let page = house.upkeep.findings(FindingKind::Damaged, None, 1000).await.unwrap();
    assert!(!page.items.is_empty() && page.items.iter().all(|finding| finding.repaired_at_ms.is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_flips_are_never_served_and_all_repaired() {
    flips_are_found_and_repaired(10, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 10,000 flips"]
async fn ten_thousand_random_flips_are_never_served_and_all_repaired() {
    flips_are_found_and_repaired(500, 20).await;
}

#[tokio::test]
async fn each_single_flip_is_found_by_scrub() {
    let mut house = House::new(3, None).await;
    house.push(70_000).await;
    let original = house.objects(0);
    let name = original.keys().next().unwrap().clone();
    let path = object_path(&house.root(0), &name);
    for _ in 0..40 {
        let mut bytes = original[&name].clone();
        let at = random(bytes.len());
        bytes[at] ^= 1 << random(8);
        std::fs::write(&path, bytes).unwrap();
        house.scrub().await;
        assert_eq!(house.open_findings().await, [1, 0, 0], "byte {at}");
        house.repair().await;
        assert!(house.objects(0) == original);
    }
}

#[tokio::test]
async fn rot_that_a_read_meets_is_repaired_without_a_scrub() {
    let mut house = House::new(3, None).await;
    let digest = house.push(300_000).await;
    let original = house.objects(0);
    let name = original.keys().next().unwrap().clone();
    let mut bytes = original[&name].clone();
    bytes[100_000] ^= 1;
    std::fs::write(object_path(&house.root(0), &name), bytes).unwrap();
    assert!(house.read(&digest).await.unwrap() == house.pushed[&digest]);
    house.repair().await;
    assert!(house.objects(0) == original);
    let page = house.upkeep.findings(FindingKind::Damaged, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert!(page.items[0].repaired_at_ms.is_some());
}

#[tokio::test]
async fn last_copy_that_is_bad_is_told_and_left_alone() {
    let mut house = House::new(1, None).await;
    let digest = house.push(100_000).await;
    let name = house.objects(0).into_keys().next().unwrap();
    let path = object_path(&house.root(0), &name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    house.scrub().await;
    for _ in 0..3 {
        house.upkeep.hurry_repairs().await.unwrap();
        house.upkeep.repair().await.unwrap();
    }
    assert_eq!(house.open_findings().await, [1, 0, 0]);
    assert!(std::fs::read(&path).unwrap() == bytes);
    let status = house.upkeep.status().await.unwrap();
    assert_eq!(status.replicas[0].repairs, 1);
    assert!(status.replicas[0].repair_problem.is_some());
    // A new push heals it, and the finding is settled with its object.
    let content = house.pushed[&digest].clone();
    let target = PushTarget::Existing(house.repository.clone());
    let algorithm = registry_types::Algorithm::Sha256;
    let new = NewUpload { target: &target, principal: ALICE, algorithm };
    house.registry.upload_whole(new, body(&content), &digest).await.unwrap();
    house.everything_reads().await;
    house.repair().await;
    assert_eq!(house.open_findings().await, [0, 0, 0]);
}

#[tokio::test]
async fn wiped_replica_is_offline_until_it_is_added_again_and_then_full() {
    let mut house = House::new(3, None).await;
    for _ in 0..20 {
        house.push(1000).await;
    }
    std::fs::remove_dir_all(house.root(1)).unwrap();
    std::fs::create_dir(house.root(1)).unwrap();
    house.everything_reads().await;
    for _ in 0..5 {
        house.push(1000).await;
    }
    house.scrub().await;
    let status = house.upkeep.status().await.unwrap();
    assert!(status.replicas[1].problem.is_some(), "{status:?}");
    assert_eq!((status.replicas[1].repairs, house.open_findings().await), (5, vec![0, 0, 0]));
    assert!(status.scrub.unwrap().tally.unchecked >= 20);
    assert_eq!(
        std::fs::read_dir(house.root(1)).unwrap().count(),
        0,
        "nothing is written past a missing disk"
    );

    // The operator takes the lost one out and puts the empty disk in.
    let refused = house.upkeep.remove_replica("replica2", false).await;
    assert!(
        matches!(refused, Err(ReplicaError::Quorum { .. })),
        "two replicas need a stated quorum: {refused:?}"
    );
    house.upkeep.drain_replica("replica1").await.unwrap_err();
    let (folder, clock) = (house.folder.path().to_owned(), house.clock.clone());
    let (registry, upkeep) = open(&folder, &[], Some(2), &clock).await.unwrap();
    (house.registry, house.upkeep) = (registry, upkeep);
    house.upkeep.remove_replica("replica1", false).await.unwrap();
    let added = house.upkeep.add_replicas(&[root(house.folder.path(), 1)]).await.unwrap();
    assert_eq!(added, ["replica3"]);
    house.push(1000).await;
    house.repair().await;
    assert!(house.objects(1) == house.objects(0) && house.objects(0).len() == 26);
    house.scrub().await;
    assert_eq!(house.open_findings().await, [0, 0, 0]);
}

#[tokio::test]
async fn replicas_come_and_go_while_serving() {
    let mut house = House::new(1, None).await;
    for _ in 0..700 {
        house.push(10).await;
    }
    let path = |number| root(house.folder.path(), number);
    let (two, three) = (path(1), path(2));
    let alone = house.upkeep.add_replicas(std::slice::from_ref(&two)).await;
    assert!(matches!(alone, Err(ReplicaError::Quorum { .. })), "{alone:?}");
    assert_eq!(house.upkeep.add_replicas(&[two.clone(), three]).await.unwrap(), ["replica1", "replica2"]);
    let again = house.upkeep.add_replicas(&[two]).await;
    assert!(matches!(again, Err(ReplicaError::InUse { .. })));
    let early = house.upkeep.remove_replica("replica0", false).await;
    assert!(matches!(early, Err(ReplicaError::Quorum { .. } | ReplicaError::LastCopies { .. })), "{early:?}");
    let during = house.push(5000).await;
    house.repair().await;
    assert!(house.objects(0) == house.objects(1) && house.objects(1) == house.objects(2));
    assert_eq!(house.objects(0).len(), 701);

    let fourth = root(house.folder.path(), 3);
    house.upkeep.add_replicas(&[fourth]).await.unwrap();
    let early = house.upkeep.remove_replica("replica0", false).await;
    assert!(matches!(early, Err(ReplicaError::LastCopies { .. })), "{early:?}");
    house.upkeep.drain_replica("replica0").await.unwrap();
    house.push(10).await;
    assert_eq!(house.objects(0).len(), 701, "a replica that is drained is not written");
    house.repair().await;
    house.upkeep.remove_replica("replica0", false).await.unwrap();
    std::fs::remove_dir_all(house.root(0)).unwrap();
    house.everything_reads().await;
    assert!(house.read(&during).await.is_ok());
    assert_eq!(house.objects(3).len(), 702);
    // A copied root is no second replica, and another installation's is none at all.
    let copied = root(house.folder.path(), 4);
    FsStore::initialize(Path::new(&copied), CLUSTER, &ReplicaId::new("replica1")).unwrap();
    let twice = house.upkeep.add_replicas(&[copied]).await;
    assert!(matches!(twice, Err(ReplicaError::Twice { .. })), "{twice:?}");
    let foreign = root(house.folder.path(), 5);
    FsStore::initialize(Path::new(&foreign), "other", &ReplicaId::new("replica9")).unwrap();
    let other = house.upkeep.add_replicas(&[foreign]).await;
    assert!(matches!(other, Err(ReplicaError::OtherInstallation { .. })), "{other:?}");
    // One that was moved is found by its marker.
    std::fs::rename(house.root(3), house.root(6)).unwrap();
    let moved = house.upkeep.add_replicas(&[root(house.folder.path(), 6)]).await.unwrap();
    assert_eq!(moved, ["replica3"]);
    house.push(10).await;
    assert_eq!(house.objects(6).len(), 703);
}

#[tokio::test]
async fn places_become_replicas_all_at_once_or_not_at_all() {
    let house = House::new(1, None).await;
    let path = |number| root(house.folder.path(), number);
    let in_use = || async {
        let status = house.upkeep.status().await.unwrap();
        status.replicas.into_iter().map(|one| one.location).collect::<Vec<_>>()
    };
    std::fs::write(path(8), b"no folder").unwrap();
    let impossible = house.upkeep.add_replicas(&[path(1), format!("{}/below", path(8))]).await;
    assert!(matches!(impossible, Err(ReplicaError::Store { .. })), "{impossible:?}");
    let same = house.upkeep.add_replicas(&[path(1), path(1)]).await;
    assert!(matches!(same, Err(ReplicaError::Same { .. })), "{same:?}");
    for inside in [[path(1), format!("{}/sub", path(1))], [path(1), format!("{}/objects", path(0))]] {
        let refused = house.upkeep.add_replicas(&inside).await;
        assert!(matches!(refused, Err(ReplicaError::Inside { .. })), "{refused:?}");
    }
    assert_eq!(in_use().await, [path(0)]);
    // The next start finds the one that there was.
    let (_, upkeep) = open(house.folder.path(), &[path(0)], None, &house.clock).await.unwrap();
    assert_eq!(upkeep.status().await.unwrap().replicas.len(), 1);
    // A place whose making broke off is as good as any other.
    let added = house.upkeep.add_replicas(&[path(1), path(2)]).await.unwrap();
    assert!(added.len() == 2 && added[0] != added[1], "{added:?}");
    assert_eq!(in_use().await, [path(0), path(1), path(2)]);
    // An empty disk in the place of a lost one is that replica again.
    std::fs::remove_dir_all(house.root(1)).unwrap();
    assert_eq!(house.upkeep.add_replicas(&[path(1)]).await.unwrap(), added[..1]);
    assert!(house.upkeep.status().await.unwrap().replicas.iter().all(|one| one.problem.is_none()));
}

#[tokio::test]
async fn a_replica_that_was_removed_stays_out_though_the_configuration_names_it() {
    let house = House::new(3, Some(2)).await;
    let locations: Vec<String> = (0..3).map(|number| root(house.folder.path(), number)).collect();
    std::fs::remove_dir_all(house.root(1)).unwrap();
    house.upkeep.remove_replica("replica1", false).await.unwrap();
    let (_, upkeep) = open(house.folder.path(), &locations, Some(2), &house.clock).await.unwrap();
    assert_eq!(upkeep.status().await.unwrap().replicas.len(), 2);
    assert!(!house.root(1).exists(), "nothing is made where no disk is mounted");
    upkeep.add_replicas(&locations[1..2]).await.unwrap();
    let (_, upkeep) = open(house.folder.path(), &locations, Some(2), &house.clock).await.unwrap();
    assert_eq!(upkeep.status().await.unwrap().replicas.len(), 3);
}

#[tokio::test]
async fn scrub_goes_on_after_a_restart_and_stops_when_told() {
    let mut house = House::new(3, None).await;
    for _ in 0..200 {
        house.push(10).await;
    }
    house.upkeep.start_scrub().await.unwrap();
    assert!(house.upkeep.scrub().await.unwrap());
    let before = house.upkeep.status().await.unwrap().scrub.unwrap();
    assert!((1..200).contains(&before.tally.objects), "{before:?}");
    let (folder, clock) = (house.folder.path().to_owned(), house.clock.clone());
    let (registry, upkeep) = open(&folder, &[], None, &clock).await.unwrap();
    (house.registry, house.upkeep) = (registry, upkeep);
    house.upkeep.stop_scrub().await.unwrap();
    assert!(!house.upkeep.scrub().await.unwrap());
    let paused = house.upkeep.status().await.unwrap().scrub.unwrap();
    assert_eq!((paused.state, &paused.position), (ScrubState::Paused, &before.position));
    house.scrub().await;
    let after = house.upkeep.status().await.unwrap().scrub.unwrap();
    assert_eq!((after.walk, after.tally.objects, after.tally.copies), (1, 200, 600));
}

#[tokio::test]
async fn objects_that_no_row_names_are_told_and_go_only_by_purge() {
    let mut house = House::new(3, None).await;
    let digest = house.push(1000).await;
    let upload = {
        let target = PushTarget::Existing(house.repository.clone());
        let algorithm = registry_types::Algorithm::Sha256;
        let new = NewUpload { target: &target, principal: ALICE, algorithm };
        let uid = house.registry.start_upload(new).await.unwrap().uid;
        let content = body(&[7; 100_000]);
        house.registry.append_upload(&house.repository, &uid, ALICE, None, content).await.unwrap();
        uid
    };
    let stray = "00".repeat(16);
    std::fs::write(object_path(&house.root(1), &stray), b"stray").unwrap();
    house.scrub().await;
    house.repair().await;
    assert_eq!(house.open_findings().await, [0, 0, 1], "an upload in progress is registered");
    let would = house.upkeep.purge(true).await.unwrap().unwrap();
    assert_eq!((would.objects, would.bytes), (1, 5));
    assert!(object_path(&house.root(1), &stray).exists());
    let purged = house.upkeep.purge(false).await.unwrap().unwrap();
    assert_eq!((purged.objects, purged.bytes), (1, 5));
    assert!(!object_path(&house.root(1), &stray).exists());
    assert_eq!(house.open_findings().await, [0, 0, 0]);
    assert!(house.read(&digest).await.is_ok());
    assert_eq!(
        house.registry.upload_status(&house.repository, &upload, ALICE).await.unwrap().offset,
        100_000
    );
    // What somebody registered meanwhile stays.
    std::fs::write(object_path(&house.root(1), &stray), b"stray").unwrap();
    house.scrub().await;
    std::fs::remove_file(object_path(&house.root(1), &stray)).unwrap();
    house.upkeep.purge(false).await.unwrap().unwrap();
    house.clock.advance(Duration::from_secs(1));
    house.everything_reads().await;
}

#[tokio::test]
async fn from_an_image_taken_before_the_shred_nothing_opens_without_the_keys_of_then() {
    let mut house = House::new(3, None).await;
    let digest = house.push(100_000).await;
    // Database and write-ahead log as they lie on the disk; content is never changed anyway.
    let image = tempfile::tempdir().unwrap();
    for name in ["berth.db", "berth.db-wal"] {
        std::fs::copy(house.folder.path().join(name), image.path().join(name)).unwrap();
    }
    house.registry.rotate_key("default").await.unwrap();
    house.registry.rewrap_keys().await.unwrap();
    house.registry.shred_keys("default").await.unwrap();
    house.everything_reads().await;

    std::fs::create_dir(image.path().join("keys")).unwrap();
    std::fs::set_permissions(image.path().join("keys"), std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(house.folder.path().join("keys")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), image.path().join("keys").join(entry.file_name())).unwrap();
    }
    assert!(open(image.path(), &[], None, &house.clock).await.is_err(), "the key of then is gone");
    LocalKeys::open(&image.path().join("keys")).unwrap().create("default", 1).unwrap();
    let (registry, _upkeep) = open(image.path(), &[], None, &house.clock).await.unwrap();
    house.registry = registry;
    let read = house.read(&digest).await;
    assert!(read.is_err(), "an image of before gave {} bytes", read.unwrap().len());
}

#[tokio::test]
async fn a_replica_that_is_away_holds_up_no_collection_and_deletes_its_copies_later() {
    let mut house = House::new(3, None).await;
    let digest = house.push(100_000).await;
    let kept = house.push(1000).await;
    let away = house.folder.path().join("away");
    std::fs::rename(house.root(2), &away).unwrap();
    house.registry.delete_blob(&house.repository, &digest).await.unwrap();
    house.pushed.remove(&digest);
    // The key is condemned, then has its grace.
    assert_eq!(house.registry.collect_garbage().await.unwrap(), 0);
    house.clock.advance(Duration::from_secs(25 * 3600));
    house.registry.blob_info(&house.repository, &kept).await.unwrap();
    assert_eq!(house.registry.collect_garbage().await.unwrap(), 1);
    assert_eq!((house.objects(0).len(), house.objects(1).len()), (1, 1));
    assert!(!house.upkeep.repair().await.unwrap(), "nothing can be done while it is away");
    assert_eq!(house.removals().await, [0, 0, 1]);

    std::fs::rename(&away, house.root(2)).unwrap();
    assert_eq!(house.objects(2).len(), 2);
    house.scrub().await;
    assert_eq!(house.open_findings().await, [0, 0, 0], "what waits for its removal is known");
    house.upkeep.repair().await.unwrap();
    assert_eq!(house.objects(2), house.objects(0));
    assert_eq!(house.removals().await, [0, 0, 0]);
    house.everything_reads().await;
    assert_eq!(house.registry.collect_garbage().await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_server_left_half_done_is_soon_taken_by_the_next() {
    let mut house = House::new(3, None).await;
    house.push(100_000).await;
    let metadata = house.registry.inner.metadata.clone();
    let away = house.folder.path().join("away");
    std::fs::rename(house.root(2), &away).unwrap();
    house.push(1000).await;
    std::fs::rename(&away, house.root(2)).unwrap();
    house.upkeep.start_scrub().await.unwrap();
    let now_ms = house.registry.now_ms();
    let (walk, repairs) = metadata
        .write(move |tx| {
            let walk = scrubs::take(tx, now_ms, now_ms + TAKEN_FOR_MS)?.expect("a walk runs");
            let repairs = repairs::take(tx, "replica2", now_ms, now_ms + TAKEN_FOR_MS, 16)?;
            Ok::<_, CoreError>((walk, repairs))
        })
        .await
        .unwrap();
    assert_eq!(repairs.len(), 1);

    // It works on.
    house.clock.advance(Duration::from_millis(TAKEN_FOR_MS as u64 - 1));
    let until_ms = house.registry.now_ms() + TAKEN_FOR_MS;
    metadata
        .write(move |tx| {
            scrubs::renew(tx, &walk, until_ms)?;
            Ok::<_, CoreError>(repairs::renew(tx, &repairs, until_ms)?)
        })
        .await
        .unwrap();
    house.clock.advance(Duration::from_millis(TAKEN_FOR_MS as u64 - 1));
    assert!(!house.upkeep.scrub().await.unwrap() && !house.upkeep.repair().await.unwrap());
    assert_eq!((house.objects(2).len(), house.scrub_state().await), (1, ScrubState::Running));

    // It ended.
    house.clock.advance(Duration::from_millis(1));
    house.upkeep.repair().await.unwrap();
    assert_eq!(house.objects(2), house.objects(0));
    house.upkeep.scrub().await.unwrap();
    assert_eq!(house.scrub_state().await, ScrubState::Finished);
}

#[tokio::test(start_paused = true)]
async fn work_is_taken_anew_for_as_long_as_it_goes_on() {
    let taken = AtomicUsize::new(0);
    let work = async {
        tokio::time::sleep(RENEWED_EACH * 3 + RENEWED_EACH / 2).await;
        "done"
    };
    let renew = || {
        taken.fetch_add(1, Ordering::Relaxed);
        async { Err(CoreError::internal("a database that is away ends no work")) }
    };
    assert_eq!(renewing(work, renew).await, "done");
    assert_eq!(taken.load(Ordering::Relaxed), 3);
}
