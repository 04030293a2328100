//! The promises of the face, kept by every engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use test_support::Postgres;

use super::*;
use crate::{ConstraintKind, params};

pub(crate) const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "first",
    sql: "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
          CREATE TABLE children (name TEXT NOT NULL REFERENCES counters(name));
          CREATE TABLE blobs (id BIGINT PRIMARY KEY, data BLOB NOT NULL);",
}];

pub(crate) fn add(tx: &mut Tx<'_>, name: &str, by: i64) -> Result<i64, Error> {
    let row = tx.query_one(
        "INSERT INTO counters (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = counters.value + $2 RETURNING value",
        params![name, by],
    )?;
    row.get(0)
}

pub(crate) fn value(tx: &mut Tx<'_>, name: &str) -> Result<Option<i64>, Error> {
    let row = tx.query_optional("SELECT value FROM counters WHERE name = $1", params![name])?;
    row.map(|row| row.get(0)).transpose()
}

/// Runs each test over both engines.
macro_rules! over_both {
    ($open:ident, $($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let folder = tempfile::tempdir().unwrap();
                super::$test(super::$open(Some(folder.path())).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::$open(None).await).await;
            })*
        }
    };
}

over_both!(
    open,
    every_one_of_many_concurrent_writes_counts_once,
    a_swallowed_error_does_not_commit,
    a_panicking_closure_does_not_stop_the_writer,
    a_statement_with_the_wrong_number_of_parameters_is_refused,
    placeholders_bind_by_number,
    readers_cannot_write,
    a_reader_sees_one_snapshot,
    a_closure_sees_what_was_acknowledged_before,
    what_is_left_to_the_next_sync_is_seen_at_once,
    what_a_closure_read_is_still_so_when_it_commits,
    a_refusal_undoes_its_changes,
    values_come_back_as_they_went,
    text_is_ordered_by_its_bytes,
    constraints_are_told_apart,
    a_closed_database_says_so,
    an_empty_closure_is_fine,
);

async fn open(folder: Option<&Path>) -> Database {
    let database = match folder {
        Some(folder) => Database::open_sqlite(&folder.join("test.db")).await,
        None => Database::open_postgres(&Postgres::shared().database()).await,
    };
    let database = database.unwrap();
    database.migrate("test", SCHEMA).await.unwrap();
    database
}

mod rerun {
    use super::*;

    over_both!(open_rerunning, closures_that_are_run_twice_change_nothing_twice);

    async fn open_rerunning(folder: Option<&Path>) -> Database {
        let database = match folder {
            Some(folder) => Database::open_rerunning(folder.join("test.db").to_str().unwrap(), 42).await,
            None => Database::open_rerunning(&Postgres::shared().database(), 42).await,
        };
        let database = database.unwrap();
        database.migrate("test", SCHEMA).await.unwrap();
        database
    }

    async fn closures_that_are_run_twice_change_nothing_twice(database: Database) {
        let runs = Arc::new(AtomicUsize::new(0));
        for expected in 1..=50 {
            let runs = Arc::clone(&runs);
            let body = move |tx: &mut Tx<'_>| {
                runs.fetch_add(1, Ordering::SeqCst);
                add(tx, "n", 1)
            };
            let written = if expected % 2 == 0 {
                database.write(body).await
            } else {
                database.write_unsynced(body).await
            };
            assert_eq!(written.unwrap(), expected);
            assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(expected));
        }
        assert!(runs.load(Ordering::SeqCst) > 50);
    }
}

async fn every_one_of_many_concurrent_writes_counts_once(database: Database) {
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    database.write(|tx| add(tx, "n", 1)).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(1600));
}

async fn a_swallowed_error_does_not_commit(database: Database) {
    let result: Result<(), Error> = database
        .write(|tx| {
            add(tx, "n", 1)?;
            drop(tx.execute("INSERT INTO counters (name, value) VALUES ($1, $2)", params!["n", 1]));
            assert!(matches!(add(tx, "m", 1), Err(Error::Spoiled)));
            Ok(())
        })
        .await;
    assert!(result.unwrap_err().is_unique_violation());
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), None);
}

async fn a_panicking_closure_does_not_stop_the_writer(database: Database) {
    let result: Result<(), Error> = database
        .write(|tx| {
            add(tx, "n", 1)?;
            panic!("on purpose")
        })
        .await;
    assert!(matches!(result, Err(Error::Panicked)));
    assert_eq!(database.write(|tx| add(tx, "n", 1)).await.unwrap(), 1);
}

async fn a_statement_with_the_wrong_number_of_parameters_is_refused(database: Database) {
    let result = database.read(|tx| tx.query("SELECT $1, $2", params![1_i64])).await;
    assert!(matches!(result, Err(Error::Statement(_))));
}

async fn placeholders_bind_by_number(database: Database) {
    let row = database.point(|tx| tx.query_one("SELECT $2, $1, $2", params!["one", "two"])).await.unwrap();
    assert_eq!(row.into_values(), params!["two", "one", "two"]);
}

async fn readers_cannot_write(database: Database) {
    assert!(database.read(|tx| add(tx, "n", 1)).await.is_err());
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), None);
}

async fn a_reader_sees_one_snapshot(database: Database) {
    database.write(|tx| add(tx, "n", 1)).await.unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let (first_read, first) = tokio::sync::oneshot::channel();
    let (gone, mut first_read) = (parking_lot::Mutex::new(gone), Some(first_read));
    let reader = database.clone();
    let seen = tokio::spawn(async move {
        reader
            .read(move |tx| {
                let before = value(tx, "n")?;
                if let Some(first_read) = first_read.take() {
                    let _ = first_read.send(());
                }
                let _ = gone.lock().recv();
                Ok::<_, Error>((before, value(tx, "n")?))
            })
            .await
            .unwrap()
    });
    first.await.unwrap();
    database.write(|tx| add(tx, "n", 1)).await.unwrap();
    drop(go);
    assert_eq!(seen.await.unwrap(), (Some(1), Some(1)));
}

