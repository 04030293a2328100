//! What an older release stored, in the tables of this one.

use std::sync::Arc;

use registry_sql::{
    ChangeLogConfig, Database, FrameSeal, LogFile, LogReplica, LogSeal, Migration, Row, restore_sqlite,
};

use super::{digest, domain, key, manifest, repository, uid};
use crate::migrations::MIGRATIONS;
use crate::store::REGISTRY;
use crate::{
    Content, ContentKind, Error, Metadata, blobs, candidates, garbage, manifests, pull_through, repositories,
    reservations, tags,
};

/// Before the rows came into the trees of their keys.
const BEFORE_TREES: usize = 11;
/// The same step once more: what it leaves behind is in no later one's way.
const ONCE_MORE: &[Migration] = &[Migration {
    version: 1,
    name: "rows in the tree of their key",
    sql: include_str!("../../migrations/0012.sql"),
}];

/// Everything that the tables hold which are made anew.
const ROWS: [&str; 9] = [
    "SELECT repository_uid, tag, digest, created_at, updated_at, upstream_checked_at FROM tags \
     ORDER BY repository_uid, tag",
    "SELECT repository_uid, digest, media_type, size, artifact_type, config_media_type, subject, image_size, \
     pushed_at, last_pulled_at, resolved_at FROM manifests ORDER BY repository_uid, digest",
    "SELECT repository_uid, manifest, position, kind, digest, media_type, size FROM manifest_contents \
     ORDER BY repository_uid, manifest, position",
    "SELECT repository_uid, digest, size, linked_at, noted_at, is_candidate FROM blob_links \
     ORDER BY repository_uid, digest",
    "SELECT domain, digest, file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce, wrapped, \
     created_at FROM blob_keys ORDER BY domain, digest",
    "SELECT file_id, expires_at FROM reserved_objects ORDER BY file_id",
    "SELECT file_id, condemned_at FROM garbage_objects ORDER BY file_id",
    "SELECT digest, noted_at FROM unnamed_digests ORDER BY digest",
    "SELECT repository_uid, digest, retired_at FROM retired_manifests ORDER BY repository_uid, digest",
];

async fn rows(database: &Database) -> Vec<Vec<Row>> {
    let read = database.read(|tx| ROWS.iter().map(|sql| tx.query(sql, &[])).collect());
    let rows: Result<Vec<Vec<Row>>, registry_sql::Error> = read.await;
    rows.unwrap()
}

/// What was pushed, run, pulled through and deleted; nothing comes in the order of a key.
async fn fill(database: &Database) {
    let filled = database.write(|tx| {
        for name in ["b", "a"] {
            repositories::insert(tx, &repository(name))?;
            let uid = &repository(name).uid;
            for number in (1..=60_u8).rev().map(|number| number.wrapping_mul(37)) {
                let layer = digest(number.wrapping_add(100));
                blobs::put_link(tx, uid, &layer, 3, i64::from(number))?;
                let subject = (number % 3 == 0).then(|| digest(1));
                let manifest = manifest(number, subject);
                assert!(manifests::insert(tx, uid, &manifest)?);
                let part = |kind| Content {
                    kind,
                    digest: layer.clone(),
                    media_type: manifest.media_type.clone(),
                    size: 3,
                };
                let contents = [part(ContentKind::Layer), part(ContentKind::Child)];
                manifests::insert_contents(tx, uid, &manifest.digest, &contents)?;
                let tag = format!("v{number}").parse().unwrap();
                tags::put(tx, uid, &tag, &manifest.digest, 4)?;
                blobs::put_key(tx, &domain(), &manifest.digest, &key(number), i64::from(number))?;
                match number % 4 {
                    0 => manifests::note_pull(tx, uid, &manifest.digest, 3_600_000)?,
                    1 => assert!(manifests::note_resolved(tx, uid, &manifest.digest, 60_000)?),
                    2 => pull_through::note_checked(tx, uid, &tag, &manifest.digest, 8)?,
                    _ => {
                        assert!(manifests::delete(tx, uid, &manifest, 9)?);
                        garbage::condemn(tx, &[number; 16], 9)?;
                        candidates::note_digest(tx, &layer, i64::from(number))?;
                    }
                }
            }
            reservations::insert(tx, &[name.as_bytes()[0]; 16], 70)?;
            blobs::put_link(tx, uid, &digest(3), 3, 5)?;
        }
        Ok::<_, Error>(())
    });
    filled.await.unwrap();
}

