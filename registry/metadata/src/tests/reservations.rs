//! Objects registered ahead of need.

use super::World;
use crate::{blobs, garbage, reservations};

const ID: [u8; 16] = [7; 16];

#[tokio::test]
async fn reservation_is_taken_once() {
    let world = World::new().await;
    world.write(|tx| reservations::insert(tx, &ID, 100)).await;
    assert!(world.write(|tx| blobs::is_registered(tx, &ID)).await);
    assert!(world.write(|tx| reservations::take(tx, &ID)).await);
    assert!(!world.write(|tx| reservations::take(tx, &ID)).await);
    assert!(!world.write(|tx| blobs::is_registered(tx, &ID)).await);
}

#[tokio::test]
async fn what_is_given_up_is_garbage_and_what_was_taken_is_not() {
    let world = World::new().await;
    world.write(|tx| reservations::insert(tx, &ID, 100)).await;
    world.write(|tx| reservations::insert(tx, &[8; 16], 100)).await;
    assert!(world.write(|tx| reservations::take(tx, &[8; 16])).await);
    for id in [ID, [8; 16]] {
        world.write(move |tx| reservations::give_up(tx, &id, 50)).await;
    }
    assert_eq!(world.write(|tx| garbage::condemned_after(tx, &[], 10)).await, [ID]);
}

#[tokio::test]
async fn reservation_ends_at_its_time() {
    let world = World::new().await;
    world.write(|tx| reservations::insert(tx, &ID, 100)).await;
    assert!(world.write(|tx| reservations::expired(tx, 99, 10)).await.is_empty());
    assert_eq!(world.write(|tx| reservations::expired(tx, 100, 10)).await, [ID]);
}
