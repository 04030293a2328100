//! The collector takes what nothing names, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use registry_types::{Digest, MediaType};
use serde_json::json;

use super::support::World;
use crate::{CoreError, ManifestPush, Mount, PushTarget, RegistryConfig, Repository};

async fn without_grace() -> World {
    World::new(RegistryConfig { garbage_drain_ms: 0, gc_grace_ms: 0, ..RegistryConfig::default() }).await
}

async fn collect(world: &World) {
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..4 {
        world.registry.collect_garbage().await.unwrap();
    }
}

async fn push_image(
    world: &World,
    repository: &Repository,
    tag: &str,
    layer: &Digest,
    size: usize,
) -> Digest {
    let config = world.push(repository, b"{}").await.unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/x", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/x", "digest": layer, "size": size }],
    });
    let push = ManifestPush {
        target: &PushTarget::Existing(repository.clone()),
        reference: tag.parse().unwrap(),
        tags: Vec::new(),
        content_type: MediaType::OCI_MANIFEST,
        bytes: Bytes::from(manifest.to_string()),
    };
    world.registry.put_manifest(push).await.unwrap().digest
}

#[tokio::test]
async fn a_blob_without_a_manifest_goes_with_its_link_and_key() {
    let world = without_grace().await;
    let repository = world.repository("app").await;
    let digest = world.push(&repository, b"nobody needs this").await.unwrap();
    collect(&world).await;
    assert!(matches!(world.read(&repository, &digest).await, Err(CoreError::BlobNotFound)));
    assert!(world.objects().await.is_empty());
    world.push(&repository, b"nobody needs this").await.unwrap();
    assert_eq!(world.read(&repository, &digest).await.unwrap(), b"nobody needs this");
}

#[tokio::test]
async fn what_a_manifest_names_stays_until_the_manifest_goes() {
    let world = without_grace().await;
    let repository = world.repository("app").await;
    let layer = world.push(&repository, b"layer").await.unwrap();
    let image = push_image(&world, &repository, "v1", &layer, 5).await;
    collect(&world).await;
    assert_eq!(world.read(&repository, &layer).await.unwrap(), b"layer");
    assert_eq!(world.objects().await.len(), 3);
    world.registry.delete_manifest(&repository, &image).await.unwrap();
    collect(&world).await;
    assert!(matches!(world.read(&repository, &layer).await, Err(CoreError::BlobNotFound)));
    assert!(world.objects().await.is_empty());
}

#[tokio::test]
async fn a_blob_that_another_repository_needs_keeps_its_object() {
    let world = without_grace().await;
    let (one, two) = (world.repository("one").await, world.repository("two").await);
    let layer = world.push(&one, b"layer").await.unwrap();
    let first = push_image(&world, &one, "v1", &layer, 5).await;
    let target = PushTarget::Existing(two.clone());
    assert!(matches!(world.registry.mount_blob(&target, &one, &layer).await.unwrap(), Mount::Mounted(_)));
    push_image(&world, &two, "v1", &layer, 5).await;
    world.registry.delete_manifest(&one, &first).await.unwrap();
    collect(&world).await;
    assert!(matches!(world.read(&one, &layer).await, Err(CoreError::BlobNotFound)));
    assert_eq!(world.read(&two, &layer).await.unwrap(), b"layer");
}

#[tokio::test]
async fn a_link_that_was_deleted_leaves_the_content_to_the_manifest_that_names_it() {
    let world = without_grace().await;
    let repository = world.repository("app").await;
    let layer = world.push(&repository, b"layer").await.unwrap();
    push_image(&world, &repository, "v1", &layer, 5).await;
    world.registry.delete_blob(&repository, &layer).await.unwrap();
    collect(&world).await;
    assert_eq!(world.objects().await.len(), 3);
}

#[tokio::test]
async fn a_deleted_repository_gives_its_content_back() {
    let world = without_grace().await;
    let repository = world.repository("app").await;
    let layer = world.push(&repository, b"layer").await.unwrap();
    push_image(&world, &repository, "v1", &layer, 5).await;
    world.registry.delete_repository(&repository.uid, true).await.unwrap();
    while world.registry.purge_deleted_repositories().await.unwrap() {}
    collect(&world).await;
    assert!(world.objects().await.is_empty());
}

