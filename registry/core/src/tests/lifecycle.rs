//! Lifecycle policies take what their rules say, and neither what runs nor what an index names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use registry_types::{Digest, MediaType, Reference};
use serde_json::{Value, json};

use super::support::{World, sha256};
use crate::{
    CoreError, ManifestPush, PinnedDigests, Pins, PreviewQuery, PreviewState, PushTarget, RegistryConfig,
    Repository, Source,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What runs, as a test says.
#[derive(Default)]
struct Running(Mutex<Option<PinnedDigests>>);

#[async_trait]
impl Pins for Running {
    async fn pinned_digests(&self) -> Result<PinnedDigests, Source> {
        self.0.lock().clone().ok_or_else(|| "nobody can tell".into())
    }
}

impl Running {
    fn connect(world: &World) -> Arc<Self> {
        let running = Arc::new(Self(Mutex::new(Some(PinnedDigests::new()))));
        world.registry.connect_pins(Arc::clone(&running) as _);
        running
    }

    fn set(&self, repository: &Repository, digests: &[&Digest]) {
        let pins = digests.iter().map(|digest| (repository.name.clone(), (*digest).clone()));
        *self.0.lock() = Some(pins.collect());
    }
}

async fn world() -> World {
    World::new(RegistryConfig {
        garbage_drain_ms: 0,
        gc_grace_ms: 0,
        lifecycle_interval_ms: 0,
        ..RegistryConfig::default()
    })
    .await
}

/// Puts a manifest, whose own digest is its reference without a tag.
async fn put(world: &World, repository: &Repository, tag: Option<&str>, manifest: &Value) -> Digest {
    let bytes = Bytes::from(manifest.to_string());
    let digest = sha256(&bytes);
    let push = ManifestPush {
        target: &PushTarget::Existing(repository.clone()),
        reference: tag.map_or(Reference::Digest(digest.clone()), |tag| Reference::Tag(tag.parse().unwrap())),
        tags: Vec::new(),
        content_type: manifest["mediaType"].as_str().unwrap(),
        bytes,
    };
    world.registry.put_manifest(push).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    digest
}

/// An image of one layer with this content.
async fn image(world: &World, repository: &Repository, tag: Option<&str>, layer: &str) -> Digest {
    put(world, repository, tag, &image_manifest(world, repository, layer, None).await).await
}

async fn image_manifest(
    world: &World,
    repository: &Repository,
    layer: &str,
    subject: Option<(&Digest, usize)>,
) -> Value {
    let config = world.push(repository, b"{}").await.unwrap();
    let content = world.push(repository, layer.as_bytes()).await.unwrap();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": { "mediaType": "application/x", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/x", "digest": content, "size": layer.len() }],
    });
    if let Some((digest, size)) = subject {
        manifest["subject"] = json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size });
    }
    manifest
}

fn policy(rules: &[Value]) -> String {
    json!({ "rules": rules }).to_string()
}

fn keep_one(tag_status: &str) -> String {
    policy(&[json!({
        "rulePriority": 1,
        "selection": { "tagStatus": tag_status, "countType": "imageCountMoreThan", "countNumber": 1 },
        "action": { "type": "expire" },
    })])
}

/// Applies what is due; the digests that went.
async fn apply(world: &World) -> Result<BTreeSet<Digest>, CoreError> {
    let mut gone = BTreeSet::new();
    world.clock.advance(Duration::from_millis(1));
    let Some(mut run) = world.registry.begin_lifecycle_run().await? else { return Ok(gone) };
    while let Some(mut waiting) = run.next().await? {
        while let Some(image) = waiting.pop() {
            if let Some(artifacts) = run.expire(&image).await? {
                gone.insert(image.digest);
                waiting.extend(artifacts);
            }
        }
    }
    run.finish().await?;
    Ok(gone)
}

async fn is_there(world: &World, repository: &Repository, digest: &Digest) -> bool {
    world.registry.manifest_info(repository, &Reference::Digest(digest.clone())).await.is_ok()
}

