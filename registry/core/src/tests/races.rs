//! Many pushes, pulls, deletions and the collector at once: whatever is visible can be read, byte for byte.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry_blob::{BlobStore, ContentStore, FsStore, ReplicaId, Replicated};
use registry_metadata::Metadata;
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::Database;
use registry_types::{Digest, MediaType, Reference};
use serde_json::json;
use test_support::Postgres;

use super::support::{World, sha256};
use crate::{CoreError, ManifestPush, PushTarget, Registry, RegistryConfig, Repository};

/// The content of layer `n`: several records long.
fn layer(n: usize) -> Vec<u8> {
    (0..150_000 + n).map(|i| (i * (n + 3) % 251) as u8).collect()
}

/// Pushes an image of two layers and tags it.
async fn push(world: &World, repository: &Repository, n: usize) -> Result<(), CoreError> {
    let layers = [layer(n % 4), layer(n % 3)];
    let config = world.push(repository, b"{}").await?;
    let mut descriptors = Vec::new();
    for layer in &layers {
        let digest = world.push(repository, layer).await?;
        descriptors.push(json!({ "mediaType": "application/x", "digest": digest, "size": layer.len() }));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/x", "digest": config, "size": 2 },
        "layers": descriptors,
    });
    let push = ManifestPush {
        target: &PushTarget::Existing(repository.clone()),
        reference: format!("t{}", n % 2).parse().unwrap(),
        tags: Vec::new(),
        content_type: MediaType::OCI_MANIFEST,
        bytes: Bytes::from(manifest.to_string()),
    };
    world.registry.put_manifest(push).await.map(drop)
}

/// Reads the image of a tag, with everything that its manifest names.
async fn pull(world: &World, repository: &Repository, n: usize) -> Result<(), CoreError> {
    read_image(world, repository, &format!("t{}", n % 2).parse().unwrap()).await.map(drop)
}

/// Reads an image; the digests of all its content.
async fn read_image(
    world: &World,
    repository: &Repository,
    reference: &Reference,
) -> Result<Vec<Digest>, CoreError> {
    let manifest = world.registry.manifest(repository, reference).await?;
    assert_eq!(sha256(&manifest.bytes), manifest.digest);
    let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let mut digests = vec![manifest.digest];
    let layers = document["layers"].as_array().unwrap();
    for content in layers.iter().chain([&document["config"]]) {
        let digest: Digest = content["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(sha256(&world.read(repository, &digest).await?), digest);
        digests.push(digest);
    }
    Ok(digests)
}

/// Deletes some image that no tag points at.
async fn forget(world: &World, repository: &Repository, n: usize) -> Result<(), CoreError> {
    let images = world.registry.images(repository, "", 100).await?.items;
    let untagged: Vec<_> = images.iter().filter(|image| image.tags.is_empty()).collect();
    let Some(image) = untagged.get(n % untagged.len().max(1)) else { return Ok(()) };
    world.registry.delete_manifest(repository, &image.manifest.digest).await.map(drop)
}

/// One turn of a worker of that number.
async fn turn(world: &World, repository: &Repository, worker: usize, n: usize) {
    world.clock.advance(Duration::from_millis(1));
    let result = match worker {
        0 | 1 => push(world, repository, n).await,
        2 | 3 => pull(world, repository, n).await,
        4 => forget(world, repository, n).await,
        _ => world.registry.collect_garbage().await.map(drop),
    };
    match result {
        // Without any grace the collector may take a layer before its manifest comes.
        Ok(()) | Err(CoreError::ContentsMissing(_)) => {}
        // Deleted a moment before.
        Err(CoreError::ManifestNotFound | CoreError::BlobNotFound) => {}
        Err(error) => panic!("worker {worker}, turn {n}: {error}: {error:?}"),
    }
}

/// Everything that is still visible, which is whole; whatever else there was is collected.
async fn needed(world: &World, repository: &Repository) -> BTreeSet<Digest> {
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..4 {
        world.registry.collect_garbage().await.unwrap();
    }
    let mut needed = BTreeSet::new();
    for image in world.registry.images(repository, "", 100).await.unwrap().items {
        let reference = Reference::Digest(image.manifest.digest);
        needed.extend(read_image(world, repository, &reference).await.unwrap());
    }
    needed
}

/// Objects go at once: readers that are overtaken must find the object in its place.
fn without_grace() -> RegistryConfig {
    RegistryConfig { garbage_drain_ms: 0, gc_grace_ms: 0, ..RegistryConfig::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_visible_can_be_read_while_everything_moves() {
    let world = Arc::new(World::new(without_grace()).await);
    let repository = world.repository("app").await;
    for n in 0..6 {
        push(&world, &repository, n).await.unwrap();
    }
    let mut tasks = Vec::new();
    for worker in 0..6usize {
        let (world, repository) = (Arc::clone(&world), repository.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..25usize {
                turn(&world, &repository, worker, worker * 7 + round).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let needed = needed(&world, &repository).await;
    assert_eq!(world.objects().await.len(), needed.len());
}

/// Two servers, each with connections of its own to one PostgreSQL, over one folder: both push, pull, delete and
/// collect for so long.
async fn two_servers_collect(lasting: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let (place, root) = (Postgres::shared().database(), folder.path().join("content"));
    let id = ReplicaId::new("files");
    std::fs::create_dir(&root).unwrap();
    FsStore::initialize(&root, "two-servers", &id).unwrap();
    let keys = Arc::new(LocalKeys::open(&folder.path().join("keys")).unwrap());
    let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
    let clock = Clock::manual(1_000_000);
    let mut worlds = Vec::new();
    for seed in [5, 6] {
        let metadata = Metadata::open(Database::open_rerunning(&place, seed).await.unwrap()).await.unwrap();
        let store = Arc::new(FsStore::open(&root, "two-servers", &id));
        let content = ContentStore::new(Replicated::single(id.clone(), store), Arc::clone(&keys) as _);
        let (sealer, clock) = (Arc::clone(&sealer), clock.clone());
        let opened = Registry::open(metadata, content, sealer, clock.clone(), without_grace()).await;
        worlds.push(Arc::new(World::of(opened.unwrap(), &clock)));
    }
    let repository = worlds[0].repository("app").await;
    for n in 0..6 {
        push(&worlds[0], &repository, n).await.unwrap();
    }
    let end = Instant::now() + lasting;
    let mut tasks = Vec::new();
    for (world, worker) in worlds.iter().flat_map(|world| (0..6usize).map(move |worker| (world, worker))) {
        let (world, repository) = (Arc::clone(world), repository.clone());
        tasks.push(tokio::spawn(async move {
            let mut n = worker * 7;
            while Instant::now() < end {
                turn(&world, &repository, worker, n).await;
                n += 1;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let needed = needed(&worlds[1], &repository).await;
    let store = FsStore::open(&root, "two-servers", &id);
    assert_eq!(store.list(None, 1000).await.unwrap().len(), needed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_collect_over_one_database() {
    two_servers_collect(Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a minute"]
async fn two_servers_collect_over_one_database_for_a_minute() {
    two_servers_collect(Duration::from_secs(60)).await;
}
