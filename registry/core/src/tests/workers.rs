//! What nobody waits for gets done, and nothing that is alive is touched.

use bytes::Bytes;
use registry_sql::params;
use registry_types::Reference;

use super::support::{ALICE, World, body, sha256};
use crate::{CoreError, ManifestPush, PushTarget, RegistryConfig};

fn config() -> RegistryConfig {
    RegistryConfig { garbage_drain_ms: 0, ..RegistryConfig::default() }
}

#[tokio::test]
async fn forgotten_uploads_and_their_objects_go() {
    let world = World::new(config()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    let big = vec![1; 200_000];
    world.registry.append_upload(&repository, &upload, ALICE, None, body(&big)).await.unwrap();
    assert_eq!(world.registry.expire_uploads().await.unwrap(), 0);
    assert_eq!(world.objects().await.len(), 1);
    world.clock.advance(std::time::Duration::from_secs(8 * 24 * 3600));
    // Reservations go as well.
    assert!(world.registry.expire_uploads().await.unwrap() > 0);
    assert!(matches!(
        world.registry.upload_status(&repository, &upload, ALICE).await,
        Err(CoreError::UploadNotFound)
    ));
    assert!(world.registry.collect_garbage().await.unwrap() > 0);
    assert!(world.objects().await.is_empty());
    assert_eq!(world.registry.collect_garbage().await.unwrap(), 0);
}

#[tokio::test]
async fn a_replaced_object_goes_and_the_one_in_its_place_stays() {
    let world = World::new(config()).await;
    let repository = world.repository("app").await;
    let digest = world.push(&repository, b"content").await.unwrap();
    world.push(&repository, b"content").await.unwrap();
    assert_eq!(world.objects().await.len(), 2);
    while world.registry.collect_garbage().await.unwrap() > 0 {}
    assert_eq!(world.objects().await.len(), 1);
    assert_eq!(world.read(&repository, &digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn condemned_objects_drain_before_they_go() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    world.push(&repository, b"content").await.unwrap();
    world.push(&repository, b"content").await.unwrap();
    assert_eq!(world.registry.collect_garbage().await.unwrap(), 0);
    assert_eq!(world.objects().await.len(), 2);
}

#[tokio::test]
async fn content_with_a_wrong_digest_leaves_nothing_behind() {
    let world = World::new(config()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    let wrong = sha256(b"other");
    let big = vec![1; 200_000];
    let refused = world.registry.finish_upload(&repository, &upload, ALICE, None, body(&big), &wrong).await;
    assert!(matches!(refused, Err(CoreError::DigestMismatch { .. })));
    while world.registry.collect_garbage().await.unwrap() > 0 {}
    assert!(world.objects().await.is_empty());
}

#[tokio::test]
async fn the_rows_of_a_deleted_repository_go_in_batches() {
    let world = World::new(config()).await;
    let repository = world.repository("app").await;
    for i in 0..3u8 {
        world.push(&repository, &[i]).await.unwrap();
    }
    world.registry.delete_repository(&repository.uid, true).await.unwrap();
    let mut batches = 0;
    while world.registry.purge_deleted_repositories().await.unwrap() {
        batches += 1;
        assert!(batches < 20);
    }
    assert!(batches >= 2);
}

#[tokio::test]
async fn objects_that_were_reserved_and_never_taken_run_out() {
    let world = World::new(config()).await;
    let repository = world.repository("app").await;
    let target = PushTarget::Existing(repository.clone());
    let push = || ManifestPush {
        target: &target,
        reference: Reference::Tag("v1".parse().unwrap()),
        tags: Vec::new(),
        content_type: "application/vnd.oci.image.index.v1+json",
        bytes: Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#),
    };
    world.registry.put_manifest(push()).await.unwrap();
    assert_eq!(world.registry.expire_uploads().await.unwrap(), 0);
    world.clock.advance(std::time::Duration::from_secs(8 * 24 * 3600));
    assert!(world.registry.expire_uploads().await.unwrap() > 0);
    assert_eq!(world.registry.expire_uploads().await.unwrap(), 0);
    while world.registry.collect_garbage().await.unwrap() > 0 {}
    assert_eq!(world.objects().await.len(), 1);

    // What this process still had of them is not used any more.
    let other =
        ManifestPush { bytes: Bytes::from_static(br#"{"schemaVersion":2,"manifests":[] }"#), ..push() };
    assert!(world.registry.put_manifest(other).await.unwrap().created);
    assert_eq!(world.objects().await.len(), 2);

    // Nor after a sleep of the machine, of which its monotonic clock knows nothing.
    world.clock.jump(8 * 24 * 3_600_000);
    assert!(world.registry.expire_uploads().await.unwrap() > 0);
    let digest = world.push(&repository, b"content").await.unwrap();
    assert_eq!(world.read(&repository, &digest).await.unwrap(), b"content");
}

/// Objects that are registered and not taken.
async fn reserved(world: &World) -> i64 {
    let count = world.registry.inner.metadata.read(|tx| {
        let row = tx.query_one("SELECT COUNT(*) FROM reserved_objects", params![])?;
        row.get(0)
    });
    count.await.unwrap()
}

#[tokio::test]
async fn an_upload_that_is_refused_uses_up_no_object() {
    let world = World::new(config()).await;
    let repository = world.repository("app").await;
    world.push(&repository, b"content").await.unwrap();
    let before = reserved(&world).await;
    world.registry.delete_repository(&repository.uid, true).await.unwrap();
    for _ in 0..40 {
        let refused = world.push(&repository, b"content").await;
        assert!(matches!(refused, Err(CoreError::RepositoryNotFound)));
    }
    assert_eq!(reserved(&world).await, before);
}
