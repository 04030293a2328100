//! Uploads under way: no request waits for a sync but the one that ends them, and a power cut leaves nothing of them that
//! is wrong, or that nothing names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use registry_core::{Body, BodyError, CoreError, NewRepository, NewUpload, UploadUid};
use registry_runtime::Clock;
use registry_types::Algorithm;

use crate::disk::{Disk, Fault, Picture};
use crate::world::{ALICE, DATABASE, Shape, World, body, layer, sha256};

const LOG: &str = "berth.db-wal";
/// Where the pieces of a content end.
const PIECES: [usize; 2] = [150_000, 300_000];

/// Five records or so.
fn content() -> Vec<u8> {
    layer("a session").repeat(5)
}

async fn begin(world: &World) -> UploadUid {
    let target = world.target();
    let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
    world.registry.start_upload(new).await.unwrap().uid
}

async fn append(world: &World, upload: &UploadUid, body: Body) -> u64 {
    let appended = world.registry.append_upload(&world.repository, upload, ALICE, None, body);
    appended.await.unwrap().offset
}

async fn finish(world: &World, upload: &UploadUid, rest: &[u8]) -> Result<(), CoreError> {
    let (repository, digest) = (&world.repository, sha256(&content()));
    world.registry.finish_upload(repository, upload, ALICE, None, body(rest), &digest).await.map(drop)
}

/// A change that is durable once it is acknowledged, of something else.
async fn durable(world: &World) -> Result<(), CoreError> {
    let name = "other".parse().unwrap();
    world.registry.create_repository(&name, NewRepository::default()).await.map(drop)
}

/// A client goes on with an upload on the server that comes next. Whether it still could; the blob is right then.
async fn goes_on(world: &World, upload: &UploadUid, told: &str) -> bool {
    let status = match world.registry.upload_status(&world.repository, upload, ALICE).await {
        Ok(status) => status,
        Err(CoreError::UploadNotFound) => return false,
        Err(error) => panic!("{told}: {error}: {error:?}"),
    };
    let offset = usize::try_from(status.offset).unwrap();
    let finished = finish(world, upload, &content()[offset..]).await;
    assert_eq!(world.holds(&content()).await, finished.is_ok(), "{told}");
    match finished {
        Ok(()) => true,
        Err(CoreError::UploadNotFound) => {
            let again = finish(world, upload, &content()[offset..]).await;
            assert!(matches!(again, Err(CoreError::UploadNotFound)), "{told}: {again:?}");
            false
        }
        Err(error) => panic!("{told}: {error}: {error:?}"),
    }
}

/// A server starts on a disk, and the client goes on. Whether it could; if not, it can begin anew.
async fn starts_on(disk: Disk, clock: Clock, upload: &UploadUid, told: &str) -> bool {
    let world = World::open(Shape::One, Arc::new(disk), clock).await.unwrap();
    // Whoever held the upload is gone.
    world.clock.advance(Duration::from_secs(60));
    let could = goes_on(&world, upload, told).await;
    if !could {
        world.push(&content()).await.unwrap();
        assert!(world.holds(&content()).await, "{told}");
    }
    world.keeps().await;
    world.tidy().await;
    world.has_nothing_left_over().await;
    could
}

#[tokio::test]
async fn a_push_waits_for_one_sync_of_the_log() {
    let world = World::new(Shape::One).await;
    let content = content();
    let syncs = || world.disk.syncs(LOG);
    let before = syncs();
    let upload = begin(&world).await;
    append(&world, &upload, body(&content[..PIECES[0]])).await;
    append(&world, &upload, body(&content[PIECES[0]..PIECES[1]])).await;
    assert_eq!(syncs(), before);
    finish(&world, &upload, &content[PIECES[1]..]).await.unwrap();
    assert_eq!(syncs(), before + 1);
    world.push(&layer("another")).await.unwrap();
    assert_eq!(syncs(), before + 2);
    for round in 0..32 {
        world.push(&layer(&round.to_string())).await.unwrap();
    }
    assert_eq!(syncs(), before + 2 + 32 + 2, "sixteen objects are registered at once");
}

