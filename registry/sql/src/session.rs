//! One connection to SQLite, set up as every connection must be, with its prepared statements.
//!
//! Invariant: full durability (`synchronous=FULL`), nothing deleted stays readable in the file
//! (`secure_delete`), and no temporary file ever holds data in clear (`temp_store=MEMORY`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OpenFlags};

use crate::{Error, placeholder};

/// How long a connection waits for another process that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: more than the rooms above have between them.
const STATEMENTS_KEPT: usize = 512;

pub(crate) struct Session {
    connection: Connection,
    /// Statements with SQLite's placeholders, by the address of the static text they came from.
    rewritten: RefCell<HashMap<(usize, usize), Box<str>>>,
}

/// What a connection may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

impl Session {
    /// Opens a connection to an existing file.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Session, Error> {
        // Readers need the right to write too: they keep their place in the shared index of the log.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        // The pragma answers with the mode that is now in force, hence a query.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA temp_store = MEMORY;
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;",
        )?;
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        match access {
            Access::Read => connection.execute_batch("PRAGMA query_only = ON")?,
            // The writer checkpoints by itself, because SQLite's automatic checkpoint hides its errors. A log
            // that a long reader made grow is cut back to this size afterwards.
            Access::Write => {
                connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
                connection.query_row("PRAGMA journal_size_limit = 67108864", [], |_| Ok(()))?;
            }
        }
        Ok(Session { connection, rewritten: RefCell::default() })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The prepared statement for `sql`, whose placeholders are `$n`.
    pub(crate) fn statement(&self, sql: &'static str) -> Result<CachedStatement<'_>, rusqlite::Error> {
        let mut rewritten = self.rewritten.borrow_mut();
        let text = rewritten
            .entry((sql.as_ptr().addr(), sql.len()))
            .or_insert_with(|| placeholder::to_sqlite(sql).into());
        self.connection.prepare_cached(text)
    }

    /// Runs one of the statements that steer transactions.
    pub(crate) fn control(&self, sql: &'static str) -> Result<(), Error> {
        self.connection.prepare_cached(sql)?.raw_execute()?;
        Ok(())
    }
}