#[tokio::test]
async fn images_go_by_count_and_by_age_with_their_tags() {
    let world = world().await;
    let repository = world.repository("app").await;
    let mut images = Vec::new();
    for n in 0..4 {
        images.push(image(&world, &repository, Some(&format!("v{n}")), &format!("layer {n}")).await);
    }
    let rules = |count: i64| {
        let tagged = json!({ "tagStatus": "tagged", "tagPatternList": ["v*"],
            "countType": "imageCountMoreThan", "countNumber": count });
        let old = json!({ "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 3 });
        let rule = |priority: i64, selection: Value| {
            json!({ "rulePriority": priority, "selection": selection,
            "action": { "type": "expire" } })
        };
        policy(&[rule(1, tagged), rule(2, old)])
    };
    world.registry.set_lifecycle_policy(&repository, &rules(3)).await.unwrap();
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([images[0].clone()]));
    let gone = world.registry.manifest_info(&repository, &"v0".parse().unwrap()).await;
    assert!(matches!(gone, Err(CoreError::ManifestNotFound)));
    assert!(world.registry.lifecycle_policy(&repository).await.unwrap().unwrap().evaluated_at_ms.is_some());

    // The same images, too old now, but claimed by the rule that counts.
    world.clock.advance(4 * DAY);
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::new());
    let untagged = image(&world, &repository, None, "untagged").await;
    world.clock.advance(2 * DAY);
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::new());
    world.clock.advance(DAY + Duration::from_millis(1));
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([untagged]));
    world.registry.delete_lifecycle_policy(&repository).await.unwrap().unwrap();
    assert!(apply(&world).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_runs_or_is_about_to_stays() {
    let world = world().await;
    let running = Running::connect(&world);
    let repository = world.repository("app").await;
    let old = image(&world, &repository, None, "old").await;
    let older = image(&world, &repository, None, "older").await;
    image(&world, &repository, None, "newest").await;
    world.registry.set_lifecycle_policy(&repository, &keep_one("untagged")).await.unwrap();

    running.set(&repository, &[&old]);
    // About to run: resolved a moment ago, and not yet among what runs.
    let about = Reference::Digest(older.clone());
    assert_eq!(world.registry.resolve(&repository, &about).await.unwrap(), older);
    world.clock.advance(Duration::from_millis(1));
    let mut run = world.registry.begin_lifecycle_run().await.unwrap().unwrap();
    assert_eq!(run.next().await.unwrap(), Some(Vec::new()), "nothing is announced that stays");
    run.finish().await.unwrap();
    assert!(apply(&world).await.unwrap().is_empty());

    world.clock.advance(Duration::from_secs(16 * 60));
    *running.0.lock() = None;
    assert!(matches!(apply(&world).await, Err(CoreError::Unavailable(_))), "who cannot tell keeps all");
    world.clock.advance(Duration::from_secs(11 * 60));
    running.set(&repository, &[&old]);
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([older]));
    running.set(&repository, &[]);
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([old]));
}

#[tokio::test]
async fn the_content_of_an_image_that_runs_outlives_its_manifest() {
    let world = world().await;
    let running = Running::connect(&world);
    let repository = world.repository("app").await;
    let child_manifest = image_manifest(&world, &repository, "child", None).await;
    let child = put(&world, &repository, None, &child_manifest).await;
    let index = put(
        &world,
        &repository,
        Some("v1"),
        &json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_INDEX,
            "manifests": [{ "mediaType": MediaType::OCI_MANIFEST, "digest": child, "size": child_manifest.to_string().len() }],
        }),
    )
    .await;
    let objects = world.objects().await.len();
    running.set(&repository, &[&index]);
    world.registry.delete_manifest(&repository, &index).await.unwrap();
    world.registry.delete_manifest(&repository, &child).await.unwrap();
    let collect = async || {
        world.clock.advance(Duration::from_millis(1));
        for _ in 0..4 {
            world.registry.collect_garbage().await.unwrap();
        }
        world.objects().await.len()
    };
    assert_eq!(collect().await, objects, "the layers of an image that runs stay, through its index too");
    assert!(!is_there(&world, &repository, &index).await, "and nothing of it is to be seen");
    let layer = sha256(b"child");
    assert_eq!(world.read(&repository, &layer).await.unwrap(), b"child");

    // Pushed again without its layers, and deleted for good.
    put(&world, &repository, None, &child_manifest).await;
    assert_eq!(collect().await, objects);
    world.registry.delete_manifest(&repository, &child).await.unwrap();
    running.set(&repository, &[]);
    assert_eq!(collect().await, 0);
}

