//! Whatever may make a link or a key unneeded puts it into the collector's queues, and nothing else is in them.

use super::{World, digest, domain, key, manifest, repository, uid};
use crate::candidates::{self, Walk, WalkPosition};
use crate::liveness::LinkKey;
use crate::{Content, ContentKind, blobs, epochs, garbage, liveness, manifests, repositories};
use registry_sql::params;
use registry_types::MediaType;

fn layer(byte: u8) -> Content {
    Content {
        kind: ContentKind::Layer,
        digest: digest(byte),
        media_type: MediaType::from_content_type("application/x"),
        size: 10,
    }
}

async fn links(world: &World, before_ms: i64) -> Vec<LinkKey> {
    world.write(move |tx| candidates::links(tx, before_ms, 10)).await
}

async fn digests(world: &World) -> Vec<registry_types::Digest> {
    world.write(|tx| candidates::digests(tx, 10)).await
}

fn link(repository: &str, byte: u8) -> LinkKey {
    LinkKey { repository: uid(repository), digest: digest(byte) }
}

#[tokio::test]
async fn a_link_is_a_candidate_until_a_manifest_names_it_and_again_when_that_is_let_go() {
    let world = World::new().await;
    world
        .write(|tx| {
            blobs::put_link(tx, &uid("r"), &digest(20), 10, 2)?;
            blobs::put_link(tx, &uid("r"), &digest(21), 10, 1)
        })
        .await;
    assert_eq!(links(&world, 3).await, [link("r", 21), link("r", 20)]);
    assert_eq!(links(&world, 2).await, [link("r", 21)], "the other one's grace is not over");
    world
        .write(|tx| {
            manifests::insert(tx, &uid("r"), &manifest(1, None))?;
            manifests::insert_contents(tx, &uid("r"), &digest(1), &[layer(20), layer(20), layer(22)])
        })
        .await;
    assert_eq!(links(&world, 3).await, [link("r", 21)]);
    world.write(|tx| manifests::delete(tx, &uid("r"), &manifest(1, None), 9)).await;
    assert_eq!(links(&world, 9).await, [link("r", 21)], "it is pinned still");
    assert!(digests(&world).await.is_empty());
    world.write(|tx| manifests::release(tx, &uid("r"), &digest(1), 9)).await;
    assert_eq!(links(&world, 9).await, [link("r", 21), link("r", 20)]);
    // The manifest itself, and what it named without a link.
    assert_eq!(digests(&world).await.len(), 2);
    assert!(!digests(&world).await.contains(&digest(20)));
}

#[tokio::test]
async fn a_settled_link_is_gone_or_no_candidate() {
    let world = World::new().await;
    world
        .write(|tx| {
            for byte in [20, 21] {
                blobs::put_link(tx, &uid("r"), &digest(byte), 10, 1)?;
            }
            manifests::insert(tx, &uid("r"), &manifest(1, None))?;
            manifests::insert_contents(tx, &uid("r"), &digest(1), &[layer(22)])?;
            blobs::put_link(tx, &uid("r"), &digest(22), 10, 1)?;
            // Somebody relies on this one meanwhile.
            liveness::note_link(tx, &uid("r"), &digest(21), 7)
        })
        .await;
    let settled = world
        .write(|tx| {
            let mut settled = Vec::new();
            for byte in [20, 21, 22] {
                settled.push(candidates::settle_link(tx, &link("r", byte), 5, 8)?);
            }
            Ok(settled)
        })
        .await;
    assert_eq!(settled, [true, false, false]);
    assert_eq!(links(&world, 9).await, [link("r", 21)]);
    assert_eq!(digests(&world).await, [digest(20)]);
}

