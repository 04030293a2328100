//! Many pushes, pulls, deletions and the collector at once: whatever is visible can be read, byte for byte.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_types::{Digest, MediaType, Reference};
use serde_json::json;

use super::support::{ALICE, World, sha256};
use crate::{CoreError, ManifestPush, PushTarget, RegistryConfig, Repository};

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
        principal: ALICE,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_visible_can_be_read_while_everything_moves() {
    // Objects go at once: readers that are overtaken must find the object in its place.
    let config = RegistryConfig { garbage_drain_ms: 0, gc_grace_ms: 0, ..RegistryConfig::default() };
    let world = Arc::new(World::new(config).await);
    let repository = world.repository("app").await;
    for n in 0..6 {
        push(&world, &repository, n).await.unwrap();
    }
    let mut tasks = Vec::new();
    for worker in 0..6usize {
        let (world, repository) = (Arc::clone(&world), repository.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..25usize {
                let n = worker * 7 + round;
                world.clock.advance(Duration::from_millis(1));
                let result = match worker {
                    0 | 1 => push(&world, &repository, n).await,
                    2 | 3 => pull(&world, &repository, n).await,
                    4 => forget(&world, &repository, n).await,
                    _ => world.registry.collect_garbage().await.map(drop),
                };
                match result {
                    // Without any grace the collector may take a layer before its manifest comes.
                    Ok(()) | Err(CoreError::ContentsMissing(_)) => {}
                    // Deleted a moment before.
                    Err(CoreError::ManifestNotFound | CoreError::BlobNotFound) => {}
                    Err(error) => panic!("worker {worker}, round {round}: {error}: {error:?}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Everything that is still visible is whole, and the store holds nothing else for long.
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..4 {
        world.registry.collect_garbage().await.unwrap();
    }
    let mut needed = BTreeSet::new();
    for image in world.registry.images(&repository, "", 100).await.unwrap().items {
        let reference = Reference::Digest(image.manifest.digest);
        needed.extend(read_image(&world, &repository, &reference).await.unwrap());
    }
    assert_eq!(world.objects().await.len(), needed.len());
}