#[tokio::test]
async fn an_index_keeps_its_images_and_artifacts_go_with_their_subject() {
    let world = world().await;
    let repository = world.repository("app").await;
    let manifest = image_manifest(&world, &repository, "platform", None).await;
    let platform = put(&world, &repository, None, &manifest).await;
    let index_manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": [{ "mediaType": MediaType::OCI_MANIFEST, "digest": platform, "size": manifest.to_string().len() }],
    });
    let index = put(&world, &repository, Some("v1"), &index_manifest).await;
    let subject = Some((&index, index_manifest.to_string().len()));
    let signature_manifest = image_manifest(&world, &repository, "signature", subject).await;
    let signature = put(&world, &repository, None, &signature_manifest).await;
    let nested = Some((&signature, signature_manifest.to_string().len()));
    let attested = image_manifest(&world, &repository, "signature of the signature", nested).await;
    let attested = put(&world, &repository, None, &attested).await;
    let latest = image(&world, &repository, Some("v2"), "next").await;

    world.registry.set_lifecycle_policy(&repository, &keep_one("untagged")).await.unwrap();
    assert!(apply(&world).await.unwrap().is_empty(), "artifacts and parts of an index are kept by both");
    world.registry.set_lifecycle_policy(&repository, &keep_one("any")).await.unwrap();
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([index, signature, attested]));
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([platform]), "no index names it any more");
    assert!(is_there(&world, &repository, &latest).await);
}

#[tokio::test]
async fn a_policy_that_changes_while_it_is_applied_takes_nothing_more() {
    let world = world().await;
    let repository = world.repository("app").await;
    let mut images = Vec::new();
    for n in 0..3 {
        images.push(image(&world, &repository, None, &format!("layer {n}")).await);
    }
    world.registry.set_lifecycle_policy(&repository, &keep_one("any")).await.unwrap();
    let mut run = world.registry.begin_lifecycle_run().await.unwrap().unwrap();
    assert!(world.registry.begin_lifecycle_run().await.unwrap().is_none(), "one server is at it");
    let expiring = run.next().await.unwrap().unwrap();
    assert_eq!(expiring.len(), 2);
    assert!(run.expire(&expiring[0]).await.unwrap().is_some());
    world.registry.set_lifecycle_policy(&repository, &keep_one("untagged")).await.unwrap();
    assert!(run.expire(&expiring[1]).await.unwrap().is_none());
    assert!(is_there(&world, &repository, &expiring[1].digest).await);
    run.finish().await.unwrap();
    assert!(world.registry.lifecycle_policy(&repository).await.unwrap().unwrap().evaluated_at_ms.is_none());
    // Whoever dies in the middle is followed by another, later.
    let dead = world.registry.begin_lifecycle_run().await.unwrap().unwrap();
    drop(dead);
    assert!(world.registry.begin_lifecycle_run().await.unwrap().is_none());
    world.clock.advance(Duration::from_secs(601));
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([expiring[1].digest.clone()]));
    // The policy goes with its repository.
    world.registry.delete_repository(&repository.uid, true).await.unwrap();
    assert!(!world.registry.is_lifecycle_due().await.unwrap());
}

