//! The operations that faults strike.

use async_trait::async_trait;
use registry_core::{CoreError, EpochState, NewUpload, ShredError};
use registry_types::Algorithm;

use crate::Operation;
use crate::world::{ALICE, World, body, layer, manifest, sha256};

fn name(round: usize) -> String {
    format!("round-{round}")
}

/// A blob in one request.
pub(crate) struct Whole;

#[async_trait]
impl Operation for Whole {
    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        world.push(&layer(&name(round))).await.map(drop)
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        world.holds(&layer(&name(round))).await
    }
}

/// A blob in three requests.
pub(crate) struct Pieces;

#[async_trait]
impl Operation for Pieces {
    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        let (registry, repository, target) = (&world.registry, &world.repository, world.target());
        let content = layer(&name(round));
        let (first, last) = content.split_at(content.len() / 2);
        let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
        let upload = registry.start_upload(new).await?.uid;
        registry.append_upload(repository, &upload, ALICE, None, body(first)).await?;
        let digest = sha256(&content);
        registry.finish_upload(repository, &upload, ALICE, None, body(last), &digest).await.map(drop)
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        world.holds(&layer(&name(round))).await
    }
}

pub(crate) struct PushedManifest;

#[async_trait]
impl Operation for PushedManifest {
    async fn prepare(&self, world: &World, round: usize) {
        world.push(b"{}").await.unwrap();
        world.push(&layer(&name(round))).await.unwrap();
    }

    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        world.put_manifest(&name(round), manifest(&name(round))).await
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        let digest = sha256(&manifest(&name(round)));
        let found = world.resolve(&digest.to_string()).await;
        assert_eq!(world.resolve(&name(round)).await, found, "with its tag or not at all");
        found.is_some()
    }
}

/// A tag goes from one image to another.
pub(crate) struct MovedTag;

#[async_trait]
impl Operation for MovedTag {
    async fn prepare(&self, world: &World, round: usize) {
        world.push_image(&name(round)).await.unwrap();
        world.put_manifest("moving", manifest("kept")).await.unwrap();
    }

    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        world.put_manifest("moving", manifest(&name(round))).await
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        let [old, new] = [sha256(&manifest("kept")), sha256(&manifest(&name(round)))];
        let found = world.resolve("moving").await.expect("the tag is always there");
        assert!(found == old || found == new, "{found}");
        assert!(world.resolve(&new.to_string()).await.is_some());
        found == new
    }
}

pub(crate) struct DeletedImage;

#[async_trait]
impl Operation for DeletedImage {
    async fn prepare(&self, world: &World, round: usize) {
        world.push_image(&name(round)).await.unwrap();
    }

    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        let digest = sha256(&manifest(&name(round)));
        match world.registry.delete_manifest(&world.repository, &digest).await {
            Err(CoreError::ManifestNotFound) => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        let found = world.resolve(&sha256(&manifest(&name(round))).to_string()).await;
        assert_eq!(world.resolve(&name(round)).await, found, "with its tag or not at all");
        found.is_none()
    }
}

pub(crate) struct DeletedTag;

#[async_trait]
impl Operation for DeletedTag {
    async fn prepare(&self, world: &World, round: usize) {
        world.push_image(&name(round)).await.unwrap();
    }

    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        match world.registry.delete_tag(&world.repository, &name(round).parse().unwrap()).await {
            Err(CoreError::TagNotFound) => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        assert!(world.resolve(&sha256(&manifest(&name(round))).to_string()).await.is_some());
        world.resolve(&name(round)).await.is_none()
    }
}

pub(crate) struct DeletedBlob;

#[async_trait]
impl Operation for DeletedBlob {
    async fn prepare(&self, world: &World, round: usize) {
        world.push(&layer(&name(round))).await.unwrap();
    }

    async fn run(&self, world: &World, round: usize) -> Result<(), CoreError> {
        match world.registry.delete_blob(&world.repository, &sha256(&layer(&name(round)))).await {
            Err(CoreError::BlobNotFound) => Ok(()),
            deleted => deleted,
        }
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        !world.holds(&layer(&name(round))).await
    }
}

/// The collection of what an image left.
pub(crate) struct Collection;

#[async_trait]
impl Operation for Collection {
    async fn prepare(&self, world: &World, round: usize) {
        let image = world.push_image(&name(round)).await.unwrap();
        world.registry.delete_manifest(&world.repository, &image).await.unwrap();
        world.push_image("other").await.unwrap();
    }

    async fn run(&self, world: &World, _round: usize) -> Result<(), CoreError> {
        world.collect().await
    }

    async fn is_done(&self, world: &World, round: usize) -> bool {
        assert!(world.holds(&layer("other")).await);
        !world.holds(&layer(&name(round))).await
    }
}

/// A new key for everything, an upload under way among it, and the end of the old one.
pub(crate) struct Rekey;

#[async_trait]
impl Operation for Rekey {
    async fn prepare(&self, world: &World, _round: usize) {
        let target = world.target();
        let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
        let upload = world.registry.start_upload(new).await.unwrap().uid;
        let appended = world.registry.append_upload(&world.repository, &upload, ALICE, None, body(b"first"));
        appended.await.unwrap();
    }

    async fn run(&self, world: &World, _round: usize) -> Result<(), CoreError> {
        world.registry.rotate_key("default").await?;
        world.registry.rewrap_keys().await?;
        match world.registry.shred_keys("default").await {
            Ok(_) => Ok(()),
            Err(ShredError::Core(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    async fn is_done(&self, world: &World, _round: usize) -> bool {
        let epochs = world.registry.key_epochs().await.unwrap();
        let active = epochs.iter().filter(|one| one.state == EpochState::Active).count();
        assert_eq!(active, 1);
        epochs.iter().filter(|one| one.state == EpochState::Destroyed).count() == epochs.len() - 1
    }
}
