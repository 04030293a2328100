use registry_types::MediaType;

use super::{World, digest, domain, key, manifest, uid};
use crate::scrubs::{self, FindingKind};
use crate::{
    Content, ContentKind, ReferrerKey, blobs, garbage, liveness, manifests, referrers, repairs, tags,
};

/// What the manifests of these tests name.
fn contents() -> Vec<Content> {
    let part = |kind, byte| Content {
        kind,
        digest: digest(byte),
        media_type: MediaType::from_content_type("application/x"),
        size: 3,
    };
    vec![part(ContentKind::Config, 20), part(ContentKind::Layer, 21), part(ContentKind::Child, 22)]
}

#[tokio::test]
async fn the_last_key_wins_and_names_the_object_it_replaces() {
    let world = World::new().await;
    let put = |file: u8| world.write(move |tx| blobs::put_key(tx, &domain(), &digest(1), &key(file), 1));
    assert_eq!(put(1).await, None);
    assert_eq!(put(1).await, None);
    assert_eq!(put(2).await, Some([1; 16]));
    let found = world.write(|tx| blobs::key(tx, &domain(), &digest(1))).await;
    assert_eq!(found, Some(key(2)));
}

#[tokio::test]
async fn a_blob_is_visible_only_where_it_is_linked() {
    let world = World::new().await;
    world
        .write(|tx| {
            blobs::put_key(tx, &domain(), &digest(1), &key(1), 1)?;
            blobs::put_link(tx, &uid("a"), &digest(1), 10, 1)?;
            blobs::put_link(tx, &uid("a"), &digest(1), 10, 2)
        })
        .await;
    let visible = |repository: &'static str| {
        world.write(move |tx| Ok(blobs::visible_key(tx, &uid(repository), &domain(), &digest(1))?.is_some()))
    };
    assert!(visible("a").await);
    assert!(!visible("b").await);
    assert!(world.write(|tx| blobs::delete_link(tx, &uid("a"), &digest(1), 3)).await);
    assert!(!visible("a").await);
    assert!(!world.write(|tx| blobs::delete_link(tx, &uid("a"), &digest(1), 3)).await);
}

#[tokio::test]
async fn a_manifest_takes_its_tags_and_contents_with_it() {
    let world = World::new().await;
    world
        .write(move |tx| {
            let (repository, manifest) = (uid("r"), manifest(1, None));
            assert!(manifests::insert(tx, &repository, &manifest)?);
            assert!(!manifests::insert(tx, &repository, &manifest)?);
            manifests::insert_contents(tx, &repository, &manifest.digest, &contents())?;
            tags::put(tx, &repository, &"v1".parse().unwrap(), &manifest.digest, 1)?;
            tags::put(tx, &repository, &"v2".parse().unwrap(), &manifest.digest, 1)
        })
        .await;
    let found = world
        .write(|tx| {
            Ok((
                manifests::by_tag(tx, &uid("r"), &"v1".parse().unwrap())?,
                manifests::contents(tx, &uid("r"), &digest(1))?,
                manifests::parents(tx, &uid("r"), &digest(22), 2)?,
                manifests::parents(tx, &uid("r"), &digest(21), 2)?,
                tags::of_digest(tx, &uid("r"), &digest(1), 10)?.len(),
            ))
        })
        .await;
    assert_eq!(found, (Some(manifest(1, None)), contents(), vec![digest(1)], vec![], 2));
    world.write(|tx| manifests::delete(tx, &uid("r"), &manifest(1, None), 9)).await;
    // What it names stays pinned until it is let go of.
    for kept in [contents().len(), 0] {
        let left = world
            .write(|tx| {
                Ok((
                    manifests::by_tag(tx, &uid("r"), &"v1".parse().unwrap())?.is_some(),
                    manifests::parents(tx, &uid("r"), &digest(22), 2)?.len(),
                    tags::list_after(tx, &uid("r"), "", 10)?.len(),
                    manifests::contents(tx, &uid("r"), &digest(1))?.len(),
                    manifests::is_named(tx, &uid("r"), &digest(22))?,
                    liveness::is_live(tx, &digest(1))?,
                ))
            })
            .await;
        assert_eq!(left, (false, 0, 0, kept, kept > 0, kept > 0));
        let retired = world.write(|tx| manifests::retired_after(tx, None, 10)).await;
        assert_eq!(retired.len(), usize::from(kept > 0));
        assert_eq!(world.write(|tx| manifests::release(tx, &uid("r"), &digest(1), 9)).await, kept > 0);
    }
}