/// What is asked by other columns than those of the key finds what it found, and what must be unique still is.
async fn check(metadata: &Metadata) {
    let found = metadata.read(|tx| {
        let uid = uid("uid-a");
        let parents = manifests::parents(tx, &uid, &digest(37 + 100), 9)?;
        let holders = blobs::holders(tx, &digest(3), 9)?;
        let object = blobs::object(tx, &[37; 16])?.map(|object| object.digest);
        let candidates = candidates::links(tx, 6, 9)?.len();
        let tags = tags::of_digest(tx, &uid, &digest(37), 9)?;
        let size = pull_through::stated_size(tx, &uid, &digest(37 + 100))?;
        Ok::<_, Error>((parents, holders.len(), object, candidates, tags, size))
    });
    let tag = "v37".parse().unwrap();
    assert_eq!(found.await.unwrap(), (vec![digest(37)], 2, Some(digest(37)), 2, vec![tag], Some(3)));
    let taken = metadata.write(|tx| blobs::put_key(tx, &domain(), &digest(250), &key(37), 1));
    assert!(matches!(taken.await, Err(Error::Sql(registry_sql::Error::Constraint { .. }))));
    let again = metadata.write(|tx| manifests::insert(tx, &uid("uid-a"), &manifest(37, None)));
    assert!(!again.await.unwrap());
}

#[tokio::test]
async fn rows_of_an_older_release_come_into_the_trees_of_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_rerunning(&test_support::database_in(folder.path()), 11).await.unwrap();
    database.migrate(REGISTRY, &MIGRATIONS[..BEFORE_TREES]).await.unwrap();
    fill(&database).await;
    let before = rows(&database).await;
    assert!(before.iter().all(|rows| rows.len() > 1), "every table holds something: {before:?}");

    let metadata = Metadata::open(database.clone()).await.unwrap();
    assert_eq!(rows(&database).await, before);
    check(&metadata).await;
    database.migrate("once more", ONCE_MORE).await.unwrap();
    assert_eq!(rows(&database).await, before);
    check(&metadata).await;
}

/// Hides nothing, and tells no more than which frame is the last.
struct Plain;

impl LogSeal for Plain {
    fn head_len(&self) -> usize {
        0
    }

    fn begin(&self, _: LogFile) -> (Vec<u8>, Box<dyn FrameSeal>) {
        (Vec::new(), Box::new(Plain))
    }

    fn open(&self, _: LogFile, _: &[u8]) -> Result<Box<dyn FrameSeal>, String> {
        Ok(Box::new(Plain))
    }
}

impl FrameSeal for Plain {
    fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8> {
        [plaintext, &[u8::from(last)]].concat()
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>> {
        let (is_last, plaintext) = sealed.split_last()?;
        (*is_last == u8::from(last)).then(|| plaintext.to_vec())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_log_brings_the_rows_back_that_came_into_the_trees() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("replica");
    std::fs::create_dir(&root).unwrap();
    let config = ChangeLogConfig {
        replicas: vec![LogReplica {
            name: "replica".to_owned(),
            root: root.clone(),
            check: Arc::new(|| Ok(())),
            remote: None,
        }],
        quorum: 1,
        seal: Arc::new(Plain),
        snapshot_bytes: 1 << 30,
    };
    let database = Database::open_sqlite_logged(&folder.path().join("berth.db"), config).await.unwrap();
    database.migrate(REGISTRY, &MIGRATIONS[..BEFORE_TREES]).await.unwrap();
    fill(&database).await;
    let metadata = Metadata::open(database.clone()).await.unwrap();
    let delete = |tx: &mut crate::Tx<'_>| manifests::delete(tx, &uid("uid-b"), &manifest(37, None), 10);
    assert!(metadata.write(delete).await.unwrap());
    let before = rows(&database).await;
    database.close().await;

    // Every change is run again, the migration among them: the only copy of the database is of an empty one.
    let target = folder.path().join("restored.db");
    assert!(restore_sqlite(&[root], &Plain, &target, false).unwrap().certain);
    let restored = Database::open_sqlite(&target).await.unwrap();
    assert_eq!(rows(&restored).await, before);
    check(&Metadata::open(restored).await.unwrap()).await;
}
