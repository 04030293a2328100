//! What only SQLite does: group commit, failures of the file, closing it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::suite::{SCHEMA, add, value};
use super::*;
use crate::{ConstraintKind, params, writer};

fn sqlite(database: &Database) -> &Sqlite {
    match &database.shared.engine {
        Engine::Sqlite(sqlite) => sqlite,
        Engine::Postgres(_) => panic!("SQLite was opened"),
    }
}

async fn open() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_sqlite(&folder.path().join("test.db")).await.unwrap();
    database.migrate("test", SCHEMA).await.unwrap();
    (folder, database)
}

/// Holds the writer in a closure until the sender is dropped, so that what is sent meanwhile forms one group.
async fn hold(database: &Database) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel();
    let (mut started, database) = (Some(started), database.clone());
    tokio::spawn(async move {
        let body = move |_: &mut Tx<'_>| {
            if let Some(started) = started.take() {
                let began = Instant::now();
                let _ = started.send(());
                let _ = held.recv();
                // Its own group takes nothing more.
                while began.elapsed() < writer::GROUP_TIME {
                    std::thread::yield_now();
                }
            }
            Ok::<(), Error>(())
        };
        database.write(body).await.unwrap();
    });
    running.await.unwrap();
    release
}

/// Waits until `count` closures are queued behind the one that is held.
async fn queued(database: &Database, count: usize) {
    while writer::QUEUE - sqlite(database).writer.capacity() < count {
        tokio::task::yield_now().await;
    }
}

const FULL: i64 = 2;
const NORMAL: i64 = 1;

/// What the transaction at hand waits for when it commits.
fn synchronous(tx: &mut Tx<'_>) -> Result<i64, Error> {
    tx.query_one("PRAGMA synchronous", params![])?.get(0)
}

/// What closures were committed with that were queued together.
async fn committed_with(commits: &[Commit]) -> Vec<i64> {
    let (_folder, database) = open().await;
    let release = hold(&database).await;
    let mut writes = Vec::new();
    for commit in commits.iter().copied() {
        let writing = database.clone();
        let body = |tx: &mut Tx<'_>| Ok::<_, Error>((synchronous(tx)?, add(tx, "n", 1)?));
        writes.push(tokio::spawn(async move { writing.commit(commit, body).await.unwrap() }));
        queued(&database, writes.len()).await;
    }
    drop(release);
    let mut seen = Vec::new();
    for (write, place) in writes.into_iter().zip(1..) {
        let (synchronous, came) = write.await.unwrap();
        assert_eq!(came, place, "closures overtake each other");
        seen.push(synchronous);
    }
    seen
}

#[tokio::test]
async fn a_group_that_needs_no_sync_takes_nothing_that_needs_one() {
    use Commit::{Durable, Unsynced};
    assert_eq!(committed_with(&[Unsynced, Unsynced, Durable]).await, [NORMAL, NORMAL, FULL]);
    // One that is synced takes everything, unless its time is over on a machine that has much to do.
    for _ in 0..100 {
        if committed_with(&[Unsynced, Durable, Unsynced]).await == [NORMAL, FULL, FULL] {
            return;
        }
    }
    panic!("a group that is synced never took what needs no sync");
}

#[tokio::test]
async fn closures_of_a_group_that_falls_apart_are_committed_each_in_its_own_way() {
    for durable_first in [true, false] {
        let (_folder, database) = open().await;
        let release = hold(&database).await;
        let mut good = Vec::new();
        let mut queue_good = async |commit, behind| {
            let writing = database.clone();
            good.push(tokio::spawn(async move { writing.commit(commit, synchronous).await.unwrap() }));
            queued(&database, behind + 1).await;
        };
        let first = usize::from(durable_first);
        if durable_first {
            queue_good(Commit::Durable, 0).await;
        }
        let writing = database.clone();
        let bad = tokio::spawn(async move {
            // Deferred, the violation is noticed by COMMIT only.
            let body = |tx: &mut Tx<'_>| {
                tx.batch("PRAGMA defer_foreign_keys = ON")?;
                tx.execute("INSERT INTO children (name) VALUES ($1)", params!["nobody"])
            };
            writing.write_unsynced(body).await
        });
        queued(&database, first + 1).await;
        queue_good(Commit::Unsynced, first + 1).await;
        if !durable_first {
            queue_good(Commit::Durable, 2).await;
        }
        drop(release);
        assert!(matches!(bad.await.unwrap(), Err(Error::Constraint { .. })));
        let [one, two] = <[_; 2]>::try_from(good).unwrap();
        let seen = [one.await.unwrap(), two.await.unwrap()];
        assert_eq!(seen, if durable_first { [FULL, NORMAL] } else { [NORMAL, FULL] });
    }
}