#[tokio::test]
async fn a_manifest_that_is_pushed_again_pins_its_contents_once() {
    let world = World::new().await;
    for _ in 0..2 {
        world
            .write(|tx| {
                assert!(manifests::insert(tx, &uid("r"), &manifest(1, None))?);
                manifests::insert_contents(tx, &uid("r"), &digest(1), &contents())?;
                manifests::delete(tx, &uid("r"), &manifest(1, None), 9)
            })
            .await;
    }
    world
        .write(|tx| {
            assert!(manifests::insert(tx, &uid("r"), &manifest(1, None))?);
            manifests::insert_contents(tx, &uid("r"), &digest(1), &contents())?;
            assert!(!manifests::release(tx, &uid("r"), &digest(1), 9)?);
            assert_eq!(manifests::contents(tx, &uid("r"), &digest(1))?, contents());
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn a_long_list_of_contents_keeps_its_order() {
    let world = World::new().await;
    for count in [8, 9, 16, 23] {
        let mut many = contents();
        many.extend((0..count - 3).map(|n| Content {
            size: n,
            digest: digest(100 - n as u8),
            ..contents()[1].clone()
        }));
        let named = many.clone();
        let read = world
            .write(move |tx| {
                manifests::insert_contents(tx, &uid("r"), &digest(count as u8), &named)?;
                manifests::contents(tx, &uid("r"), &digest(count as u8))
            })
            .await;
        assert_eq!(read, many);
    }
}

#[tokio::test]
async fn referrers_are_filtered_and_paged_by_key() {
    let world = World::new().await;
    for byte in 1..=6u8 {
        world
            .write(move |tx| {
                let referrer = ReferrerKey {
                    digest: digest(byte),
                    media_type: MediaType::from_content_type(MediaType::OCI_MANIFEST),
                    size: 1,
                    artifact_type: if byte % 2 == 0 { "even".into() } else { String::new() },
                    annotations_len: 3,
                };
                referrers::insert(tx, &uid("r"), &digest(99), &referrer, Some(&[byte]))
            })
            .await;
    }
    let (all, even, sealed) = world
        .write(|tx| {
            Ok((
                referrers::list_after(tx, &uid("r"), &digest(99), digest(2).as_str(), 3)?,
                referrers::list_of_type_after(tx, &uid("r"), &digest(99), "even", digest(2).as_str(), 9)?,
                referrers::annotations(tx, &uid("r"), &digest(99), &digest(4))?,
            ))
        })
        .await;
    let digests = |keys: &[ReferrerKey]| keys.iter().map(|key| key.digest.clone()).collect::<Vec<_>>();
    assert_eq!(digests(&all), [digest(3), digest(4), digest(5)]);
    assert_eq!(digests(&even), [digest(4), digest(6)]);
    assert_eq!(sealed, Some(vec![4]));
}

#[tokio::test]
async fn condemned_objects_are_listed_until_they_are_forgotten() {
    let world = World::new().await;
    world
        .write(|tx| {
            for file in [3u8, 1, 2, 1] {
                garbage::condemn(tx, &[file; 16], 5)?;
            }
            repairs::put(tx, &[1; 16], "replica", &domain(), &digest(1), 5)
        })
        .await;
    let page = world.write(|tx| garbage::condemned_after(tx, &[1; 16], 10)).await;
    assert_eq!(page, [[2; 16], [3; 16]]);
    world.write(|tx| garbage::forget(tx, &[2; 16], &["away".to_owned()], 9)).await;
    // What a status counts.
    let counts = world.write(|tx| {
        Ok([
            repairs::count(tx, "replica", 10)?,
            repairs::count(tx, "away", 10)?,
            garbage::count_removals(tx, "away", 10)?,
            garbage::count_removals(tx, "away", 0)?,
            scrubs::count_open(tx, FindingKind::Damaged, 10)?,
        ])
    });
    assert_eq!(counts.await, [1, 0, 1, 0, 0]);
    let page = world.write(|tx| garbage::condemned_after(tx, &[], 10)).await;
    assert_eq!(page, [[1; 16], [3; 16]]);
}

#[tokio::test]
async fn a_condemned_key_that_somebody_links_again_is_revived() {
    let world = World::new().await;
    world.write(|tx| blobs::put_key(tx, &domain(), &digest(1), &key(1), 1)).await;
    let dead = world.write(|tx| liveness::object_key_of(tx, &domain(), &digest(1))).await.unwrap();
    let condemned = dead.clone();
    assert!(world.write(move |tx| liveness::condemn_key(tx, &condemned, 1)).await);
    world.write(|tx| blobs::put_link(tx, &uid("r"), &digest(1), 10, 2)).await;
    let ripe = dead.clone();
    assert!(!world.write(move |tx| liveness::delete_condemned_key(tx, &ripe, 3)).await);
    assert!(world.write(|tx| blobs::key(tx, &domain(), &digest(1))).await.is_some());
    assert!(world.write(|tx| liveness::condemned_after(tx, None, 10)).await.is_empty());
    assert!(!world.write(move |tx| liveness::condemn_key(tx, &dead, 4)).await);
}

#[tokio::test]
async fn a_condemnation_ends_with_the_object_it_was_meant_for() {
    let world = World::new().await;
    world.write(|tx| blobs::put_key(tx, &domain(), &digest(1), &key(1), 1)).await;
    let dead = world.write(|tx| liveness::object_key_of(tx, &domain(), &digest(1))).await.unwrap();
    let condemned = dead.clone();
    world.write(move |tx| liveness::condemn_key(tx, &condemned, 1)).await;
    // Pushed anew, and its link deleted again.
    world.write(|tx| blobs::put_key(tx, &domain(), &digest(1), &key(2), 2)).await;
    assert!(!world.write(move |tx| liveness::delete_condemned_key(tx, &dead, 3)).await);
    assert_eq!(world.write(|tx| blobs::key(tx, &domain(), &digest(1))).await, Some(key(2)));
}
