//! Replicas that are no folders of this machine: nothing waits for them, and they are a second behind at most.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::{ChangeLogConfig, ChangeLogStatus, LOG_FOLDER, LogRemote, LogReplica, is_snapshot};
use super::{House, TestSeal, add, restore_sqlite, value};
use crate::{Database, Error, params};

/// A remote place that is a folder all the same, and can be away.
struct Elsewhere {
    folder: PathBuf,
    up: AtomicBool,
    /// Every name that was ever put there.
    put: Mutex<Vec<String>>,
}

impl Elsewhere {
    fn new(root: &Path) -> Arc<Self> {
        let folder = root.join(LOG_FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        Arc::new(Self { folder, up: AtomicBool::new(true), put: Mutex::default() })
    }

    fn answers(&self) -> Result<(), String> {
        if self.up.load(Ordering::Relaxed) { Ok(()) } else { Err("nobody answers".to_owned()) }
    }
}

impl LogRemote for Elsewhere {
    fn location(&self) -> String {
        "elsewhere".to_owned()
    }

    fn put(&self, name: &str, file: &Path) -> Result<(), String> {
        self.answers()?;
        self.put.lock().push(name.to_owned());
        std::fs::copy(file, self.folder.join(name)).map(drop).map_err(|error| error.to_string())
    }

