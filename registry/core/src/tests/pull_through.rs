//! Rules of upstreams, and what comes by them.

use bytes::Bytes;
use registry_runtime::SecretString;
use registry_types::{MediaType, Tag};
use serde_json::{Value, json};

use super::support::{World, sha256};
use crate::{
    CoreError, ManifestPush, NewRule, PullThroughRule, PushTarget, PushedManifest, Quota, RegistryConfig,
    Repository, UpstreamCredentials,
};

fn rule(prefix: &str) -> PullThroughRule {
    PullThroughRule {
        prefix: prefix.to_owned(),
        upstream_url: "registry.example".to_owned(),
        upstream_registry: None,
        upstream_prefix: String::new(),
        credentials: None,
        created_at_ms: 0,
        updated_at_ms: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_one_a_prefix_and_their_credentials_open_for_them_alone() {
    let world = World::new(RegistryConfig::default()).await;
    let registry = &world.registry;
    assert!(matches!(registry.create_pull_through_rule(rule("hub")).await.unwrap(), NewRule::Made(made)
        if made.created_at_ms == 1_000_000));
    assert!(matches!(registry.create_pull_through_rule(rule("hub")).await.unwrap(), NewRule::Exists));
    let password = || SecretString::new("a secret".to_owned());
    let credentials = UpstreamCredentials { username: "me".to_owned(), password: password() };
    assert!(registry.set_upstream_credentials("other", Some(credentials.clone())).await.unwrap().is_none());
    registry.set_upstream_credentials("hub", Some(credentials)).await.unwrap().unwrap();
    let rules = registry.pull_through_rules().await.unwrap();
    let stored = rules[0].credentials.as_ref().unwrap();
    assert_eq!((stored.username.as_str(), stored.password.expose()), ("me", "a secret"));
    assert!(!format!("{rules:?}").contains("a secret"), "{rules:?}");
    assert!(registry.set_upstream_credentials("hub", None).await.unwrap().unwrap().credentials.is_none());
    for number in 1..50 {
        let made = registry.create_pull_through_rule(rule(&format!("hub{number:02}"))).await.unwrap();
        assert!(matches!(made, NewRule::Made(_)), "{number}");
    }
    let one_more = registry.create_pull_through_rule(rule("more")).await.unwrap();
    assert!(matches!(one_more, NewRule::TooMany { limit: 50 }));
    assert!(registry.delete_pull_through_rule("hub").await.unwrap().is_some());
    assert!(registry.delete_pull_through_rule("hub").await.unwrap().is_none());
}

/// Who pushes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Client,
    Upstream,
}

fn image(layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/x", "digest": sha256(b"{}"), "size": 2 },
        "layers": [{ "mediaType": "application/x", "digest": sha256(layer), "size": layer.len() }],
    })
}

fn index(images: &[&Value]) -> Value {
    let manifests: Vec<Value> = images.iter().map(|image| descriptor(image)).collect();
    json!({ "schemaVersion": 2, "manifests": manifests })
}

fn descriptor(manifest: &Value) -> Value {
    let text = manifest.to_string();
    json!({ "mediaType": media_type(manifest), "digest": sha256(text.as_bytes()), "size": text.len() })
}

fn media_type(manifest: &Value) -> &'static str {
    if manifest["manifests"].is_array() { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST }
}

