//! Manifests at their limits, and pushed again.

use bytes::Bytes;
use registry_metadata::{ImmutabilityExclusion, TagMutability};
use registry_types::{Digest, MediaType, Reference};
use serde_json::{Value, json};

use super::support::{World, sha256};
use crate::{CoreError, ManifestPush, PushTarget, PushedManifest, RegistryConfig, Repository};

async fn put(
    world: &World,
    repository: &Repository,
    content_type: &str,
    manifest: &Value,
    is_upstream: bool,
) -> Result<PushedManifest, CoreError> {
    let push = ManifestPush {
        target: &PushTarget::Existing(repository.clone()),
        reference: "v1".parse().unwrap(),
        tags: Vec::new(),
        content_type,
        bytes: Bytes::from(manifest.to_string()),
    };
    match is_upstream {
        true => world.registry.put_upstream_manifest(push).await,
        false => world.registry.put_manifest(push).await,
    }
}

fn descriptor(digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": "application/x", "digest": digest, "size": size })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_names_thousands_of_layers() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let image = |layers: usize| {
        let layers: Vec<Value> = (0..layers).map(|n| descriptor(&sha256(&n.to_be_bytes()), n)).collect();
        json!({ "schemaVersion": 2, "config": descriptor(&sha256(b"{}"), 2), "layers": layers })
    };
    let most = image(9999);
    let missing = put(&world, &repository, MediaType::OCI_MANIFEST, &most, false).await;
    assert!(matches!(&missing, Err(CoreError::ContentsMissing(some)) if some.len() == 1000), "{missing:?}");
    let pushed = put(&world, &repository, MediaType::OCI_MANIFEST, &most, true).await.unwrap();
    let held =
        world.registry.manifest_info(&repository, &Reference::Digest(pushed.digest.clone())).await.unwrap();
    assert_eq!(held.image_size, 2 + (0..9999).sum::<u64>());
    let last = sha256(&9998usize.to_be_bytes());
    assert_eq!(world.registry.stated_size(&repository, &last).await.unwrap(), Some(9998));
    let more = put(&world, &repository, MediaType::OCI_MANIFEST, &image(10_000), true).await;
    assert!(matches!(more, Err(CoreError::ManifestInvalid(_))), "{more:?}");
    world.registry.delete_manifest(&repository, &pushed.digest).await.unwrap();
    world.registry.collect_garbage().await.unwrap();
    assert_eq!(world.registry.stated_size(&repository, &last).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_long_list_everything_is_looked_for() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let config = descriptor(&world.push(&repository, b"{}").await.unwrap(), 2);
    let mut layers = Vec::new();
    for n in 0..20usize {
        let layer = vec![1; n];
        layers.push(descriptor(&world.push(&repository, &layer).await.unwrap(), n));
    }
    let image = |layers: &[Value]| json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let index = |children: &[Value]| json!({ "schemaVersion": 2, "manifests": children });
    let mut children = Vec::new();
    for n in 1..20 {
        let image = image(&layers[..n]);
        let digest = put(&world, &repository, MediaType::OCI_MANIFEST, &image, false).await.unwrap().digest;
        let size = image.to_string().len();
        children.push(json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size }));
    }
    // Layers in an index, as build caches have them, and one of them twice.
    children.splice(9..9, [15, 3, 15].map(|n| layers[n].clone()));
    let pushed = put(&world, &repository, MediaType::OCI_INDEX, &index(&children), false).await.unwrap();
    let held = world.registry.manifest_info(&repository, &Reference::Digest(pushed.digest)).await.unwrap();
    assert_eq!(held.image_size, 2 + (0..19).sum::<u64>());
    let absent = sha256(b"absent");
    for at in [0, 5, 8, 17, 19] {
        for is_index in [true, false] {
            let push = async |list: &[Value]| match is_index {
                true => put(&world, &repository, MediaType::OCI_INDEX, &index(list), false).await,
                false => put(&world, &repository, MediaType::OCI_MANIFEST, &image(list), false).await,
            };
            let mut list = if is_index { children.clone() } else { layers.clone() };
            list[at]["size"] = json!(1 << 20);
            let wrong = push(&list).await;
            assert!(matches!(wrong, Err(CoreError::ManifestInvalid(_))), "{at}: {wrong:?}");
            list[at] = descriptor(&absent, 3);
            list.push(list[at].clone());
            let Err(CoreError::ContentsMissing(missing)) = push(&list).await else { panic!("{at}") };
            assert_eq!(missing, std::slice::from_ref(&absent), "{at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_a_type_of_its_own_has_the_one_it_was_last_pushed_with() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let config = world.push(&repository, b"{}").await.unwrap();
    let subject = sha256(b"subject");
    let manifest = json!({
        "schemaVersion": 2, "config": descriptor(&config, 2), "layers": [], "subject": descriptor(&subject, 7),
    });
    for (content_type, created, changed) in [
        (MediaType::DOCKER_MANIFEST, true, true),
        (MediaType::OCI_MANIFEST, false, true),
        (MediaType::OCI_MANIFEST, false, false),
        (MediaType::DOCKER_MANIFEST, false, true),
    ] {
        let pushed = put(&world, &repository, content_type, &manifest, false).await.unwrap();
        assert_eq!((pushed.created, pushed.changed), (created, changed), "{content_type}");
        let held = world.registry.manifest(&repository, &"v1".parse().unwrap()).await.unwrap();
        assert_eq!(held.media_type.as_str(), content_type);
        let referrers = world.registry.referrers(&repository, &subject, None, "", 10).await.unwrap().items;
        let types: Vec<&str> = referrers.iter().map(|one| one.media_type.as_str()).collect();
        assert_eq!(types, [content_type]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_immutable_tag_serves_keeps_its_type_and_an_upstream_changes_none() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let config = world.push(&repository, b"{}").await.unwrap();
    let manifest = json!({ "schemaVersion": 2, "config": descriptor(&config, 2), "layers": [] });
    put(&world, &repository, MediaType::OCI_MANIFEST, &manifest, false).await.unwrap();
    let only_v1 = TagMutability::MutableWithExclusion(vec![ImmutabilityExclusion("v1".into())]);
    for (mutability, is_upstream) in
        [(TagMutability::Immutable, false), (only_v1, false), (TagMutability::Mutable, true)]
    {
        world.registry.set_tag_mutability(&repository.uid, mutability).await.unwrap();
        let again =
            put(&world, &repository, MediaType::DOCKER_MANIFEST, &manifest, is_upstream).await.unwrap();
        assert!(!again.created && !again.changed);
        let held = world.registry.manifest(&repository, &"v1".parse().unwrap()).await.unwrap();
        assert_eq!(held.media_type.as_str(), MediaType::OCI_MANIFEST);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_an_upstream_learns_of_an_image_that_a_client_brings() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let config = world.push(&repository, b"{}").await.unwrap();
    let image = json!({ "schemaVersion": 2, "config": descriptor(&config, 2), "layers": [] });
    let text = image.to_string();
    let child = json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": sha256(text.as_bytes()), "size": text.len() });
    let index = json!({ "schemaVersion": 2, "manifests": [child] });
    let index = put(&world, &repository, MediaType::OCI_INDEX, &index, true).await.unwrap().digest;
    for is_there in [false, true] {
        if is_there {
            put(&world, &repository, MediaType::OCI_MANIFEST, &image, false).await.unwrap();
        }
        let reference = Reference::Digest(index.clone());
        let held = world.registry.manifest_info(&repository, &reference).await.unwrap();
        assert_eq!(held.image_size, if is_there { 2 } else { 0 });
    }
}