#[tokio::test]
async fn a_fresh_blob_has_its_grace_and_a_look_at_it_begins_the_grace_anew() {
    let world = World::new(RegistryConfig { garbage_drain_ms: 0, ..RegistryConfig::default() }).await;
    let repository = world.repository("app").await;
    let digest = world.push(&repository, b"waiting for its manifest").await.unwrap();
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(23 * 3600));
        collect(&world).await;
        assert!(world.registry.blob_info(&repository, &digest).await.is_ok());
    }
    world.clock.advance(Duration::from_secs(25 * 3600));
    collect(&world).await;
    assert!(matches!(world.registry.blob_info(&repository, &digest).await, Err(CoreError::BlobNotFound)));
    // Its key waits for a second grace, which no wall clock can shorten.
    assert_eq!(world.objects().await.len(), 1);
}

#[tokio::test]
async fn a_collection_looks_at_what_has_died_and_at_nothing_that_lives() {
    const IMAGES: usize = 60;
    const DEAD: usize = 3;
    let world = World::new(RegistryConfig { garbage_drain_ms: 0, ..RegistryConfig::default() }).await;
    let repository = world.repository("app").await;
    let mut images = Vec::new();
    for at in 0..IMAGES {
        let layer = format!("layer {at}");
        let digest = world.push(&repository, layer.as_bytes()).await.unwrap();
        images.push(push_image(&world, &repository, &format!("v{at}"), &digest, layer.len()).await);
    }
    let activity = world.registry.activity();
    world.clock.advance(Duration::from_secs(23 * 3600));
    world.registry.collect_garbage().await.unwrap();
    // Past the grace of everything, and the walk is not due again.
    let walked = activity.collector_walked.get();
    assert!(walked as usize >= 2 * IMAGES, "a new walk begins at once: {walked}");
    world.clock.advance(Duration::from_millis(3_600_001));
    assert_eq!(world.registry.collect_garbage().await.unwrap(), 0);
    assert_eq!(activity.collector_examined.get(), 0, "nothing has died");
    for image in &images[..DEAD] {
        world.registry.delete_manifest(&repository, image).await.unwrap();
    }
    let mut deleted = 0;
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(1800));
        deleted += world.registry.collect_garbage().await.unwrap();
    }
    let examined = activity.collector_examined.get();
    // The manifest, its layer and the configuration that all images share, each in a few steps.
    assert!((2 * DEAD as u64..=8 * DEAD as u64).contains(&examined), "{examined}");
    assert_eq!(activity.collector_walked.get(), walked);
    assert_eq!(deleted, 0, "their keys have a grace");
    world.clock.advance(Duration::from_secs(23 * 3600));
    for _ in 0..2 {
        deleted += world.registry.collect_garbage().await.unwrap();
    }
    assert_eq!(deleted, 2 * DEAD);
    assert_eq!(world.objects().await.len(), 2 * (IMAGES - DEAD) + 1);
}

#[tokio::test]
async fn what_an_older_release_left_is_found_by_the_walk() {
    let world = without_grace().await;
    let repository = world.repository("app").await;
    let layer = world.push(&repository, b"layer").await.unwrap();
    push_image(&world, &repository, "v1", &layer, 5).await;
    world.push(&repository, b"nobody needs this").await.unwrap();
    let unlinked = world.push(&repository, b"nor this").await.unwrap();
    let uid = repository.uid.clone();
    let forget = world.registry.inner.metadata.write(move |tx| {
        registry_metadata::blobs::delete_link(tx, &uid, &unlinked, 0)?;
        tx.execute("UPDATE blob_links SET is_candidate = 0", registry_sql::params![])?;
        tx.execute("DELETE FROM unnamed_digests", registry_sql::params![])?;
        Ok::<_, CoreError>(())
    });
    forget.await.unwrap();
    collect(&world).await;
    assert_eq!(world.objects().await.len(), 3);
    assert_eq!(world.read(&repository, &layer).await.unwrap(), b"layer");
}