#[tokio::test]
async fn a_sync_that_fails_fails_nobody_who_does_not_wait_for_it() {
    let world = World::new(Shape::One).await;
    world.disk.plan(Fault::SyncError, &[], 0);
    let upload = begin(&world).await;
    let offset = append(&world, &upload, body(&content()[..PIECES[0]])).await;
    assert!(world.is_healthy());
    let refused = durable(&world).await;
    assert!(matches!(refused, Err(CoreError::Unavailable(_))), "{refused:?}");
    assert!(world.disk.calm().is_some() && !world.is_healthy());
    let status = world.registry.upload_status(&world.repository, &upload, ALICE).await.unwrap();
    assert_eq!(status.offset, offset);
    // The machine runs on, and so does the upload.
    assert!(starts_on(world.disk.after(Fault::Kill), world.clock.clone(), &upload, "killed").await);
}

#[tokio::test]
async fn an_upload_that_nothing_durable_came_after_is_gone_with_the_power() {
    let world = World::new(Shape::One).await;
    let upload = begin(&world).await;
    append(&world, &upload, body(&content()[..PIECES[0]])).await;
    assert!(!starts_on(world.disk.after(Fault::PowerCut), world.clock.clone(), &upload, "cut").await);
}

#[tokio::test]
async fn an_upload_whose_bytes_are_gone_with_the_power_is_begun_anew() {
    let world = World::new(Shape::One).await;
    let upload = begin(&world).await;
    let offset = append(&world, &upload, body(&content()[..PIECES[0]])).await;
    durable(&world).await.unwrap();
    let world = world.after(Fault::PowerCut).await;
    let status = world.registry.upload_status(&world.repository, &upload, ALICE).await.unwrap();
    assert_eq!(status.offset, offset, "a durable change takes along what was committed before it");
    assert!(!starts_on(world.disk.after(Fault::PowerCut), world.clock.clone(), &upload, "cut").await);
}

/// The disk wrote out what a request had written that broke off, and the next request wrote over it.
#[tokio::test]
async fn what_a_request_that_broke_off_wrote_does_not_come_back_with_the_power() {
    for first in [0, PIECES[0]] {
        let world = World::new(Shape::One).await;
        let content = content();
        let upload = begin(&world).await;
        if first > 0 {
            append(&world, &upload, body(&content[..first])).await;
        }
        // More than is gathered before the disk has it.
        let much = body(&content.repeat(8)).chain(stream::once(async { Err(BodyError) }));
        let much = Box::pin(much);
        let broken = world.registry.append_upload(&world.repository, &upload, ALICE, None, much).await;
        assert!(matches!(broken, Err(CoreError::BodyInterrupted)));
        world.disk.write_out();
        append(&world, &upload, body(&content[first..PIECES[1]])).await;
        durable(&world).await.unwrap();
        let told = format!("cut after {first}");
        assert!(!starts_on(world.disk.after(Fault::PowerCut), world.clock.clone(), &upload, &told).await);
    }
}

/// The disk has written out what it pleased: the objects are of one moment, the database is of one before.
#[tokio::test]
async fn objects_may_be_ahead_of_a_database_whose_last_changes_are_gone_with_the_power() {
    let world = World::new(Shape::One).await;
    let (content, disk) = (content(), Arc::clone(&world.disk));
    let mut pictures: Vec<Picture> = vec![disk.picture()];
    let upload = begin(&world).await;
    pictures.push(disk.picture());
    let mut from = 0;
    for to in PIECES {
        // In the midst of a request, which holds the upload.
        let (taken, took) = std::sync::mpsc::channel();
        let of_body = Arc::clone(&disk);
        let last = stream::once(async move {
            taken.send(of_body.picture()).unwrap();
            Ok(Bytes::new())
        });
        append(&world, &upload, Box::pin(body(&content[from..to]).chain(last))).await;
        pictures.push(took.recv().unwrap());
        pictures.push(disk.picture());
        from = to;
    }
    finish(&world, &upload, &content[from..]).await.unwrap();
    pictures.push(disk.picture());
    let clock = world.clock.clone();
    drop(world);
    let mut went_on = 0;
    for (now, objects) in pictures.iter().enumerate() {
        for (then, database) in pictures[..=now].iter().enumerate() {
            let told = format!("objects of moment {now}, database of moment {then}");
            let left = objects.with(database, DATABASE);
            went_on += usize::from(starts_on(left, clock.clone(), &upload, &told).await);
        }
    }
    // Not where the upload had not begun (7) or had ended (1).
    assert_eq!(went_on, 7 * 8 / 2 - 8);
}