async fn a_closure_sees_what_was_acknowledged_before(database: Database) {
    for n in 1..=20 {
        database.write(|tx| add(tx, "n", 1)).await.unwrap();
        assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(n));
        assert_eq!(database.write(|tx| value(tx, "n")).await.unwrap(), Some(n));
    }
}

async fn what_is_left_to_the_next_sync_is_seen_at_once(database: Database) {
    for n in 1..=20 {
        assert_eq!(database.write_unsynced(|tx| add(tx, "n", 1)).await.unwrap(), n);
        assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(n));
    }
    let refused = database.write_unsynced(|tx| {
        add(tx, "n", 1)?;
        Err::<(), Error>(Error::Spoiled)
    });
    assert!(matches!(refused.await, Err(Error::Spoiled)));
    assert_eq!(database.write(|tx| add(tx, "n", 1)).await.unwrap(), 21);
}

/// Each of two closures raises its own counter while the sum of both is below a bound: together they must not
/// pass it, though neither writes what the other wrote.
async fn what_a_closure_read_is_still_so_when_it_commits(database: Database) {
    const BOUND: i64 = 40;
    let raise = |name: &'static str| {
        let database = database.clone();
        tokio::spawn(async move {
            loop {
                let body = move |tx: &mut Tx<'_>| {
                    let sum = value(tx, "a")?.unwrap_or(0) + value(tx, "b")?.unwrap_or(0);
                    if sum < BOUND {
                        add(tx, name, 1)?;
                    }
                    Ok::<_, Error>(sum)
                };
                if database.write(body).await.unwrap() >= BOUND {
                    return;
                }
            }
        })
    };
    let (a, b) = (raise("a"), raise("b"));
    a.await.unwrap();
    b.await.unwrap();
    let row = database.read(|tx| tx.query_one("SELECT CAST(SUM(value) AS BIGINT) FROM counters", params![]));
    assert_eq!(row.await.unwrap().get::<i64>(0).unwrap(), BOUND);
}

async fn a_refusal_undoes_its_changes(database: Database) {
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
    let result = database
        .write(|tx| -> Result<(), Refusal> {
            add(tx, "a", 100)?;
            Err(Refusal::Mine)
        })
        .await;
    assert!(matches!(result, Err(Refusal::Mine)));
    assert_eq!(database.point(|tx| value(tx, "a")).await.unwrap(), None);
}

async fn values_come_back_as_they_went(database: Database) {
    let text = "ü \u{10FFFF} '$1' \\";
    database.write(move |tx| add(tx, text, i64::MIN)).await.unwrap();
    assert_eq!(database.point(move |tx| value(tx, text)).await.unwrap(), Some(i64::MIN));
    let bytes: Vec<u8> = (0..=255).collect();
    let stored = bytes.clone();
    let insert = "INSERT INTO blobs (id, data) VALUES ($1, $2) RETURNING id, data, NULL, id > 0, (SELECT COUNT(*) FROM counters)";
    let row = database.write(move |tx| tx.query_one(insert, params![i64::MAX, &stored])).await.unwrap();
    assert_eq!(row.into_values(), params![i64::MAX, bytes, None::<i64>, 1_i64, 1_i64]);
    let changed =
        database.write(|tx| tx.execute("UPDATE blobs SET data = $1", params![vec![]])).await.unwrap();
    assert_eq!(changed, 1);
}

async fn text_is_ordered_by_its_bytes(database: Database) {
    let names = ["B", "Z", "_", "a", "a-b", "a.b", "a/b", "a_b", "ab", "b", "ä"];
    for name in names.iter().rev().copied() {
        database.write(move |tx| add(tx, name, 1)).await.unwrap();
    }
    let listing = "SELECT name FROM counters WHERE name > $1 ORDER BY name LIMIT $2";
    let rows = database.read(move |tx| tx.query(listing, params!["Z", 100_i64])).await.unwrap();
    let listed: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(listed, names[2..]);
}

async fn constraints_are_told_apart(database: Database) {
    let insert = "INSERT INTO counters (name, value) VALUES ($1, $2)";
    database.write(|tx| tx.execute(insert, params!["n", 1_i64])).await.unwrap();
    let twice = database.write(|tx| tx.execute(insert, params!["n", 1_i64])).await.unwrap_err();
    assert!(twice.is_unique_violation(), "{twice:?}");
    let empty = database.write(|tx| tx.execute(insert, params!["m", None::<i64>])).await.unwrap_err();
    assert!(matches!(empty, Error::Constraint { kind: ConstraintKind::Other, .. }), "{empty:?}");
    let orphan = "INSERT INTO children (name) VALUES ($1)";
    let orphan = database.write(|tx| tx.execute(orphan, params!["nobody"])).await.unwrap_err();
    assert!(matches!(orphan, Error::Constraint { kind: ConstraintKind::ForeignKey, .. }), "{orphan:?}");
}

async fn a_closed_database_says_so(database: Database) {
    database.close().await;
    database.close().await;
    assert!(matches!(database.write(|tx| add(tx, "n", 1)).await, Err(Error::Closed)));
    assert!(matches!(database.point(|tx| value(tx, "n")).await, Err(Error::Closed)));
    assert!(matches!(database.read(|tx| value(tx, "n")).await, Err(Error::Closed)));
}

async fn an_empty_closure_is_fine(database: Database) {
    database.write(|_| Ok::<_, Error>(())).await.unwrap();
    database.point(|_| Ok::<_, Error>(())).await.unwrap();
}
