//! Images with many tags: none is left out, and there are only so many.

use bytes::Bytes;
use registry_types::{Digest, MediaType, Reference, Tag};
use serde_json::json;

use super::support::{World, sha256};
use crate::{CoreError, Limits, ManifestPush, PushTarget, RegistryConfig, Repository};

/// Pushes an image of no layer, `name` making it unlike others, with these tags.
async fn push(
    world: &World,
    repository: &Repository,
    name: &str,
    tags: &[String],
) -> Result<Digest, CoreError> {
    let config = world.push(repository, name.as_bytes()).await.unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "layers": [],
        "config": { "mediaType": "application/x", "digest": config, "size": name.len() },
    });
    let bytes = Bytes::from(manifest.to_string());
    let digest = sha256(&bytes);
    for tags in tags.chunks(100) {
        let push = ManifestPush {
            target: &PushTarget::Existing(repository.clone()),
            reference: Reference::Digest(digest.clone()),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            content_type: MediaType::OCI_MANIFEST,
            bytes: bytes.clone(),
        };
        world.registry.put_manifest(push).await?;
    }
    Ok(digest)
}

fn tags(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number:04}")).collect()
}

#[tokio::test]
async fn no_tag_of_an_image_is_left_out() {
    let world = World::new(RegistryConfig::default()).await;
    let repository = world.repository("app").await;
    let digest = push(&world, &repository, "one", &tags("t", 1100)).await.unwrap();
    let image = world.registry.image(&repository, &Reference::Digest(digest.clone())).await.unwrap();
    assert_eq!(image.tags.len(), 1100);
    let page = world.registry.images(&repository, "", 10).await.unwrap();
    assert_eq!((page.items, page.next), (vec![image], None));
    assert_eq!(world.registry.delete_manifest(&repository, &digest).await.unwrap().len(), 1100);
}

#[tokio::test]
async fn pages_end_early_where_images_have_many_tags_and_together_hold_all() {
    let limits = Limits { tags_per_image: 5, ..Limits::default() };
    let world = World::new(RegistryConfig { limits, ..RegistryConfig::default() }).await;
    let repository = world.repository("app").await;
    let mut expected: Vec<(Digest, Vec<Tag>)> = Vec::new();
    for (name, count) in [("a", 5), ("b", 1), ("c", 4), ("d", 5), ("e", 2), ("f", 1), ("g", 3)] {
        let tags = tags(name, count);
        let digest = push(&world, &repository, name, &tags).await.unwrap();
        expected.push((digest, tags.iter().map(|tag| tag.parse().unwrap()).collect()));
    }
    expected.sort();
    for limit in [1, 2, 3, 100] {
        let (mut after, mut listed) = (Some(String::new()), Vec::new());
        while let Some(from) = after {
            let page = world.registry.images(&repository, &from, limit).await.unwrap();
            assert!(!page.items.is_empty() && page.items.len() <= limit as usize);
            assert!(page.items.iter().map(|image| image.tags.len()).sum::<usize>() <= 5);
            listed.extend(page.items.into_iter().map(|image| (image.manifest.digest, image.tags)));
            after = page.next;
        }
        assert_eq!(listed, expected, "{limit}");
    }
}

#[tokio::test]
async fn an_image_has_only_so_many_tags() {
    let limits = Limits { tags_per_image: 5, ..Limits::default() };
    let world = World::new(RegistryConfig { limits, ..RegistryConfig::default() }).await;
    let repository = world.repository("app").await;
    let full = tags("t", 5);
    push(&world, &repository, "one", &full).await.unwrap();
    // What is there already may be pushed again, and another image may have what this one has.
    push(&world, &repository, "one", &full).await.unwrap();
    let refused = push(&world, &repository, "one", &tags("u", 1)).await.unwrap_err();
    assert!(matches!(refused, CoreError::TooManyTagsOfImage { limit: 5 }), "{refused}");
    let gone = world.registry.manifest_info(&repository, &"u-0000".parse().unwrap()).await;
    assert!(matches!(gone, Err(CoreError::ManifestNotFound)));
    push(&world, &repository, "two", &full[..1]).await.unwrap();
    push(&world, &repository, "one", &tags("u", 1)).await.unwrap();
}
