//! No request goes through a whole table, so none costs the more the more is stored.

use bytes::Bytes;
use registry_types::{Algorithm, Digest, MediaType, Reference, Tag};
use serde_json::{Value, json};

use super::support::{ALICE, World, body, sha256};
use crate::{
    ManifestPush, Mount, NewRepository, NewUpload, PushTarget, Quota, RegistryConfig, Repository,
    TagMutability,
};

async fn put(world: &World, repository: &Repository, reference: &str, manifest: &Value) -> Digest {
    let push = ManifestPush {
        target: &PushTarget::Existing(repository.clone()),
        reference: reference.parse().unwrap(),
        tags: vec!["more".parse().unwrap()],
        content_type: manifest["mediaType"].as_str().unwrap(),
        bytes: Bytes::from(manifest.to_string()),
    };
    world.registry.put_manifest(push).await.unwrap().digest
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// Tables that hold a few rows whatever is stored.
const SMALL: [&str; 1] = ["FROM replicas "];

/// Everything that is pushed, in every way.
async fn push(world: &World, repository: &Repository) -> (Digest, Digest, Digest) {
    let registry = &world.registry;
    let config = world.push(repository, b"{}").await.unwrap();
    let upload = world.begin(repository).await;
    registry.append_upload(repository, &upload, ALICE, None, body(b"la")).await.unwrap();
    registry.upload_status(repository, &upload, ALICE).await.unwrap();
    let layer = sha256(b"layer");
    registry.finish_upload(repository, &upload, ALICE, None, body(b"yer"), &layer).await.unwrap();
    registry.check_room(&repository.name, 10).await.unwrap();
    let image = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": descriptor("a/b", &config, 2),
        "layers": [descriptor("a/b", &layer, 5)],
    });
    let size = image.to_string().len();
    let digest = put(world, repository, "v1", &image).await;
    put(world, repository, "v1", &image).await;
    let mut artifact = image;
    artifact["subject"] = descriptor(MediaType::OCI_MANIFEST, &digest, size);
    artifact["annotations"] = json!({ "k": "v" });
    put(world, repository, "sbom", &artifact).await;
    let index = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
        "manifests": [descriptor(MediaType::OCI_MANIFEST, &digest, size)],
    });
    let index = put(world, repository, "all", &index).await;
    (layer, digest, index)
}