#[tokio::test]
async fn a_digest_is_settled_by_what_is_true() {
    let world = World::new().await;
    world
        .write(|tx| {
            epochs::note(tx, &domain(), 1, 1)?;
            for byte in [20, 21] {
                blobs::put_key(tx, &domain(), &digest(byte), &key(byte), 1)?;
                for name in ["a", "b"] {
                    blobs::put_link(tx, &uid(name), &digest(byte), 10, 1)?;
                }
                blobs::delete_link(tx, &uid("a"), &digest(byte), 3 + i64::from(byte))?;
            }
            blobs::delete_link(tx, &uid("b"), &digest(20), 90)
        })
        .await;
    assert_eq!(digests(&world).await, [digest(21), digest(20)], "oldest first, each once");
    let condemned = world
        .write(|tx| {
            Ok([
                candidates::settle_digest(tx, &digest(21), 9)?,
                candidates::settle_digest(tx, &digest(20), 9)?,
                candidates::settle_digest(tx, &digest(99), 9)?,
            ])
        })
        .await;
    assert_eq!(condemned, [false, true, false]);
    assert!(digests(&world).await.is_empty());
    let keys = world.write(|tx| liveness::condemned_after(tx, None, 10)).await;
    assert_eq!(keys.iter().map(|key| key.digest.clone()).collect::<Vec<_>>(), [digest(20)]);
}

#[tokio::test]
async fn what_a_deleted_repository_held_becomes_a_candidate() {
    let world = World::new().await;
    world
        .write(|tx| {
            repositories::insert(tx, &repository("app"))?;
            blobs::put_link(tx, &uid("uid-app"), &digest(20), 10, 1)?;
            manifests::insert(tx, &uid("uid-app"), &manifest(1, None))?;
            manifests::insert(tx, &uid("uid-app"), &manifest(2, None))?;
            manifests::insert_contents(tx, &uid("uid-app"), &digest(1), &[layer(20), layer(21)])?;
            manifests::delete(tx, &uid("uid-app"), &manifest(2, None), 2)?;
            repositories::delete(tx, &uid("uid-app"), 3)
        })
        .await;
    while !world.write(|tx| garbage::purge_repository(tx, &uid("uid-app"), 1, 4)).await {}
    let mut found = digests(&world).await;
    found.sort();
    let mut expected = vec![digest(1), digest(2), digest(20), digest(21)];
    expected.sort();
    assert_eq!(found, expected);
    assert!(links(&world, 99).await.is_empty());
}

#[tokio::test]
async fn walks_find_page_by_page_what_nobody_noted() {
    let world = World::new().await;
    world
        .write(|tx| {
            for byte in 0..5 {
                blobs::put_key(tx, &domain(), &digest(byte), &key(byte), 1)?;
                if byte > 0 {
                    let name = if byte < 3 { "a" } else { "b" };
                    blobs::put_link(tx, &uid(name), &digest(byte), 1, 1)?;
                    manifests::insert_contents(tx, &uid(name), &digest(100 + byte), &[layer(byte)])?;
                }
            }
            // As an older release left it.
            blobs::put_link(tx, &uid("c"), &digest(9), 1, 1)?;
            tx.execute("UPDATE blob_links SET is_candidate = 0", params![])?;
            Ok(())
        })
        .await;
    let (seen, links, digests) = world
        .write(|tx| {
            let (mut seen, mut links, mut digests) = (0, Vec::new(), Vec::new());
            for walk in Walk::ALL {
                let mut position = candidates::walk_position(tx, walk)?;
                assert_eq!(position, WalkPosition::default());
                loop {
                    let page = candidates::walk_page(tx, walk, &position, 2)?;
                    candidates::note_found(tx, &page, 7)?;
                    seen += page.seen;
                    links.extend(page.links);
                    digests.extend(page.digests);
                    let Some((container, digest)) = page.last else { break };
                    position = WalkPosition { container, digest, due_at_ms: 5 };
                    candidates::set_walk_position(tx, walk, &position)?;
                    assert_eq!(candidates::walk_position(tx, walk)?, position);
                }
            }
            Ok((seen, links, digests))
        })
        .await;
    assert_eq!((seen, links, digests), (10, vec![link("c", 9)], vec![digest(0)]));
    assert_eq!(world.write(|tx| candidates::count(tx, 10)).await, 2);
    let again = world.write(|tx| candidates::walk_page(tx, Walk::Keys, &WalkPosition::default(), 10)).await;
    assert!(again.digests.is_empty(), "what is known is not found again");
}
