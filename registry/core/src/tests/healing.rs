//! Damage is found, never served, and healed by a new push.

use registry_blob::BlobStore;

use super::support::World;
use crate::{CoreError, RegistryConfig};

#[tokio::test]
async fn a_flipped_bit_is_never_served_and_a_new_push_heals_it() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let content: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8).collect();
    let digest = world.push(&repository, &content).await.unwrap();
    let rotten = world.objects().await[0];
    let length = world.store.bytes(rotten).unwrap().len();
    for at in [0, 70, 130, 70_000, length - 60, length - 1] {
        world.store.tamper(rotten, |bytes| bytes[at] ^= 1);
        // What was opened before is remembered, so only the records are read anew.
        if (128..length - 400).contains(&at) {
            let read = world.read(&repository, &digest).await;
            assert!(matches!(read, Err(CoreError::Damaged { .. })), "byte {at}: {:?}", read.map(|r| r.len()));
        }
    }
    world.push(&repository, &content).await.unwrap();
    assert_eq!(world.read(&repository, &digest).await.unwrap(), content);
}

#[tokio::test]
async fn a_missing_object_is_no_missing_blob() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let digest = world.push(&repository, b"content").await.unwrap();
    for file_id in world.objects().await {
        world.store.delete(file_id).await.unwrap();
    }
    assert!(matches!(world.read(&repository, &digest).await, Err(CoreError::Unavailable(_))));
    world.push(&repository, b"content").await.unwrap();
    assert_eq!(world.read(&repository, &digest).await.unwrap(), b"content");
}