async fn read(world: &World, repository: &Repository, layer: &Digest, image: &Digest) {
    let registry = &world.registry;
    assert_eq!(world.read(repository, layer).await.unwrap(), b"layer");
    registry.blob_info(repository, layer).await.unwrap();
    for reference in [Reference::Digest(image.clone()), "v1".parse().unwrap()] {
        let manifest = registry.manifest(repository, &reference).await.unwrap();
        registry.note_pull(repository, &manifest);
        registry.image(repository, &reference).await.unwrap();
        registry.resolve(repository, &reference).await.unwrap();
    }
    for (after, limit) in [("", 1), ("b", 10)] {
        registry.tags(repository, after, limit).await.unwrap();
        registry.repositories(after, limit).await.unwrap();
        registry.images(repository, after, limit).await.unwrap();
    }
    for kind in [None, Some("a/b")] {
        assert_eq!(registry.referrers(repository, image, kind, "", 10).await.unwrap().items.len(), 1);
    }
    registry.stated_size(repository, layer).await.unwrap();
    registry.upstream_tag(repository, &"v1".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn no_request_goes_through_a_whole_table() {
    let world = World::new(RegistryConfig::default()).await;
    let registry = &world.registry;
    let quota = Quota { max_bytes: Some(1 << 20), max_images: Some(100) };
    for prefix in ["", "team", "team/app", "a/b/c/d/e"] {
        registry.put_quota(prefix, quota).await.unwrap();
    }
    let before = world.walks();
    let repository = world.repository("team/app").await;
    registry.repository(&repository.name).await.unwrap().unwrap();
    registry.set_tag_mutability(&repository.uid, TagMutability::Mutable).await.unwrap();
    registry.set_repository_policy(&repository.uid, Some("{}".to_owned())).await.unwrap();
    let (layer, image, index) = push(&world, &repository).await;
    read(&world, &repository, &layer, &image).await;

    let target = PushTarget::New("other".parse().unwrap());
    assert_eq!(registry.holders(&target, &layer, 16).await.unwrap().len(), 1);
    assert!(matches!(registry.mount_blob(&target, &repository, &layer).await.unwrap(), Mount::Mounted(_)));
    let other = registry.repository(target.name()).await.unwrap().unwrap();
    registry.delete_blob(&other, &layer).await.unwrap();
    registry.delete_repository(&other.uid, false).await.unwrap();
    let started = world.begin(&repository).await;
    registry.cancel_upload(&repository, &started, ALICE).await.unwrap();

    let tag = |text: &str| -> Tag { text.parse().unwrap() };
    registry.delete_tag(&repository, &tag("more")).await.unwrap();
    registry.untag_image(&repository, &tag("sbom")).await.unwrap();
    assert!(registry.delete_manifest(&repository, &image).await.is_err(), "an index holds it");
    registry.delete_manifest(&repository, &index).await.unwrap();
    registry.delete_manifest(&repository, &image).await.unwrap();

    let is_large = |walk: &&str| SMALL.iter().all(|table| !walk.contains(table));
    let walked: Vec<_> =
        world.walks().into_iter().filter(|walk| !before.contains(walk)).filter(is_large).collect();
    assert!(walked.is_empty(), "{walked:#?}");
}

#[tokio::test]
async fn quotas_count_for_every_prefix_of_a_long_name() {
    let world = World::new(RegistryConfig::default()).await;
    let prefixes = ["", "a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a/b/c/d/e/f", "a/b/c/d/e/f/g"];
    let quota = Quota { max_bytes: Some(100), max_images: None };
    for prefix in prefixes.into_iter().chain(["b", "a/bc"]) {
        world.registry.put_quota(prefix, quota).await.unwrap();
    }
    for (name, bytes) in [("a/b/c/d/e/f/g", 7), ("a/b/c", 5), ("abc", 3)] {
        let repository = world.repository(name).await;
        world.push(&repository, &vec![1; bytes]).await.unwrap();
    }
    let used = world.registry.quotas(None, 100).await.unwrap().items;
    let used: Vec<(&str, u64)> = used.iter().map(|one| (one.prefix.as_str(), one.usage.bytes)).collect();
    let expected: [(&str, u64); 10] = [
        ("", 15),
        ("a", 12),
        ("a/b", 12),
        ("a/b/c", 12),
        ("a/b/c/d", 7),
        ("a/b/c/d/e", 7),
        ("a/b/c/d/e/f", 7),
        ("a/b/c/d/e/f/g", 7),
        ("a/bc", 0),
        ("b", 0),
    ];
    assert_eq!(used, expected);
    // Each of them bounds what comes.
    for prefix in prefixes {
        let tight = Quota { max_bytes: Some(15), max_images: None };
        world.registry.put_quota(prefix, tight).await.unwrap();
        let refused = world.registry.check_room(&"a/b/c/d/e/f/g".parse().unwrap(), 9).await;
        assert!(refused.is_err(), "{prefix:?}");
        world.registry.delete_quota(prefix).await.unwrap();
    }
    let new = NewUpload {
        target: &PushTarget::New("a/b/c/d/e/f/g/h".parse().unwrap()),
        principal: ALICE,
        algorithm: Algorithm::Sha256,
    };
    world.registry.upload_whole(new, body(b"free"), &sha256(b"free")).await.unwrap();
    assert!(world.registry.create_repository(&"a".parse().unwrap(), NewRepository::default()).await.is_ok());
}
