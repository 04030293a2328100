//! Usage follows every row, and quotas follow the usage of what they cover.

use super::{World, digest, manifest, repository, uid};
use crate::{Quota, Usage, blobs, liveness, manifests, quotas, repositories};

/// The usage that the quota of `prefix` states.
async fn counted(world: &World, prefix: &'static str) -> Usage {
    let all = world.write(|tx| quotas::list_after(tx, None, 100)).await;
    all.into_iter().find(|(own, ..)| own == prefix).map(|(_, _, usage)| usage).unwrap()
}

#[tokio::test]
async fn usage_is_counted_for_every_prefix_above() {
    let world = World::new().await;
    world
        .write(|tx| {
            repositories::insert(tx, &repository("team/app"))?;
            repositories::insert(tx, &repository("teams"))?;
            blobs::put_link(tx, &uid("uid-team/app"), &digest(1), 10, 1)?;
            // What is there already is added up when a quota is made.
            for prefix in ["", "team", "team/app", "other"] {
                quotas::put(tx, prefix, Quota { max_bytes: Some(100), max_images: None })?;
            }
            assert!(blobs::put_link(tx, &uid("uid-team/app"), &digest(2), 5, 1)?);
            assert!(!blobs::put_link(tx, &uid("uid-team/app"), &digest(2), 5, 2)?);
            assert!(blobs::put_link(tx, &uid("uid-teams"), &digest(2), 5, 1)?);
            assert!(manifests::insert(tx, &uid("uid-teams"), &manifest(9, None))?);
            Ok(())
        })
        .await;
    let size = manifest(9, None).size;
    for (prefix, bytes, images) in [("", 20 + size, 1), ("team", 15, 0), ("team/app", 15, 0), ("other", 0, 0)]
    {
        assert_eq!(counted(&world, prefix).await, Usage { bytes, images }, "{prefix:?}");
    }
    world
        .write(|tx| {
            let names = |name: &str| -> Vec<String> {
                let covering = quotas::covering(tx, &name.parse().unwrap()).unwrap();
                covering.into_iter().map(|(prefix, ..)| prefix).collect()
            };
            assert_eq!(names("team/app"), ["", "team", "team/app"]);
            assert_eq!(names("team/app/x"), ["", "team", "team/app"]);
            assert_eq!(names("teams"), [""]);
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn what_goes_counts_no_more() {
    let world = World::new().await;
    world
        .write(|tx| {
            repositories::insert(tx, &repository("app"))?;
            quotas::put(tx, "", Quota::default())?;
            for byte in 1..=3 {
                blobs::put_link(tx, &uid("uid-app"), &digest(byte), 10, 1)?;
            }
            manifests::insert(tx, &uid("uid-app"), &manifest(9, None))?;
            assert!(blobs::delete_link(tx, &uid("uid-app"), &digest(1), 6)?);
            assert!(!blobs::delete_link(tx, &uid("uid-app"), &digest(1), 6)?);
            assert!(liveness::delete_stale_link(tx, &uid("uid-app"), &digest(2), 5, 6)?);
            assert!(manifests::delete(tx, &uid("uid-app"), &manifest(9, None), 9)?);
            assert!(!manifests::delete(tx, &uid("uid-app"), &manifest(9, None), 9)?);
            assert_eq!(quotas::usage(tx, &uid("uid-app"))?, Usage { bytes: 10, images: 0 });
            Ok(())
        })
        .await;
    assert_eq!(counted(&world, "").await, Usage { bytes: 10, images: 0 });
    world.write(|tx| repositories::delete(tx, &uid("uid-app"), 1)).await;
    assert_eq!(counted(&world, "").await, Usage::default());
    // What is left of a deleted repository is removed later, and counts no second time.
    world.write(|tx| blobs::delete_link(tx, &uid("uid-app"), &digest(3), 6)).await;
    assert_eq!(counted(&world, "").await, Usage::default());
    assert!(world.write(|tx| quotas::delete(tx, "")).await);
    assert!(!world.write(|tx| quotas::delete(tx, "")).await);
}