#[tokio::test]
async fn a_preview_shows_what_would_go_and_takes_nothing() {
    let world = world().await;
    let running = Running::connect(&world);
    let repository = world.repository("app").await;
    let mut images = Vec::new();
    for n in 0..4 {
        images.push(image(&world, &repository, Some(&format!("v{n}")), &format!("layer {n}")).await);
    }
    running.set(&repository, &[&images[1]]);
    let query = || PreviewQuery::Page { after: String::new(), limit: 1 };
    let missing = world.registry.lifecycle_preview(&repository, query()).await;
    assert!(matches!(missing, Err(CoreError::LifecyclePreviewNotFound)));
    let unset = world.registry.start_lifecycle_preview(&repository, None).await;
    assert!(matches!(unset, Err(CoreError::LifecyclePolicyNotFound)));
    world.registry.start_lifecycle_preview(&repository, Some(keep_one("any"))).await.unwrap();
    let twice = world.registry.start_lifecycle_preview(&repository, Some(keep_one("any"))).await;
    assert!(matches!(twice, Err(CoreError::LifecyclePreviewInProgress)));
    assert_eq!(
        world.registry.lifecycle_preview(&repository, query()).await.unwrap().state,
        PreviewState::InProgress
    );
    assert!(world.registry.compute_lifecycle_preview().await.unwrap());
    assert!(!world.registry.compute_lifecycle_preview().await.unwrap());

    let first = world.registry.lifecycle_preview(&repository, query()).await.unwrap();
    assert_eq!((first.state, first.expiring, first.images.items.len()), (PreviewState::Complete, 2, 1));
    let next = PreviewQuery::Page { after: first.images.next.unwrap(), limit: 9 };
    let second = world.registry.lifecycle_preview(&repository, next).await.unwrap();
    let shown: BTreeSet<Digest> =
        first.images.items.iter().chain(&second.images.items).map(|image| image.digest.clone()).collect();
    assert_eq!(shown, BTreeSet::from([images[0].clone(), images[2].clone()]));
    let named = PreviewQuery::Only(images.iter().skip(1).cloned().collect());
    let named = world.registry.lifecycle_preview(&repository, named).await.unwrap().images;
    assert_eq!((named.items.len(), &named.items[0].digest, named.next), (1, &images[2], None));
    for image in &images {
        assert!(is_there(&world, &repository, image).await);
    }
    world.clock.advance(DAY + Duration::from_secs(1));
    world.registry.compute_lifecycle_preview().await.unwrap();
    let old = world.registry.lifecycle_preview(&repository, query()).await.unwrap();
    assert_eq!((old.state, old.images.items.len()), (PreviewState::Expired, 0));
}

#[tokio::test]
async fn an_image_with_very_many_tags_goes_like_any_other() {
    let world = world().await;
    let _running = Running::connect(&world);
    let repository = world.repository("app").await;
    let manifest = image_manifest(&world, &repository, "never changes", None).await;
    let bytes = Bytes::from(manifest.to_string());
    for hundred in 0..11 {
        let push = ManifestPush {
            target: &PushTarget::Existing(repository.clone()),
            reference: Reference::Digest(sha256(&bytes)),
            tags: (0..100).map(|one| format!("commit-{hundred}-{one}").parse().unwrap()).collect(),
            content_type: MediaType::OCI_MANIFEST,
            bytes: bytes.clone(),
        };
        world.registry.put_manifest(push).await.unwrap();
    }
    world.clock.advance(Duration::from_millis(1));
    // Seen after it or before it, as their digests are.
    let older = image(&world, &repository, Some("new"), "newer").await;
    let kept = image(&world, &repository, Some("commit-0-0"), "newest").await;
    world.registry.set_lifecycle_policy(&repository, &keep_one("any")).await.unwrap();
    assert_eq!(apply(&world).await.unwrap(), BTreeSet::from([sha256(&bytes), older]));
    assert!(is_there(&world, &repository, &kept).await);
}
