//! Keys rolled under load, and destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use registry_types::{Algorithm, Digest};

use super::support::{ALICE, World, body, sha256};
use crate::{
    CoreError, CreateKeyError, Domain, EpochState, Mount, NewRepository, NewUpload, PushTarget,
    RegistryConfig, Repository, ShredError,
};

/// State of every epoch of the default domain, oldest first.
async fn states(world: &World) -> Vec<EpochState> {
    world.registry.key_epochs().await.unwrap().into_iter().map(|epoch| epoch.state).collect()
}

#[tokio::test]
async fn rotation_wraps_every_row_and_touches_no_content() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let mut pushed = Vec::new();
    for number in 0..30u8 {
        let content = vec![number; 1000];
        pushed.push((world.push(&repository, &content).await.unwrap(), content));
    }
    let upload = world.begin(&repository).await;
    let part = vec![9; 100_000];
    world.registry.append_upload(&repository, &upload, ALICE, None, body(&part)).await.unwrap();
    let objects: Vec<_> = world.objects().await.into_iter().map(|id| (id, world.store.bytes(id))).collect();

    assert_eq!(world.registry.rotate_key("default").await.unwrap(), Some(2));
    assert_eq!(world.registry.rotate_key("nothing").await.unwrap(), None);
    assert_eq!(states(&world).await, [EpochState::Retiring, EpochState::Active]);
    let early = world.registry.shred_keys("default").await;
    assert!(matches!(early, Err(ShredError::StillWrapped(31))), "{early:?}");
    assert_eq!(world.registry.rewrap_keys().await.unwrap(), 31);
    assert_eq!(world.registry.rewrap_keys().await.unwrap(), 0);
    for (digest, content) in &pushed {
        assert_eq!(world.read(&repository, digest).await.unwrap(), *content);
    }
    let after: Vec<_> = world.objects().await.into_iter().map(|id| (id, world.store.bytes(id))).collect();
    assert!(after == objects, "content is not touched");

    assert_eq!(world.registry.shred_keys("default").await.unwrap(), [1]);
    assert_eq!(states(&world).await, [EpochState::Destroyed, EpochState::Active]);
    assert!(matches!(world.registry.shred_keys("default").await, Err(ShredError::NothingOld)));
    assert!(matches!(world.registry.shred_keys("nothing").await, Err(ShredError::Unknown(_))));
    for (digest, content) in &pushed {
        assert_eq!(world.read(&repository, digest).await.unwrap(), *content);
    }
    // The upload that was open goes on under the new key.
    let digest = sha256(&part);
    world.registry.finish_upload(&repository, &upload, ALICE, None, body(b""), &digest).await.unwrap();
    assert_eq!(world.read(&repository, &digest).await.unwrap(), part);
}

#[tokio::test]
async fn a_domain_shares_nothing_with_others_and_goes_by_itself() {
    let world = World::new(RegistryConfig::default()).await;
    let registry = &world.registry;
    registry.create_key("blue").await.unwrap();
    assert!(matches!(registry.create_key("blue").await, Err(CreateKeyError::Exists)));
    for name in ["", "system", "a b", "../x", &"k".repeat(49), "arn:aws:iam::1:role/x", "alias/\n"] {
        assert!(matches!(registry.create_key(name).await, Err(CreateKeyError::Name)), "{name:?}");
    }
    let of_blue = NewRepository { kms_key: Some(Domain::new("blue")), ..NewRepository::default() };
    let blue = registry.create_repository(&"blue/app".parse().unwrap(), of_blue).await.unwrap();
    let other = world.repository("app").await;
    let digest = world.push(&blue, b"the same").await.unwrap();
    let mounted = registry.mount_blob(&PushTarget::Existing(other.clone()), &blue, &digest).await.unwrap();
    assert_eq!(mounted, Mount::Absent);
    assert_eq!(world.push(&other, b"the same").await.unwrap(), digest);
    assert_eq!(world.objects().await.len(), 2, "nothing is shared");
    // A push for which there was no repository yet when it began seals nothing that this one could not read.
    let target = PushTarget::New(blue.name.clone());
    let new = NewUpload { target: &target, principal: ALICE, algorithm: Algorithm::Sha256 };
    let late = registry.upload_whole(new, body(b"late"), &sha256(b"late")).await;
    assert!(matches!(late, Err(CoreError::RepositoryExists)), "{late:?}");

    registry.rotate_key("blue").await.unwrap();
    registry.rewrap_keys().await.unwrap();
    assert_eq!(registry.shred_keys("blue").await.unwrap(), [1]);
    assert!(matches!(registry.shred_keys("default").await, Err(ShredError::NothingOld)));
    for repository in [&blue, &other] {
        assert_eq!(world.read(repository, &digest).await.unwrap(), b"the same");
    }
}

/// In one request, or in three, so that the key may roll between any two of them.
async fn push(
    world: &World,
    repository: &Repository,
    content: &[u8],
    whole: bool,
) -> Result<Digest, CoreError> {
    if whole {
        return world.push(repository, content).await;
    }
    let upload = world.begin(repository).await;
    let (registry, digest) = (&world.registry, sha256(content));
    let (first, rest) = content.split_at(content.len() / 2);
    for part in [first, rest] {
        registry.append_upload(repository, &upload, ALICE, None, body(part)).await?;
    }
    registry.finish_upload(repository, &upload, ALICE, None, body(b""), &digest).await?;
    Ok(digest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_and_pulls_go_on_while_keys_roll_and_go() {
    let world = Arc::new(World::new(RegistryConfig::default()).await);
    let repository = world.repository("app").await;
    let over = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4u32)
        .map(|worker| {
            let (world, repository, over) = (Arc::clone(&world), repository.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut pushed = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let content = format!("{worker} {}", pushed.len()).repeat(50).into_bytes();
                    let digest = push(&world, &repository, &content, pushed.len() % 2 == 0).await.unwrap();
                    pushed.push((digest, content));
                    let (digest, content) = &pushed[pushed.len() / 2];
                    assert_eq!(world.read(&repository, digest).await.unwrap(), *content);
                }
                pushed
            })
        })
        .collect();
    let mut shredded = 0;
    for round in 2..12 {
        assert_eq!(world.registry.rotate_key("default").await.unwrap(), Some(round));
        world.registry.rewrap_keys().await.unwrap();
        match world.registry.shred_keys("default").await {
            Ok(epochs) => shredded += epochs.len(),
            // A request that began before the roll may have left an upload under the old epoch.
            Err(ShredError::StillWrapped(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        world.registry.follow_keys().await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let mut count = 0;
    for worker in workers {
        for (digest, content) in worker.await.unwrap() {
            assert_eq!(world.read(&repository, &digest).await.unwrap(), content);
            count += 1;
        }
    }
    assert!(shredded > 0 && count > 20, "{shredded} {count}");
}
