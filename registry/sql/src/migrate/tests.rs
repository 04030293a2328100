//! Migrations: append-only, refused when newer, preceded by a snapshot.

use super::*;
use crate::Database;

const FIRST: &[Migration] = &[Migration {
    version: 1,
    name: "first",
    sql: "CREATE TABLE a (n BIGINT NOT NULL); CREATE INDEX a_n ON a (n)",
}];
const SECOND: &[Migration] = &[
    FIRST[0],
    Migration { version: 2, name: "second", sql: "ALTER TABLE a ADD COLUMN m TEXT; UPDATE a SET n = n + 1" },
];
const FIRST_OF_OTHERS: &[Migration] =
    &[Migration { version: 1, name: "first", sql: "CREATE TABLE o (n BIGINT NOT NULL)" }];
const BROKEN: &[Migration] = &[
    FIRST[0],
    Migration {
        version: 2,
        name: "broken",
        sql: "CREATE TABLE b (n BIGINT); INSERT INTO nowhere VALUES (1)",
    },
];
const EDITED: &[Migration] = &[Migration { version: 1, name: "first", sql: "CREATE TABLE a (n BIGINT)" }];
const GAP: &[Migration] = &[Migration { version: 2, name: "second", sql: "CREATE TABLE a (n BIGINT)" }];

async fn open(folder: &tempfile::TempDir) -> Database {
    Database::open_sqlite(&folder.path().join("berth.db")).await.unwrap()
}

async fn numbers(database: &Database) -> Vec<i64> {
    let rows = database.read(|tx| tx.query("SELECT n FROM a ORDER BY n", params![])).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

async fn insert(database: &Database, n: i64) {
    database.write(move |tx| tx.execute("INSERT INTO a (n) VALUES ($1)", params![n])).await.unwrap();
}

fn snapshots(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("before")).collect()
}

#[tokio::test]
async fn a_new_database_is_migrated_without_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    database.migrate("rooms", SECOND).await.unwrap();
    database.migrate("rooms", SECOND).await.unwrap();
    database.migrate("others", &[]).await.unwrap();
    insert(&database, 1).await;
    assert_eq!(numbers(&database).await, [1]);
    assert!(snapshots(&folder).is_empty());
}

#[tokio::test]
async fn an_existing_database_is_copied_before_its_schema_changes() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    database.migrate("rooms", FIRST).await.unwrap();
    insert(&database, 5).await;
    database.close().await;

    let database = open(&folder).await;
    database.migrate("rooms", SECOND).await.unwrap();
    assert_eq!(numbers(&database).await, [6]);
    database.close().await;
    assert_eq!(snapshots(&folder), ["berth.db.before-rooms-2"]);

    // A later release copies again, and the older copy goes.
    let later = tempfile::tempdir().unwrap();
    for name in ["berth.db", "berth.db.before-rooms-2"] {
        std::fs::copy(folder.path().join(name), later.path().join(name)).unwrap();
    }
    let database = open(&later).await;
    database.migrate("others", FIRST_OF_OTHERS).await.unwrap();
    database.close().await;
    assert_eq!(snapshots(&later), ["berth.db.before-others-1"]);

    // Restored as the documentation says, the old release finds its data.
    let restored = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("berth.db.before-rooms-2"), restored.path().join("berth.db")).unwrap();
    let database = open(&restored).await;
    database.migrate("rooms", FIRST).await.unwrap();
    assert_eq!(numbers(&database).await, [5]);
}

#[tokio::test]
async fn a_newer_schema_is_refused_naming_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    database.migrate("rooms", SECOND).await.unwrap();
    let error = database.migrate("rooms", FIRST).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database has schema version 2 of `rooms`, and this release knows only 1"
    );
}

#[tokio::test]
async fn an_edited_migration_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    database.migrate("rooms", FIRST).await.unwrap();
    let error = database.migrate("rooms", EDITED).await.unwrap_err();
    assert!(matches!(error, Error::SchemaChanged { namespace: "rooms", version: 1 }));
    assert!(matches!(database.migrate("gap", GAP).await, Err(Error::SchemaNumbering { namespace: "gap" })));
}

#[tokio::test]
async fn a_failing_migration_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder).await;
    assert!(database.migrate("rooms", BROKEN).await.is_err());
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('a', 'b')";
    let count = database.read(|tx| tx.query_one(tables, params![])).await.unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 0);
    database.migrate("rooms", SECOND).await.unwrap();
}