#[tokio::test]
async fn what_is_left_to_the_next_sync_outlives_a_process_that_is_killed() {
    let (folder, database) = open().await;
    for n in 1..=2000 {
        assert_eq!(database.write_unsynced(|tx| add(tx, "n", 1)).await.unwrap(), n);
    }
    // What a killed server leaves: nobody closed the database. The log was moved into the file meanwhile.
    let next = tempfile::tempdir().unwrap();
    for file in ["test.db", "test.db-wal"] {
        std::fs::copy(folder.path().join(file), next.path().join(file)).unwrap();
    }
    let found = Database::open_sqlite(&next.path().join("test.db")).await.unwrap();
    assert_eq!(found.point(|tx| value(tx, "n")).await.unwrap(), Some(2000));
    database.close().await;
    assert!(!folder.path().join("test.db-wal").exists());
    let found = Database::open_sqlite(&folder.path().join("test.db")).await.unwrap();
    assert_eq!(found.point(|tx| value(tx, "n")).await.unwrap(), Some(2000));
}

#[tokio::test]
async fn what_is_queued_together_is_committed_together() {
    let (_folder, database) = open().await;
    let release = hold(&database).await;
    let writes: Vec<_> = (0..20)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { database.write(|tx| add(tx, "n", 1)).await.unwrap() })
        })
        .collect();
    queued(&database, 20).await;
    // Nothing of the group is visible before it is durable.
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), None);
    drop(release);
    let mut seen = Vec::new();
    for write in writes {
        seen.push(write.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=20).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_failing_closure_undoes_its_own_changes_alone() {
    #[derive(Debug)]
    enum Refusal {
        Mine,
        Sql(#[allow(dead_code)] Error),
    }
    impl From<Error> for Refusal {
        fn from(error: Error) -> Refusal {
            Refusal::Sql(error)
        }
    }
    let (_folder, database) = open().await;
    let release = hold(&database).await;
    let (one, two, three) = (database.clone(), database.clone(), database.clone());
    let first = tokio::spawn(async move { one.write(|tx| add(tx, "a", 1)).await });
    queued(&database, 1).await;
    let second = tokio::spawn(async move {
        two.write(|tx| -> Result<(), Refusal> {
            add(tx, "a", 100)?;
            Err(Refusal::Mine)
        })
        .await
    });
    queued(&database, 2).await;
    let third = tokio::spawn(async move { three.write(|tx| add(tx, "a", 1)).await });
    queued(&database, 3).await;
    drop(release);
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert!(matches!(second.await.unwrap(), Err(Refusal::Mine)));
    assert_eq!(third.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_full_disk_fails_the_closure_that_needs_space_and_no_other() {
    let (_folder, database) = open().await;
    // The file may not grow by more than a few pages.
    let limit = |tx: &mut Tx<'_>| {
        let pages: i64 = tx.query_one("PRAGMA page_count", params![])?.get(0)?;
        assert!(pages < 20);
        tx.batch("PRAGMA max_page_count = 20")
    };
    database.write(limit).await.unwrap();
    let release = hold(&database).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let mut small = Vec::new();
    let mut big = None;
    for index in 0..10 {
        let (database, runs) = (database.clone(), Arc::clone(&runs));
        if index == 5 {
            big = Some(tokio::spawn({
                let database = database.clone();
                async move {
                    let insert = "INSERT INTO blobs (id, data) VALUES (1, $1)";
                    database.write(|tx| tx.execute(insert, params![vec![7; 1024 * 1024]])).await
                }
            }));
        }
        small.push(tokio::spawn(async move {
            let body = move |tx: &mut Tx<'_>| {
                runs.fetch_add(1, Ordering::SeqCst);
                add(tx, "n", 1)
            };
            database.write(body).await
        }));
    }
    queued(&database, 11).await;
    drop(release);
    assert!(matches!(big.unwrap().await.unwrap(), Err(Error::Full(_))));
    for write in small {
        write.await.unwrap().unwrap();
    }
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(10));
    assert!(runs.load(Ordering::SeqCst) > 10, "SQLite was expected to roll back the group as a whole");
    assert!(database.is_healthy());

    // It works again as soon as there is space.
    database.write(|tx| tx.batch("PRAGMA max_page_count = 100000")).await.unwrap();
    let insert = "INSERT INTO blobs (id, data) VALUES (1, $1)";
    database.write(|tx| tx.execute(insert, params![vec![7; 1024 * 1024]])).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_fails_acknowledges_nothing_and_each_closure_runs_again_alone() {
    let (_folder, database) = open().await;
    let release = hold(&database).await;
    let (one, two) = (database.clone(), database.clone());
    let good = tokio::spawn(async move { one.write(|tx| add(tx, "n", 1)).await });
    let bad = tokio::spawn(async move {
        // Deferred, the violation is noticed by COMMIT only.
        two.write(|tx| {
            tx.batch("PRAGMA defer_foreign_keys = ON")?;
            tx.execute("INSERT INTO children (name) VALUES ($1)", params!["nobody"])
        })
        .await
    });
    queued(&database, 2).await;
    drop(release);
    assert_eq!(good.await.unwrap().unwrap(), 1);
    assert!(matches!(bad.await.unwrap(), Err(Error::Constraint { kind: ConstraintKind::ForeignKey, .. })));
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(1));
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_empties_the_log() {
    let (folder, database) = open().await;
    let release = hold(&database).await;
    let queued_write = tokio::spawn({
        let database = database.clone();
        async move { database.write(|tx| add(tx, "n", 1)).await }
    });
    queued(&database, 1).await;
    let closing = tokio::spawn({
        let database = database.clone();
        async move { database.close().await }
    });
    queued(&database, 2).await;
    drop(release);
    closing.await.unwrap();
    assert_eq!(queued_write.await.unwrap().unwrap(), 1);
    assert!(matches!(database.write(|tx| add(tx, "n", 1)).await, Err(Error::Closed)));
    assert!(matches!(database.point(|tx| value(tx, "n")).await, Err(Error::Closed)));
    database.close().await;

    let path = folder.path().join("test.db");
    assert!(!path.with_extension("db-wal").exists(), "the last connection removes the log");
    let database = Database::open_sqlite(&path).await.unwrap();
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(1));
}

#[tokio::test]
async fn nobody_else_can_read_the_files_and_deleted_rows_are_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, database) = open().await;
    database.write(|tx| add(tx, "the canary sings", 1)).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
    let delete = "DELETE FROM counters WHERE name = $1";
    database.write(|tx| tx.execute(delete, params!["the canary sings"])).await.unwrap();
    database.close().await;
    let bytes = std::fs::read(folder.path().join("test.db")).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"the canary"));
}