async fn put(
    world: &World,
    repository: &Repository,
    reference: &str,
    manifest: &Value,
    by: By,
) -> Result<PushedManifest, CoreError> {
    let push = ManifestPush {
        target: &PushTarget::Existing(repository.clone()),
        reference: reference.parse().unwrap(),
        tags: Vec::new(),
        content_type: media_type(manifest),
        bytes: Bytes::from(manifest.to_string()),
    };
    match by {
        By::Upstream => world.registry.put_upstream_manifest(push).await,
        By::Client => world.registry.put_manifest(push).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_an_upstream_comes_before_its_blobs_and_its_tag_is_known() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("hub/app").await;
    let latest: Tag = "latest".parse().unwrap();
    let checked = async || {
        let known = world.registry.upstream_tag(&repository, &latest).await.unwrap();
        known.and_then(|known| known.checked_at_ms)
    };
    let missing = put(&world, &repository, "latest", &image(b"layer"), By::Client).await;
    assert!(matches!(missing, Err(CoreError::ContentsMissing(_))), "{missing:?}");
    put(&world, &repository, "latest", &image(b"layer"), By::Upstream).await.unwrap();
    assert_eq!(checked().await, Some(1_000_000));
    let layer = sha256(b"layer");
    assert_eq!(world.registry.stated_size(&repository, &layer).await.unwrap(), Some(5));
    assert_eq!(world.registry.stated_size(&repository, &sha256(b"other")).await.unwrap(), None);
    // Named, and yet not visible before it came.
    assert!(matches!(world.registry.blob_info(&repository, &layer).await, Err(CoreError::BlobNotFound)));
    world.push(&repository, b"layer").await.unwrap();
    assert_eq!(world.read(&repository, &layer).await.unwrap(), b"layer");
    // The same tag, pushed by somebody: it is no upstream's any more, not even with the same image.
    world.push(&repository, b"{}").await.unwrap();
    let pinned = put(&world, &repository, "latest", &image(b"layer"), By::Client).await.unwrap();
    assert_eq!((pinned.changed, checked().await), (true, None));
    let again = put(&world, &repository, "latest", &image(b"layer"), By::Client).await.unwrap();
    assert!(!again.changed);
    world.push(&repository, b"own layer").await.unwrap();
    put(&world, &repository, "latest", &image(b"own layer"), By::Client).await.unwrap();
    assert_eq!(checked().await, None);
    // What a fetch brings that began before that push leaves the tag alone.
    put(&world, &repository, "latest", &image(b"layer"), By::Upstream).await.unwrap();
    assert_eq!(checked().await, None);
    let digest = world.registry.upstream_tag(&repository, &latest).await.unwrap().unwrap().digest;
    world.registry.note_upstream_tag(&repository, &latest, &layer).await.unwrap();
    assert_eq!(checked().await, None, "another digest than that of the tag");
    world.registry.note_upstream_tag(&repository, &latest, &digest).await.unwrap();
    assert_eq!(checked().await, Some(1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_takes_another_tag_before_its_contents_came() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("hub/app").await;
    let (here, elsewhere) = (image(b"here"), image(b"elsewhere"));
    let both = index(&[&here, &elsewhere]);
    for (tag, manifest) in [("latest", &both), ("here", &here)] {
        let new = put(&world, &repository, tag, manifest, By::Client).await;
        assert!(matches!(new, Err(CoreError::ContentsMissing(_))), "{new:?}");
        put(&world, &repository, tag, manifest, By::Upstream).await.unwrap();
        let tagged = put(&world, &repository, "prod", manifest, By::Client).await.unwrap();
        assert_eq!((tagged.created, tagged.changed), (false, true));
        let held = world.registry.manifest(&repository, &"prod".parse().unwrap()).await.unwrap();
        assert_eq!((held.digest, held.bytes), (tagged.digest, Bytes::from(manifest.to_string())));
    }
    // It makes nothing else visible, and nothing that is new may do without its contents.
    let layer = world.registry.blob_info(&repository, &sha256(b"here")).await;
    assert!(matches!(layer, Err(CoreError::BlobNotFound)), "{layer:?}");
    let other = put(&world, &repository, "prod", &index(&[&elsewhere]), By::Client).await;
    assert!(matches!(other, Err(CoreError::ContentsMissing(_))), "{other:?}");
    let digest = sha256(both.to_string().as_bytes());
    world.registry.delete_manifest(&repository, &digest).await.unwrap();
    let deleted = put(&world, &repository, "prod", &both, By::Client).await;
    assert!(matches!(deleted, Err(CoreError::ContentsMissing(_))), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_has_its_size_before_its_contents_came_and_an_index_that_of_the_largest() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("hub/app").await;
    world.registry.put_quota("", Quota { max_bytes: None, max_images: Some(10) }).await.unwrap();
    let size = async |reference: &str| {
        let found = world.registry.image(&repository, &reference.parse().unwrap()).await;
        found.unwrap().manifest.image_size
    };
    let (small, mut large) = (image(b"small"), image(b"the largest"));
    // Of a foreign layer nothing is here or will be.
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let layer = json!({ "mediaType": foreign, "digest": sha256(b"foreign"), "size": 1 << 30 });
    large["layers"].as_array_mut().unwrap().push(layer);
    let mut both = index(&[&small, &large]);
    // Build caches list layers in an index.
    let cached = json!({ "mediaType": "application/x", "digest": sha256(b"in"), "size": 2 });
    both["manifests"].as_array_mut().unwrap().push(cached);
    let outer = index(&[&both]);
    for (tag, index, expected) in [("outer", &outer, 0), ("both", &both, 2)] {
        put(&world, &repository, tag, index, By::Upstream).await.unwrap();
        assert_eq!(size(tag).await, expected, "{tag}");
    }
    for (image, own, largest) in [(&small, 7, 7), (&large, 13, 13)] {
        put(&world, &repository, "image", image, By::Upstream).await.unwrap();
        let sizes = (size("image").await, size("both").await, size("outer").await);
        assert_eq!(sizes, (own, largest, largest));
    }
    // What is stored is counted by itself.
    let stored: usize = [&small, &large, &both, &outer].iter().map(|one| one.to_string().len()).sum();
    let quotas = world.registry.quotas(None, 10).await.unwrap().items;
    assert_eq!(quotas[0].usage.bytes, stored as u64);
    // Deleted, and cached again when some of it is here.
    let digests = [&outer, &both, &large].map(|one| sha256(one.to_string().as_bytes()));
    for digest in &digests {
        world.registry.delete_manifest(&repository, digest).await.unwrap();
    }
    world.push(&repository, b"{}").await.unwrap();
    for (tag, manifest) in [("image", &large), ("both", &both)] {
        put(&world, &repository, tag, manifest, By::Upstream).await.unwrap();
        assert_eq!(size(tag).await, 13, "{tag}");
    }
    // What clients push here of an index that came.
    let pushed = image(b"pushed here");
    let around = index(&[&pushed]);
    put(&world, &repository, "around", &around, By::Upstream).await.unwrap();
    world.push(&repository, b"pushed here").await.unwrap();
    for (tag, manifest) in [("image", &pushed), ("around", &around)] {
        put(&world, &repository, tag, manifest, By::Client).await.unwrap();
        assert_eq!(size(tag).await, 13, "{tag}");
    }
}
