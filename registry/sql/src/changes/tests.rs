//! The change log against real files: what was acknowledged comes back from the replicas alone.

mod remote;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::{Database, Error, Migration, Value, params};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "first",
    sql: "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
          CREATE TABLE notes (id BIGINT NOT NULL PRIMARY KEY, body BLOB, text TEXT)",
}];

/// Seals by turning bits and appending a sum over place and bytes: enough to notice what a test does.
struct TestSeal;
struct TestFrames(u64);

impl LogSeal for TestSeal {
    fn head_len(&self) -> usize {
        4
    }

    fn begin(&self, kind: LogFile) -> (Vec<u8>, Box<dyn FrameSeal>) {
        (vec![b'T', b'S', b'T', kind as u8], Box::new(TestFrames(0)))
    }

    fn open(&self, kind: LogFile, head: &[u8]) -> Result<Box<dyn FrameSeal>, String> {
        if head == [b'T', b'S', b'T', kind as u8] {
            Ok(Box::new(TestFrames(0)))
        } else {
            Err("foreign".into())
        }
    }
}

fn sum(place: u64, last: bool, bytes: &[u8]) -> [u8; 8] {
    let seed = 0xcbf2_9ce4_8422_2325 ^ place << 1 ^ u64::from(last);
    bytes.iter().fold(seed, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)).to_be_bytes()
}

impl FrameSeal for TestFrames {
    fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8> {
        let mut sealed: Vec<u8> = plaintext.iter().map(|byte| !byte).collect();
        sealed.extend(sum(self.0, last, plaintext));
        self.0 += 1;
        sealed
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>> {
        let (bytes, tag) = sealed.split_last_chunk::<8>()?;
        let plaintext: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        if *tag != sum(self.0, last, &plaintext) {
            return None;
        }
        self.0 += 1;
        Some(plaintext)
    }
}

/// Disks that there are; the first three are replicas at first.
const ROOTS: usize = 5;

struct House {
    folder: tempfile::TempDir,
    /// A replica whose switch is off cannot be written.
    up: Vec<Arc<AtomicBool>>,
    snapshot_bytes: u64,
}

impl House {
    fn new() -> House {
        let house = House {
            folder: tempfile::tempdir().unwrap(),
            up: (0..ROOTS).map(|_| Arc::new(AtomicBool::new(true))).collect(),
            snapshot_bytes: 1 << 30,
        };
        for index in 0..ROOTS {
            std::fs::create_dir(house.root(index)).unwrap();
        }
        house
    }

    fn root(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("replica{index}"))
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("berth.db")
    }

    fn config(&self) -> ChangeLogConfig {
        self.config_of(&[0, 1, 2])
    }

    fn config_of(&self, roots: &[usize]) -> ChangeLogConfig {
        let replicas = roots.iter().map(|&index| {
            let up = Arc::clone(&self.up[index]);
            let check =
                move || if up.load(Ordering::Relaxed) { Ok(()) } else { Err("switched off".to_owned()) };
            LogReplica {
                name: format!("r{index}"),
                root: self.root(index),
                check: Arc::new(check),
                remote: None,
            }
        });
        ChangeLogConfig {
            replicas: replicas.collect(),
            quorum: 2,
            seal: Arc::new(TestSeal),
            snapshot_bytes: self.snapshot_bytes,
        }
    }

    async fn open(&self) -> Database {
        let database = Database::open_sqlite_logged(&self.database(), self.config()).await.unwrap();
        database.migrate("tests", SCHEMA).await.unwrap();
        database
    }

    /// Loses the database, and brings it back from the replicas.
    fn lose_and_restore(&self, roots: &[usize], accept_older: bool) -> Result<RestoredDatabase, Error> {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.folder.path().join(format!("berth.db{suffix}")));
        }
        let roots: Vec<PathBuf> = roots.iter().map(|index| self.root(*index)).collect();
        restore_sqlite(&roots, &TestSeal, &self.database(), accept_older)
    }
}

