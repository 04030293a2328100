//! Every fault at every file call of a change: nothing acknowledged is lost, nothing is half done, nothing is left over.
//!
//! A binary of its own, because it stands between the program and the C library (`calls`): content store, key files and
//! SQLite write to a disk that knows what was synced and fails when told to (`disk`). Each fault strikes at the first
//! call that it can strike, then at the second, and so on until the change gets by without it. `replicas` does the same
//! to a server that keeps content and database on three replicas. `sessions` are the uploads under way, which wait for no
//! sync: what becomes of them in a power cut.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says how much it tried"
)]

mod calls;
mod disk;
mod operations;
mod replicas;
mod sessions;
mod world;

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::CoreError;
use registry_runtime::Clock;

use crate::disk::{Disk, Fault};
use crate::operations::{
    Collection, DeletedBlob, DeletedImage, DeletedTag, MovedTag, Pieces, PushedManifest, Rekey, Whole,
};
use crate::world::{KEPT, Shape, World};

/// Rounds between two times that the world is tidied.
const TIDY_EACH: usize = 8;

/// Something that changes what is stored; each round changes something else.
#[async_trait]
trait Operation: Sync {
    /// Makes what the change needs.
    async fn prepare(&self, _world: &World, _round: usize) {}

    /// Changes it, or finds it changed.
    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError>;

    /// Whether the change came to pass. It may never be half done.
    async fn is_done(&self, world: &World, round: usize) -> bool;
}

/// Runs an operation with every fault at every point.
async fn strike(operation: &dyn Operation) {
    let mut world = World::new(Shape::One).await;
    let mut round = 0;
    for fault in Fault::ALL {
        let began = round;
        loop {
            let has_struck;
            (world, has_struck) = strike_once(operation, world, fault, round - began, round).await;
            round += 1;
            if !has_struck {
                break;
            }
        }
        world.tidy().await;
        world.has_nothing_left_over().await;
        world.keeps().await;
        println!("{fault:?}: {} points", round - began - 1);
        assert!(round - began > 1, "{fault:?} strikes nothing");
    }
}

/// One fault at one point. Whether the operation came so far.
async fn strike_once(
    operation: &dyn Operation,
    world: World,
    fault: Fault,
    point: usize,
    round: usize,
) -> (World, bool) {
    let told = format!("{fault:?} at point {point}");
    operation.prepare(&world, round).await;
    world.disk.plan(fault, &[], point);
    let outcome = operation.run(&world, round).await;
    let has_struck = world.disk.calm().is_some();
    let mut acknowledged = is_acknowledged(outcome, has_struck, &told);
    if !fault.is_crash() {
        assert!(operation.is_done(&world, round).await || !acknowledged, "{told}: acknowledged");
        world.keeps().await;
        let again = operation.run(&world, round).await;
        // A database whose sync failed takes nothing any more; everything else recovers by itself.
        acknowledged |= is_acknowledged(again, !world.is_healthy(), &told);
    }
    let crash = if fault == Fault::Kill { Fault::Kill } else { Fault::PowerCut };
    let world = world.after(crash).await;
    assert!(operation.is_done(&world, round).await || !acknowledged, "{told}: lost");
    world.keeps().await;
    operation.run(&world, round).await.unwrap_or_else(|error| panic!("{told}, again: {error:?}"));
    assert!(operation.is_done(&world, round).await, "{told}: done again");
    if round.is_multiple_of(TIDY_EACH) {
        world.tidy().await;
        world.keeps().await;
    }
    (world, has_struck)
}

/// Whether the server said that it is done; where nothing is wrong it must.
fn is_acknowledged(outcome: Result<(), CoreError>, may_fail: bool, told: &str) -> bool {
    match outcome {
        Ok(()) => true,
        Err(CoreError::Full(_) | CoreError::Unavailable(_) | CoreError::Internal(_)) if may_fail => false,
        Err(error) => panic!("{told}: {error}: {error:?}"),
    }
}