    fn list(&self) -> Result<Vec<String>, String> {
        self.answers()?;
        let entries = std::fs::read_dir(&self.folder).unwrap();
        Ok(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
    }

    fn delete(&self, name: &str) -> Result<(), String> {
        self.answers()?;
        std::fs::remove_file(self.folder.join(name)).map_err(|error| error.to_string())
    }
}

/// The log of `house` with a remote replica beside `here` of its own; with none here nothing waits.
fn config(house: &House, here: usize, remote: &Arc<Elsewhere>) -> ChangeLogConfig {
    let mut config = house.config();
    config.replicas.truncate(here);
    config.quorum = here;
    config.replicas.push(LogReplica {
        name: "far".to_owned(),
        root: house.folder.path().join("staging"),
        check: Arc::new(|| Ok(())),
        remote: Some(Arc::clone(remote) as _),
    });
    config
}

async fn open(house: &House, here: usize, remote: &Arc<Elsewhere>) -> Database {
    let database =
        Database::open_sqlite_logged(&house.database(), config(house, here, remote)).await.unwrap();
    database.migrate("tests", super::SCHEMA).await.unwrap();
    database
}

async fn until(database: &Database, holds: impl Fn(&ChangeLogStatus) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let status = database.change_log().unwrap();
        if holds(&status) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn far_holds_all(status: &ChangeLogStatus) -> bool {
    status.replicas.last().is_some_and(|far| far.in_sync && far.lag.changes == 0)
}

/// The database as the remote place alone has it.
fn restore(house: &House, root: &Path, accept_older: bool) -> Result<u64, Error> {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(house.folder.path().join(format!("berth.db{suffix}")));
    }
    let restored = restore_sqlite(&[root.to_owned()], &TestSeal, &house.database(), accept_older)?;
    assert!(!restored.certain, "it may lack the last second");
    Ok(restored.sequence)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_there_soon_and_nothing_waits_for_it() {
    let house = House::new();
    let root = house.folder.path().join("far");
    let remote = Elsewhere::new(&root);
    let database = open(&house, 0, &remote).await;
    until(&database, far_holds_all).await;
    for _ in 0..50 {
        add(&database, "n").await.unwrap();
    }
    let status = database.change_log().unwrap();
    assert!(status.quorum == 0 && status.lag.age < Duration::from_secs(60), "{status:?}");
    until(&database, far_holds_all).await;
    assert_eq!(database.change_log().unwrap().lag, super::super::Lag::default());
    // Not closed: as after the loss of the machine.
    assert!(restore(&house, &root, false).unwrap_err().to_string().contains("1 are needed"));
    restore(&house, &root, true).unwrap();
    drop(database);
    assert_eq!(value(&open(&house, 0, &remote).await, "n").await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_was_away_gets_what_it_missed() {
    let house = House::new();
    let root = house.folder.path().join("far");
    let remote = Elsewhere::new(&root);
    let database = open(&house, 2, &remote).await;
    until(&database, far_holds_all).await;
    let copies = || remote.put.lock().iter().filter(|name| is_snapshot(name)).count();
    assert_eq!(copies(), 1);
    remote.up.store(false, Ordering::Relaxed);
    for _ in 0..5 {
        add(&database, "n").await.unwrap();
    }
    // The quorum is here, and goes on.
    until(&database, |status| {
        let far = status.replicas.last().unwrap();
        far.lag.changes >= 5 && far.lag.age > Duration::from_millis(600) && status.lag.changes == 0
    })
    .await;
    remote.up.store(true, Ordering::Relaxed);
    until(&database, far_holds_all).await;
    assert_eq!(copies(), 1, "what waited here was enough");
    // Whoever did not stop in order left no note: the next start brings a new copy, and what is older goes.
    database.close().await;
    drop(database);
    std::fs::remove_file(house.folder.path().join("staging/shipped")).unwrap();
    let database = open(&house, 2, &remote).await;
    until(&database, far_holds_all).await;
    add(&database, "n").await.unwrap();
    // A clean stop leaves nothing behind.
    database.close().await;
    assert_eq!(copies(), 2);
    let left = remote.list().unwrap();
    assert_eq!(left.iter().filter(|name| is_snapshot(name)).count(), 1, "{left:?}");
    for index in [0, 1] {
        std::fs::remove_dir_all(house.root(index)).unwrap();
    }
    restore(&house, &root, true).unwrap();
    for index in [0, 1] {
        std::fs::create_dir(house.root(index)).unwrap();
    }
    assert_eq!(value(&open(&house, 2, &remote).await, "n").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_behind_an_orderly_stop_carries_no_copy() {
    let house = House::new();
    let root = house.folder.path().join("far");
    let remote = Elsewhere::new(&root);
    let copies = || remote.put.lock().iter().filter(|name| is_snapshot(name)).count();
    let stop = async |database: Database| {
        database.close().await;
        drop(database);
    };
    for round in 1..=4 {
        let database = open(&house, 0, &remote).await;
        until(&database, far_holds_all).await;
        // One start in between has nothing to say.
        if round != 3 {
            add(&database, "n").await.unwrap();
        }
        stop(database).await;
        assert_eq!(copies(), 1, "round {round}");
    }
    // Everything is there: the copy, and the changes of each start behind it.
    let away = house.folder.path().join("away");
    std::fs::rename(house.database(), &away).unwrap();
    restore(&house, &root, true).unwrap();
    let database = open(&house, 0, &remote).await;
    assert_eq!(value(&database, "n").await, 3);
    until(&database, far_holds_all).await;
    assert_eq!(copies(), 1, "what came back is what lies there");
    stop(database).await;

    // What is missing there, or was written by somebody else meanwhile, takes a copy.
    let log = remote.list().unwrap().into_iter().find(|name| !is_snapshot(name)).unwrap();
    remote.delete(&log).unwrap();
    let database = open(&house, 0, &remote).await;
    until(&database, far_holds_all).await;
    assert_eq!(copies(), 2);
    stop(database).await;
    let unlogged = Database::open_sqlite(&house.database()).await.unwrap();
    add(&unlogged, "n").await.unwrap();
    stop(unlogged).await;
    let database = open(&house, 0, &remote).await;
    until(&database, far_holds_all).await;
    assert_eq!(copies(), 3);
    stop(database).await;
    restore(&house, &root, true).unwrap();
    assert_eq!(value(&open(&house, 0, &remote).await, "n").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_many_starts_are_worth_a_copy_together() {
    let mut house = House::new();
    house.snapshot_bytes = 0;
    let root = house.folder.path().join("far");
    let remote = Elsewhere::new(&root);
    let copies = || remote.put.lock().iter().filter(|name| is_snapshot(name)).count();
    // As many bytes as the database has, in starts that each bring less.
    for _ in 0..12 {
        let database = open(&house, 0, &remote).await;
        until(&database, far_holds_all).await;
        let body = vec![7_u8; 20_000];
        let written = database.write(move |tx| {
            let sql = "INSERT INTO notes (id, body) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET body = $1";
            tx.execute(sql, params![&body])
        });
        written.await.unwrap();
        database.close().await;
    }
    let copies = copies();
    assert!((2..9).contains(&copies), "{copies} copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_is_told_by_what_lies_elsewhere() {
    let house = House::new();
    let root = house.folder.path().join("far");
    let remote = Elsewhere::new(&root);
    let database = open(&house, 0, &remote).await;
    until(&database, far_holds_all).await;
    database.close().await;
    drop(database);
    let kept = std::fs::read(house.database()).unwrap();
    let database = open(&house, 0, &remote).await;
    add(&database, "n").await.unwrap();
    until(&database, far_holds_all).await;
    database.close().await;
    drop(database);
    std::fs::write(house.database(), kept).unwrap();
    let refused = Database::open_sqlite_logged(&house.database(), config(&house, 0, &remote)).await;
    assert!(matches!(refused.err().unwrap(), Error::LogNewer { .. }));
}