#[tokio::test]
async fn a_failed_sync_ends_all_writing() {
    let (_folder, database) = open().await;
    // What the engine reports when fsync fails, which takes a special disk.
    let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    assert!(matches!(Error::from(rusqlite::Error::SqliteFailure(failure, None)), Error::NotDurable));
    database.write(|tx| add(tx, "n", 1)).await.unwrap();
    sqlite(&database).broken.store(true, Ordering::Relaxed);
    assert!(matches!(database.write(|tx| add(tx, "n", 1)).await, Err(Error::NotDurable)));
    assert!(!database.is_healthy());
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(1));
}

#[tokio::test]
async fn the_log_of_a_server_that_is_killed_again_and_again_stays_small() {
    let (mut folder, mut database) = open().await;
    let mut lens = Vec::new();
    for _ in 0..6 {
        for _ in 0..100 {
            database.write(|tx| add(tx, "n", 1)).await.unwrap();
        }
        lens.push(std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len());
        // What a killed server leaves: nobody closed the database.
        let next = tempfile::tempdir().unwrap();
        for file in ["test.db", "test.db-wal"] {
            std::fs::copy(folder.path().join(file), next.path().join(file)).unwrap();
        }
        database = Database::open_sqlite(&next.path().join("test.db")).await.unwrap();
        folder = next;
    }
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(600));
    assert!(lens[5] <= 2 * lens[0], "bytes of the log before each end: {lens:?}");
}