/// Whether a first start that was struck leaves something on which the next one cannot start.
async fn strike_first_start(shape: Shape, fault: Fault, point: usize) -> bool {
    let told = format!("{fault:?} at point {point}");
    let (disk, clock) = (Arc::new(Disk::new()), Clock::manual(1_000_000_000));
    disk.plan(fault, &[], point);
    let started = tokio::select! {
        started = World::open(shape, Arc::clone(&disk), clock.clone()) => started.map(drop),
        () = replicas::ended(&disk) => Ok(()),
    };
    let has_struck = disk.calm().is_some();
    assert!(started.is_ok() || has_struck, "{told}: {started:?}");
    let crash = if fault == Fault::Kill { Fault::Kill } else { Fault::PowerCut };
    let after = Arc::new(disk.after(crash));
    let world =
        World::open(shape, after, clock).await.unwrap_or_else(|error| panic!("{told}, again: {error:?}"));
    world.push_image(KEPT).await.unwrap();
    match shape {
        Shape::One => {
            world.tidy().await;
            world.has_nothing_left_over().await;
        }
        Shape::Three => replicas::tidy(&world).await,
    }
    has_struck
}

async fn strike_every_first_start(shape: Shape) {
    for fault in Fault::ALL {
        let mut points = 0;
        while strike_first_start(shape, fault, points).await {
            points += 1;
        }
        println!("{fault:?}: {points} points");
    }
}

#[tokio::test]
#[ignore = "long: every point of making a database"]
async fn first_start() {
    strike_every_first_start(Shape::One).await;
}

#[tokio::test]
#[ignore = "long: every point of making a database and three replicas"]
async fn first_start_on_replicas() {
    strike_every_first_start(Shape::Three).await;
}

#[tokio::test]
async fn push_of_a_blob() {
    strike(&Whole).await;
}

#[tokio::test]
#[ignore = "long: three requests, of many calls each"]
async fn push_of_a_blob_in_pieces() {
    strike(&Pieces).await;
}

#[tokio::test]
async fn push_of_a_manifest() {
    strike(&PushedManifest).await;
}

#[tokio::test]
async fn move_of_a_tag() {
    strike(&MovedTag).await;
}

#[tokio::test]
async fn deletion_of_an_image() {
    strike(&DeletedImage).await;
}

#[tokio::test]
async fn deletion_of_a_tag() {
    strike(&DeletedTag).await;
}

#[tokio::test]
async fn deletion_of_a_blob() {
    strike(&DeletedBlob).await;
}

#[tokio::test]
async fn collection_of_garbage() {
    strike(&Collection).await;
}

#[tokio::test]
async fn rotation_and_destruction_of_keys() {
    strike(&Rekey).await;
}

#[tokio::test]
async fn push_of_a_blob_to_replicas() {
    replicas::strike_somewhere(&Whole).await;
}

#[tokio::test]
async fn push_of_a_manifest_to_replicas() {
    replicas::strike_somewhere(&PushedManifest).await;
}

#[tokio::test]
async fn move_of_a_tag_on_replicas() {
    replicas::strike_somewhere(&MovedTag).await;
}

#[tokio::test]
async fn deletion_of_an_image_from_replicas() {
    replicas::strike_somewhere(&DeletedImage).await;
}

#[tokio::test]
#[ignore = "long: every point"]
async fn every_push_of_a_blob_to_replicas() {
    replicas::strike_everywhere(&Whole).await;
}

#[tokio::test]
#[ignore = "long: every point"]
async fn every_push_of_a_manifest_to_replicas() {
    replicas::strike_everywhere(&PushedManifest).await;
}

#[tokio::test]
#[ignore = "long: every point"]
async fn every_move_of_a_tag_on_replicas() {
    replicas::strike_everywhere(&MovedTag).await;
}

#[tokio::test]
#[ignore = "long: every point"]
async fn every_deletion_of_an_image_from_replicas() {
    replicas::strike_everywhere(&DeletedImage).await;
}
