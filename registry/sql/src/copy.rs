//! A SQLite database that somebody else writes: a copy of it as of one moment, page by page, and a look into it.
//!
//! Pages are copied as they are, so that even the hidden row numbers are the same: statements that are
//! replayed on the copy find what they found on the original. Invariant: the copy is one committed state.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::session::{Access, Session};
use crate::sqlite::create;
use crate::{Error, Tx};

/// Pages between two reports of progress: 4 MiB.
const PAGES: i32 = 1024;

/// Reads from the database at `path` before anybody has it open for writing. Blocks.
///
/// # Errors
/// When it cannot be opened, or what `body` says.
pub fn peek_sqlite<T, E: From<Error>>(
    path: &Path,
    body: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let session = Session::open(path, Access::Read)?;
    body(&mut Tx::new(&session))
}

/// Copies the database at `source` to `target`, a file of mode 0600 in an existing folder, which must not be
/// there. `progress` is told how many bytes are done, and of how many. Not synced. Blocks.
///
/// # Errors
/// When either cannot be read or written; `target` is then of no use.
pub fn copy_sqlite(source: &Path, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
    if target.exists() {
        return Err(Error::Open(Arc::new(std::io::ErrorKind::AlreadyExists.into())));
    }
    let session = Session::open(source, Access::Read)?;
    // One snapshot for the whole copy: without it, every commit of others would begin the copy anew.
    session.control("BEGIN")?;
    let page_size: u64 = session
        .connection()
        .query_row(
            "SELECT page_size FROM pragma_page_size, (SELECT COUNT(*) FROM sqlite_master)",
            [],
            |row| row.get::<_, i64>(0),
        )?
        .unsigned_abs();
    create(target).map_err(|error| Error::Open(Arc::new(error)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(target, flags)?;
    // The copy is synced as a whole by whoever wants it durable.
    copy.execute_batch("PRAGMA synchronous = OFF")?;
    let backup = Backup::new(session.connection(), &mut copy)?;
    loop {
        let step = backup.step(PAGES)?;
        let at = backup.progress();
        let (left, all) = (at.remaining.unsigned_abs().into(), at.pagecount.unsigned_abs().into());
        progress(page_size * u64::saturating_sub(all, left), page_size * all);
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Another process checkpoints; the snapshot stays ours.
            _ => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

/// Whether the file at `path` is a sound database. Blocks.
///
/// # Errors
/// [`Error::Corrupt`] when it is not.
pub fn check_sqlite(path: &Path) -> Result<(), Error> {
    let session = Session::open(path, Access::Read)?;
    let verdict: String = session.connection().query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    tracing::error!(verdict, "the database is damaged");
    Err(Error::from(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        None,
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{Database, Migration, params};

    const SCHEMA: &[Migration] = &[Migration {
        version: 1,
        name: "first",
        sql: "CREATE TABLE pairs (a BIGINT NOT NULL, b BIGINT NOT NULL, data BLOB NOT NULL)",
    }];

    /// Both columns move together, so a torn copy would show.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_under_load_is_one_committed_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.db");
        let database = Database::open_sqlite(&path).await.unwrap();
        database.migrate("pairs", SCHEMA).await.unwrap();
        let insert = |tx: &mut crate::Tx<'_>| {
            tx.execute("INSERT INTO pairs VALUES (0, 0, $1)", params![vec![7_u8; 4000]]).map(drop)
        };
        for _ in 0..2000 {
            database.write(insert).await.unwrap();
        }
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (database, stop) = (database.clone(), std::sync::Arc::clone(&stop));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let bump = "UPDATE pairs SET a = a + 1, b = b + 1";
                    database.write(move |tx| tx.execute(bump, params![])).await.unwrap();
                }
            }
        });
        let target = folder.path().join("copy.db");
        let (from, to) = (path.clone(), target.clone());
        let told = tokio::task::spawn_blocking(move || {
            let mut told = (0, 0);
            copy_sqlite(&from, &to, &mut |done, all| told = (done, all)).unwrap();
            told
        });
        let (done, all) = told.await.unwrap();
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        assert!(done == all && all > 8_000_000, "{done} of {all}");
        check_sqlite(&target).unwrap();
        let copy = Database::open_sqlite(&target).await.unwrap();
        let kinds = "SELECT COUNT(*), MAX(a) - MIN(a), MAX(b) - MIN(a) FROM pairs";
        let row = copy.read(move |tx| tx.query_one(kinds, params![])).await.unwrap();
        let found: Vec<i64> = (0..3).map(|column| row.get(column).unwrap()).collect();
        assert_eq!(found, [2000, 0, 0]);
        assert!(copy_sqlite(&path, &target, &mut |_, _| {}).is_err(), "a copy replaces nothing");
    }

    #[test]
    fn what_is_no_database_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.db");
        std::fs::write(&path, vec![3; 9000]).unwrap();
        assert!(matches!(check_sqlite(&path), Err(Error::Corrupt(_))));
    }
}