async fn add(database: &Database, name: &str) -> Result<i64, Error> {
    let name = name.to_owned();
    database
        .write(move |tx| {
            let sql = "INSERT INTO counters (name, value) VALUES ($1, 1) \
                       ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value";
            tx.query_one(sql, params![name.as_str()])?.get(0)
        })
        .await
}

async fn value(database: &Database, name: &'static str) -> i64 {
    let row = database
        .read(move |tx| tx.query_optional("SELECT value FROM counters WHERE name = $1", params![name]))
        .await
        .unwrap();
    row.map_or(0, |row| row.get(0).unwrap())
}

/// Every row of every table of ours, to be compared.
async fn dump(database: &Database) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for sql in ["SELECT * FROM counters ORDER BY name", "SELECT * FROM notes ORDER BY id"] {
        let rows = database.read(move |tx| tx.query(sql, params![])).await.unwrap();
        all.extend(rows.into_iter().map(crate::Row::into_values));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_log_every_change_is_synced_before_anybody_hears_of_it() {
    let house = House::new();
    let database = house.open().await;
    let synchronous = database.write_unsynced(|tx| {
        tx.execute("INSERT INTO counters (name, value) VALUES ('n', 1)", params![])?;
        tx.query_one("PRAGMA synchronous", params![])?.get::<i64>(0)
    });
    assert_eq!(synchronous.await.unwrap(), 2);
    drop(database);
    house.lose_and_restore(&[0, 1], false).unwrap();
    assert_eq!(value(&house.open().await, "n").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_comes_back_with_everything_acknowledged() {
    let house = House::new();
    let database = house.open().await;
    let mut tasks = Vec::new();
    for worker in 0..8_i64 {
        let database = database.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..50_i64 {
                add(&database, if n % 2 == 0 { "even" } else { "odd" }).await.unwrap();
                let refused = database
                    .write(move |tx| {
                        tx.execute("INSERT INTO notes (id, text) VALUES ($1, 'undone')", params![-1 - n])?;
                        Err::<(), _>(Error::NotOneRow { found: 0 })
                    })
                    .await;
                assert!(refused.is_err());
                let blob = vec![n as u8; 300];
                database
                    .write(move |tx| {
                        let sql = "INSERT INTO notes (id, body, text) VALUES ($1, $2, $3)";
                        tx.execute(sql, params![worker * 1000 + n, &blob, None::<&str>])
                    })
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let before = dump(&database).await;
    let status = database.change_log().unwrap();
    assert!(status.replicas.iter().all(|one| one.in_sync && one.problem.is_none()), "{status:?}");
    // Not closed: as after SIGKILL. One root leads to the others.
    let restored = house.lose_and_restore(&[1], false).unwrap();
    assert!(restored.certain && restored.replicas.len() == 3, "{restored:?}");
    let again = Database::open_sqlite_logged(&house.database(), house.config()).await.unwrap();
    assert_eq!(dump(&again).await, before);
    assert_eq!(before.len(), 2 + 400);
    assert_eq!(add(&again, "even").await.unwrap(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_go_on_with_the_same_log() {
    let house = House::new();
    for round in 1..=4 {
        let database = house.open().await;
        assert_eq!(add(&database, "n").await.unwrap(), round);
        if round % 2 == 0 {
            database.close().await;
        }
    }
    let snapshots = files::list(&house.root(0), LogFile::Snapshot).unwrap();
    assert_eq!(snapshots.len(), 1, "no restart needed a new copy");
    house.lose_and_restore(&[0], false).unwrap();
    let database = house.open().await;
    assert_eq!(value(&database, "n").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_acknowledged_and_reads_go_on() {
    let house = House::new();
    let database = house.open().await;
    add(&database, "n").await.unwrap();
    // A disk that is taken away: its folder cannot be written, and not be made again.
    for index in [0, 1] {
        house.up[index].store(false, Ordering::Relaxed);
        std::fs::remove_dir_all(house.root(index)).unwrap();
        std::fs::write(house.root(index), b"no folder").unwrap();
    }
    let began = std::time::Instant::now();
    assert!(matches!(add(&database, "n").await, Err(Error::NotReplicated)));
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    assert!(matches!(add(&database, "n").await, Err(Error::NotReplicated)));
    assert!(value(&database, "n").await <= 2, "the first may be here, and is not acknowledged");
    // The disk is back: the keeper brings it up to date, and writes go on.
    std::fs::remove_file(house.root(0)).unwrap();
    std::fs::create_dir(house.root(0)).unwrap();
    house.up[0].store(true, Ordering::Relaxed);
    for _ in 0..100 {
        if add(&database, "again").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(value(&database, "again").await >= 1);
    let restored = house.lose_and_restore(&[0, 2], false).unwrap();
    assert!(restored.certain);
}

/// Waits until so many replicas hold every change.
async fn in_sync(database: &Database, replicas: usize) -> ChangeLogStatus {
    for _ in 0..300 {
        let status = database.change_log().unwrap();
        if status.replicas.iter().filter(|one| one.in_sync).count() == replicas {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", database.change_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_wiped_under_the_server_counts_no_more_until_it_has_a_copy() {
    let house = House::new();
    let database = house.open().await;
    add(&database, "n").await.unwrap();
    in_sync(&database, 3).await;
    house.up[1].store(false, Ordering::Relaxed);
    std::fs::remove_dir_all(house.root(1)).unwrap();
    assert_eq!(add(&database, "n").await.unwrap(), 2);
    let status = in_sync(&database, 2).await;
    let wiped = &status.replicas[1];
    assert!(!wiped.in_sync && wiped.problem.is_some(), "{status:?}");
    // Another disk in its place, and the loss of all others.
    std::fs::create_dir(house.root(1)).unwrap();
    house.up[1].store(true, Ordering::Relaxed);
    in_sync(&database, 3).await;
    assert_eq!(add(&database, "n").await.unwrap(), 3);
    house.lose_and_restore(&[1], false).unwrap();
    assert_eq!(value(&house.open().await, "n").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_follows_its_replicas_while_changes_go_on() {
    let house = House::new();
    let database = house.open().await;
    let adding = tokio::spawn({
        let database = database.clone();
        async move {
            for _ in 0..400 {
                add(&database, "n").await.unwrap();
            }
        }
    });
    // Two disks are lost and replaced, one after the other.
    for (roots, lost) in [([0, 1, 3], 2), ([0, 3, 4], 1)] {
        house.up[lost].store(false, Ordering::Relaxed);
        std::fs::remove_dir_all(house.root(lost)).unwrap();
        database.follow_change_log(house.config_of(&roots)).await.unwrap();
        let status = in_sync(&database, 3).await;
        let names: Vec<&str> = status.replicas.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, roots.map(|root| format!("r{root}")));
    }
    adding.await.unwrap();
    assert_eq!(add(&database, "n").await.unwrap(), 401);
    database.close().await;
    drop(database);
    // The disk of the database and the last of the first replicas are lost.
    let restored = house.lose_and_restore(&[3, 4], false).unwrap();
    assert!(restored.certain, "{restored:?}");
    let config = house.config_of(&[0, 3, 4]);
    let database = Database::open_sqlite_logged(&house.database(), config).await.unwrap();
    assert_eq!(value(&database, "n").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_log_gets_one() {
    let house = House::new();
    let database = Database::open_sqlite(&house.database()).await.unwrap();
    database.migrate("tests", SCHEMA).await.unwrap();
    add(&database, "n").await.unwrap();
    assert!(database.change_log().is_none());
    // Nobody waits for replicas that hold nothing yet.
    let config = ChangeLogConfig { quorum: 0, ..house.config() };
    database.follow_change_log(config).await.unwrap();
    add(&database, "n").await.unwrap();
    in_sync(&database, 3).await;
    database.follow_change_log(house.config()).await.unwrap();
    assert_eq!(add(&database, "n").await.unwrap(), 3);
    assert_eq!(in_sync(&database, 3).await.quorum, 2);
    house.lose_and_restore(&[1, 2], false).unwrap();
    assert_eq!(value(&house.open().await, "n").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_to_the_file_reaches_the_replicas() {
    let house = House::new();
    let database = house.open().await;
    add(&database, "n").await.unwrap();
    let other = Database::open_sqlite(&house.database()).await.unwrap();
    assert_eq!(add(&other, "n").await.unwrap(), 2);
    other.close().await;
    assert_eq!(add(&database, "n").await.unwrap(), 3);
    house.lose_and_restore(&[2], false).unwrap();
    let database = house.open().await;
    assert_eq!(value(&database, "n").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_changes_go_when_there_is_a_new_copy() {
    let house = House { snapshot_bytes: 1, ..House::new() };
    let database = house.open().await;
    for _ in 0..200 {
        let blob = vec![3_u8; 10_000];
        database
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO notes (id, body) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET body = $1",
                    params![&blob],
                )
            })
            .await
            .unwrap();
        add(&database, "n").await.unwrap();
    }
    let mut old = u64::MAX;
    for _ in 0..100 {
        old = files::list(&house.root(0), LogFile::Changes).unwrap()[0].0.sequence;
        if old > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(old > 0, "the first log is gone");
    add(&database, "n").await.unwrap();
    database.close().await;
    // Where a replica is still taking its copy, files come and go.
    let mut restored = house.lose_and_restore(&[0], false);
    for _ in 0..100 {
        if restored.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        restored = house.lose_and_restore(&[0], false);
    }
    restored.unwrap();
    assert_eq!(value(&house.open().await, "n").await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_database_is_refused() {
    let house = House::new();
    let database = house.open().await;
    database.close().await;
    drop(database);
    let kept = std::fs::read(house.database()).unwrap();
    let database = house.open().await;
    add(&database, "n").await.unwrap();
    database.close().await;
    drop(database);
    std::fs::write(house.database(), kept).unwrap();
    let refused = Database::open_sqlite_logged(&house.database(), house.config()).await.err().unwrap();
    assert!(matches!(refused, Error::LogNewer { .. }), "{refused}");
    house.lose_and_restore(&[0], false).unwrap();
    assert_eq!(value(&house.open().await, "n").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_replica_is_told_and_the_others_suffice() {
    let house = House::new();
    let database = house.open().await;
    for _ in 0..20 {
        add(&database, "n").await.unwrap();
    }
    database.close().await;
    drop(database);
    let flip = |index: usize| {
        let (_, path) = files::list(&house.root(index), LogFile::Changes).unwrap().pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    flip(0);
    let restored = house.lose_and_restore(&[0, 1, 2], false).unwrap();
    assert!(restored.certain);
    flip(1);
    let refused = house.lose_and_restore(&[0, 1, 2], false).unwrap_err();
    assert!(refused.to_string().contains("2 are needed"), "{refused}");
    assert!(!house.database().exists());
    let older = house.lose_and_restore(&[0, 1, 2], true).unwrap();
    assert!(!older.certain);
    assert_eq!(value(&house.open().await, "n").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_new_copies_leaves_nothing_older_on_any_replica() {
    let house = House::new();
    let database = house.open().await;
    for _ in 0..20 {
        add(&database, "n").await.unwrap();
    }
    let newest = |index: usize| files::list(&house.root(index), LogFile::Snapshot).unwrap();
    let before: Vec<_> = (0..3).map(newest).collect();
    assert!(database.renew_change_log().await.is_empty());
    for (index, before) in before.iter().enumerate() {
        let now = newest(index);
        assert_eq!(now.len(), 1, "{now:?}");
        assert!(now[0].0.sequence >= 20 && now[0].0 > before[0].0, "{now:?}");
        let logs = files::list(&house.root(index), LogFile::Changes).unwrap();
        assert!(logs.len() == 1 && logs[0].0.sequence >= 20, "{logs:?}");
    }
    assert_eq!(add(&database, "n").await.unwrap(), 21);
    drop(database);
    house.lose_and_restore(&[2], false).unwrap();
    assert_eq!(value(&house.open().await, "n").await, 21);
}
