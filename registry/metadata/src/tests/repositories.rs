use registry_types::RepositoryName;

use super::{World, digest, manifest, repository, shared, uid};
use crate::{ImmutabilityExclusion, TagMutability, blobs, garbage, manifests, referrers, repositories, tags};

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

#[tokio::test]
async fn second_insert_keeps_original() {
    let world = World::new().await;
    assert!(world.write(|tx| repositories::insert(tx, &repository("app"))).await);
    let mut other = repository("app");
    other.uid = uid("other");
    assert!(!world.write(move |tx| repositories::insert(tx, &other)).await);
    let found = world.write(|tx| repositories::by_name(tx, &name("app"))).await;
    assert_eq!(found, Some(repository("app")));
}

#[tokio::test]
async fn settings_come_back_as_they_were_stored() {
    let world = World::new().await;
    world.write(|tx| repositories::insert(tx, &repository("app"))).await;
    let exclusions = vec![ImmutabilityExclusion("latest".into()), ImmutabilityExclusion("dev-*".into())];
    let mutability = TagMutability::ImmutableWithExclusion(exclusions);
    let stored = mutability.clone();
    world.write(move |tx| repositories::set_tag_mutability(tx, &uid("uid-app"), &stored)).await;
    let tags = [("a".to_owned(), "b\"c".to_owned())].into();
    world.write(move |tx| repositories::set_resource_tags(tx, &uid("uid-app"), &tags)).await;
    let found = world.write(|tx| repositories::by_uid(tx, &uid("uid-app"))).await.unwrap();
    assert_eq!(found.tag_mutability, mutability);
    assert_eq!(found.resource_tags["a"], "b\"c");
}

#[tokio::test]
async fn every_change_of_the_policy_has_a_version_of_its_own() {
    let world = World::new().await;
    world.write(|tx| repositories::insert(tx, &repository("app"))).await;
    let mut versions = Vec::new();
    for text in ["one", "two"] {
        let text = shared(text);
        let stored = text.clone();
        world.write(move |tx| repositories::set_policy(tx, &uid("uid-app"), Some(&stored))).await;
        let found = world.write(|tx| repositories::by_uid(tx, &uid("uid-app"))).await.unwrap();
        let policy = found.policy.unwrap();
        assert_eq!(policy.text, text);
        versions.push(policy.version);
        world.write(|tx| repositories::set_policy(tx, &uid("uid-app"), None)).await;
    }
    assert!(versions[0] < versions[1]);
    let found = world.write(|tx| repositories::by_uid(tx, &uid("uid-app"))).await.unwrap();
    assert_eq!(found.policy, None);
}

#[tokio::test]
async fn names_are_listed_in_byte_order_after_the_cursor() {
    let world = World::new().await;
    for text in ["b", "a/b", "a-b", "a", "a.b"] {
        world.write(move |tx| repositories::insert(tx, &repository(text))).await;
    }
    let listed = world.write(|tx| repositories::list_after(tx, "a", 3)).await;
    let names: Vec<&str> = listed.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["a-b", "a.b", "a/b"]);
}

#[tokio::test]
async fn the_remains_of_a_deleted_repository_go_to_the_last_row() {
    let world = World::new().await;
    for text in ["app", "kept"] {
        world
            .write(move |tx| {
                let repository = repository(text);
                repositories::insert(tx, &repository)?;
                for byte in 0..5 {
                    let uid = &repository.uid;
                    blobs::put_link(tx, uid, &digest(byte), 1, 1)?;
                    let manifest = manifest(byte, Some(digest(99)));
                    manifests::insert(tx, uid, &manifest)?;
                    tags::put(tx, uid, &format!("t{byte}").parse().unwrap(), &digest(byte), 1)?;
                    let referrer = crate::ReferrerKey {
                        digest: digest(byte),
                        media_type: manifest.media_type.clone(),
                        size: 1,
                        artifact_type: String::new(),
                        annotations_len: 0,
                    };
                    referrers::insert(tx, uid, &digest(99), &referrer, None)?;
                }
                Ok(())
            })
            .await;
    }
    assert!(world.write(|tx| repositories::delete(tx, &uid("uid-app"), 1)).await);
    assert!(!world.write(|tx| repositories::delete(tx, &uid("uid-app"), 1)).await);
    assert_eq!(world.write(|tx| garbage::deleted_repository(tx)).await, Some(uid("uid-app")));
    let mut batches = 1;
    while !world.write(|tx| garbage::purge_repository(tx, &uid("uid-app"), 2, 7)).await {
        batches += 1;
    }
    assert!(batches > 8, "{batches}");
    assert_eq!(world.write(|tx| garbage::deleted_repository(tx)).await, None);
    for (repository, left) in [("uid-app", 0), ("uid-kept", 5)] {
        let uid = uid(repository);
        let counts = world.write(move |tx| {
            Ok([
                manifests::list_after(tx, &uid, "", 10)?.len(),
                tags::list_after(tx, &uid, "", 10)?.len(),
                referrers::list_after(tx, &uid, &digest(99), "", 10)?.len(),
            ])
        });
        assert_eq!(counts.await, [left; 3], "{repository}");
    }
}
