use registry_types::Algorithm;

use super::{World, domain, uid};
use crate::uploads::{self, Progress};
use crate::{UploadRow, UploadUid};

fn upload(text: &str) -> UploadRow {
    UploadRow {
        uid: UploadUid::new(text),
        repository: uid("r"),
        domain: domain(),
        principal: "p".to_owned(),
        algorithm: Algorithm::Sha256,
        lease: 0,
        lease_expires_at_ms: 0,
        offset: 0,
        file_id: None,
        sealed_state: None,
        sealed_epoch: 0,
        sealed_lease: 0,
        updated_at_ms: 100,
    }
}

async fn read(world: &World) -> UploadRow {
    world.write(|tx| uploads::by_uid(tx, &UploadUid::new("u"))).await.unwrap()
}

async fn take(world: &World, seen: UploadRow, now_ms: i64) -> Option<i64> {
    world.write(move |tx| uploads::take_lease(tx, &seen, Some(&[7; 16]), now_ms, now_ms + 15)).await
}

async fn save(world: &World, lease: i64, offset_before: i64, offset: i64) -> bool {
    world
        .write(move |tx| {
            let progress = Progress { lease, offset_before, offset, sealed_state: b"state", sealed_epoch: 1 };
            uploads::save(tx, &UploadUid::new("u"), &progress, 200)
        })
        .await
}

#[tokio::test]
async fn a_lease_is_taken_once_until_it_runs_out() {
    let world = World::new().await;
    world.write(|tx| uploads::insert(tx, &upload("u"))).await;
    let seen = read(&world).await;
    assert_eq!(seen, upload("u"));
    assert_eq!(take(&world, seen.clone(), 1000).await, Some(1));
    assert_eq!(take(&world, seen, 1000).await, None);
    let seen = read(&world).await;
    assert_eq!((seen.lease, seen.lease_expires_at_ms, seen.file_id), (1, 1015, Some([7; 16])));
    assert_eq!(take(&world, seen.clone(), 1014).await, None);
    assert_eq!(take(&world, seen, 1015).await, Some(2));
}

#[tokio::test]
async fn only_the_holder_moves_an_upload() {
    let world = World::new().await;
    world.write(|tx| uploads::insert(tx, &upload("u"))).await;
    take(&world, read(&world).await, 1000).await.unwrap();
    take(&world, read(&world).await, 2000).await.unwrap();
    assert!(!save(&world, 1, 0, 10).await, "overtaken");
    assert!(!save(&world, 2, 5, 10).await, "another offset");
    assert!(!world.write(|tx| uploads::renew_lease(tx, &UploadUid::new("u"), 1, 9000)).await);
    assert!(!world.write(|tx| uploads::delete(tx, &UploadUid::new("u"), 1)).await);
    assert!(save(&world, 2, 0, 10).await);
    let saved = read(&world).await;
    assert_eq!((saved.offset, saved.sealed_lease, saved.sealed_epoch), (10, 2, 1));
    assert_eq!((saved.lease_expires_at_ms, saved.updated_at_ms), (0, 200));
    assert_eq!(saved.sealed_state.as_deref(), Some(b"state".as_slice()));
    assert!(world.write(|tx| uploads::delete(tx, &UploadUid::new("u"), 2)).await);
}

#[tokio::test]
async fn only_forgotten_uploads_expire() {
    let world = World::new().await;
    for (text, updated_at_ms, lease_expires_at_ms) in [("old", 100, 0), ("held", 100, 5000), ("new", 900, 0)]
    {
        let row = UploadRow { updated_at_ms, lease_expires_at_ms, ..upload(text) };
        world.write(move |tx| uploads::insert(tx, &row)).await;
    }
    let expired = world.write(|tx| uploads::expired(tx, 500, 1000, 10)).await;
    let uids: Vec<&str> = expired.iter().map(|row| row.uid.as_str()).collect();
    assert_eq!(uids, ["old"]);
}
