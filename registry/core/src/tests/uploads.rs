//! Leases: one writer at a time, and none that was overtaken.

use bytes::Bytes;
use futures_util::stream;

use super::support::{ALICE, World, body, sha256};
use crate::{Body, CoreError, RegistryConfig};

/// A body that never ends.
fn endless() -> Body {
    Box::pin(stream::pending())
}

#[tokio::test]
async fn a_dropped_request_gives_its_hold_back() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    let dropped = world.registry.append_upload(&repository, &upload, ALICE, None, endless());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), dropped).await.is_err());
    for _ in 0..200 {
        match world.registry.append_upload(&repository, &upload, ALICE, None, body(b"x")).await {
            Ok(status) => return assert_eq!(status.offset, 1),
            Err(CoreError::UploadBusy) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the upload stays held");
}

#[tokio::test]
async fn a_writer_that_stalls_past_its_lease_changes_nothing_when_it_wakes_up() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    let (wake, asleep) = tokio::sync::oneshot::channel();
    let (held, holding) = tokio::sync::oneshot::channel();
    // The body is asked for its first bytes once the upload is held.
    let stalled: Body = Box::pin(stream::once(async move {
        held.send(()).unwrap();
        let _ = asleep.await;
        Ok(Bytes::from_static(b"stale"))
    }));
    let registry = world.registry.clone();
    let first = tokio::spawn({
        let (repository, upload) = (repository.clone(), upload.clone());
        async move { registry.append_upload(&repository, &upload, ALICE, None, stalled).await }
    });
    holding.await.unwrap();
    let early = world.registry.append_upload(&repository, &upload, ALICE, None, body(b"early")).await;
    assert!(matches!(early, Err(CoreError::UploadBusy)));
    let cancelled = world.registry.cancel_upload(&repository, &upload, ALICE).await;
    assert!(matches!(cancelled, Err(CoreError::UploadBusy)));
    world.clock.advance(std::time::Duration::from_secs(16));
    let second = world.registry.append_upload(&repository, &upload, ALICE, None, body(b"fresh")).await;
    assert_eq!(second.unwrap().offset, 5);
    wake.send(()).unwrap();
    assert!(matches!(first.await.unwrap(), Err(CoreError::UploadBusy)));
    let digest = sha256(b"fresh");
    let finished = world.registry.finish_upload(&repository, &upload, ALICE, None, body(b""), &digest).await;
    assert_eq!(finished.unwrap().size, 5);
    assert_eq!(world.read(&repository, &digest).await.unwrap(), b"fresh");
}

#[tokio::test]
async fn what_a_dead_server_held_is_free_once_the_next_has_started() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    world.registry.append_upload(&repository, &upload, ALICE, None, body(b"whole")).await.unwrap();
    let (held, holding) = tokio::sync::oneshot::channel();
    let dying: Body = Box::pin(stream::once(async move {
        held.send(()).unwrap();
        std::future::pending().await
    }));
    let registry = world.registry.clone();
    let dead = tokio::spawn({
        let (repository, upload) = (repository.clone(), upload.clone());
        async move { registry.append_upload(&repository, &upload, ALICE, None, dying).await }
    });
    holding.await.unwrap();
    let early = world.registry.append_upload(&repository, &upload, ALICE, None, body(b"!")).await;
    assert!(matches!(early, Err(CoreError::UploadBusy)));
    world.registry.end_upload_holds().await.unwrap();
    let status = world.registry.append_upload(&repository, &upload, ALICE, None, body(b"!")).await;
    assert_eq!(status.unwrap().offset, 6);
    dead.abort();
}

#[tokio::test]
async fn an_upload_of_a_deleted_repository_ends_with_not_found() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    world.registry.delete_repository(&repository.uid, false).await.unwrap();
    let again = world.repository("app").await;
    let digest = sha256(b"x");
    let finished = world.registry.finish_upload(&repository, &upload, ALICE, None, body(b"x"), &digest).await;
    assert!(matches!(finished, Err(CoreError::RepositoryNotFound)));
    let elsewhere = world.registry.upload_status(&again, &upload, ALICE).await;
    assert!(matches!(elsewhere, Err(CoreError::UploadNotFound)));
    assert!(matches!(world.read(&again, &digest).await, Err(CoreError::BlobNotFound)));
}

#[tokio::test]
async fn uploads_of_other_principals_do_not_exist() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let upload = world.begin(&repository).await;
    let mallory = world.registry.upload_status(&repository, &upload, "AIDAMALLORY").await;
    assert!(matches!(mallory, Err(CoreError::UploadNotFound)));
    assert!(world.registry.upload_status(&repository, &upload, ALICE).await.is_ok());
}
