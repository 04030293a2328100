//! One connection to SQLite, set up as every connection must be, with its prepared statements.
//!
//! Invariant: full durability (`synchronous=FULL`) unless the writer asks for less, nothing deleted stays readable in
//! the file (`secure_delete`), and no temporary file ever holds data in clear (`temp_store=MEMORY`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags, ToSql};

use crate::changes::{Kind, Mark, Recording};
use crate::rerun::Rerun;
use crate::sqlite::sync_folder;
use crate::{Error, Row, Value, placeholder};

/// How long a connection waits for another process that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: more than the rooms above have between them.
const STATEMENTS_KEPT: usize = 512;

pub(crate) struct Session {
    connection: Connection,
    /// Statements with SQLite's placeholders, by the address of the static text they came from.
    rewritten: RefCell<HashMap<(usize, usize), Box<str>>>,
    /// What changed something in the open transaction, where the change log asks for it.
    recording: Option<RefCell<Recording>>,
    /// Where statements that go through a whole table are noted, in tests.
    watcher: Option<Arc<Rerun>>,
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
        // Else a statement whose plan might depend on a parameter is planned anew each time it is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // It answers with the mode before it changes the file, and tells only then whether that went well.
        let mut pragma = connection.prepare("PRAGMA journal_mode = WAL")?;
        let modes: Vec<String> = pragma.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if modes != ["wal"] {
            let problem = format!("SQLite keeps no write-ahead log there, but works in mode {modes:?}");
            return Err(Error::Open(Arc::new(std::io::Error::other(problem))));
        }
        drop(pragma);
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
                // Makes the log, if there is none. SQLite syncs its name with what is first written to it, hides it
                // when that fails, and would commit to a log that nobody finds after a power cut.
                connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
                sync_folder(path).map_err(|error| Error::Open(Arc::new(error)))?;
            }
        }
        Ok(Session { connection, rewritten: RefCell::default(), recording: None, watcher: None })
    }

    /// From now on statements that go through a whole table are noted, if this is a test.
    pub(crate) fn watch(&mut self, watcher: &Arc<Rerun>) {
        self.watcher = watcher.is_seeded().then(|| Arc::clone(watcher));
    }

    /// From now on every statement that changes something is recorded.
    pub(crate) fn record(&mut self) {
        self.recording = Some(RefCell::default());
    }

    /// Where the recording stands, to go back to.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.recording.as_ref().map(|recording| recording.borrow().mark())
    }

    /// Forgets what was recorded since: it was undone.
    pub(crate) fn rewind(&self, mark: Option<Mark>) {
        if let Some((recording, mark)) = self.recording.as_ref().zip(mark) {
            recording.borrow_mut().rewind(mark);
        }
    }

    /// Forgets everything that was recorded: a transaction begins.
    pub(crate) fn forget(&self) {
        if let Some(recording) = &self.recording {
            recording.borrow_mut().clear();
        }
    }

    /// What the open transaction has changed, as a frame of the log; `None` when it is nothing.
    pub(crate) fn recorded(&self, sequence: u64, previous: u64) -> Option<Vec<u8>> {
        let recording = self.recording.as_ref()?.borrow();
        (!recording.is_empty()).then(|| recording.encode(sequence, previous))
    }

    /// Runs a statement that was recorded; the number of rows it changed.
    pub(crate) fn run_again(&self, sql: &str, params: &[Value]) -> Result<u64, Error> {
        let mut statement = self.connection.prepare_cached(&placeholder::to_sqlite(sql))?;
        for (index, value) in params.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, Bound(value))?;
        }
        let before = self.connection.total_changes();
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(self.connection.total_changes() - before)
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Every row of the result.
    pub(crate) fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        self.bound(sql, params, |statement| {
            let columns = statement.column_count();
            let mut result = Vec::new();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|column| from_sqlite(column, row.get_ref(column)?));
                result.push(Row::new(values.collect::<Result<_, _>>()?));
            }
            Ok(result)
        })
    }

    /// Hands on the text in the first column of each row; the number of rows.
    pub(crate) fn texts(
        &self,
        sql: &'static str,
        params: &[Value],
        each: &mut dyn FnMut(&str),
    ) -> Result<u64, Error> {
        self.bound(sql, params, |statement| {
            let mut rows = statement.raw_query();
            let mut count = 0;
            while let Some(row) = rows.next()? {
                each(row.get_ref(0)?.as_str()?);
                count += 1;
            }
            Ok(count)
        })
    }

    /// The number of rows that were changed.
    pub(crate) fn execute(&self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        self.bound(sql, params, |statement| Ok(statement.raw_execute()? as u64))
    }

    /// Several statements without parameters.
    pub(crate) fn batch(&self, sql: &'static str) -> Result<(), Error> {
        self.connection.execute_batch(sql)?;
        if let Some(recording) = &self.recording {
            recording.borrow_mut().push(Kind::Batch, sql, &[], 0);
        }
        Ok(())
    }

    fn bound<T>(
        &self,
        sql: &'static str,
        params: &[Value],
        run: impl FnOnce(&mut CachedStatement<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        let prepared = self.statement(sql).and_then(|mut statement| {
            if statement.parameter_count() != params.len() {
                return Err(rusqlite::Error::InvalidParameterCount(
                    params.len(),
                    statement.parameter_count(),
                ));
            }
            for (index, value) in params.iter().enumerate() {
                statement.raw_bind_parameter(index + 1, Bound(value))?;
            }
            Ok(statement)
        });
        let before = self.connection.total_changes();
        let ran = prepared.and_then(|mut statement| {
            let result = run(&mut statement)?;
            if let Some(recording) = &self.recording
                && !statement.readonly()
            {
                let changed = self.connection.total_changes() - before;
                recording.borrow_mut().push(Kind::Statement, sql, params, changed);
            }
            Ok(result)
        });
        ran.map_err(|error| {
            if !matches!(error, rusqlite::Error::SqliteFailure(..)) {
                tracing::error!(database.statement = sql, error = %error, "a statement is wrong");
            }
            error.into()
        })
    }

    /// The prepared statement for `sql`, whose placeholders are `$n`.
    fn statement(&self, sql: &'static str) -> Result<CachedStatement<'_>, rusqlite::Error> {
        let mut rewritten = self.rewritten.borrow_mut();
        let entry = rewritten.entry((sql.as_ptr().addr(), sql.len()));
        if let (Some(watcher), Entry::Vacant(_)) = (&self.watcher, &entry)
            && self.walks(sql)?
        {
            watcher.note_walk(sql);
        }
        let text = entry.or_insert_with(|| placeholder::to_sqlite(sql).into());
        self.connection.prepare_cached(text)
    }

    /// Whether the plan of a statement goes through all of a table or an index.
    fn walks(&self, sql: &str) -> Result<bool, rusqlite::Error> {
        let plan = format!("EXPLAIN QUERY PLAN {}", placeholder::to_sqlite(sql));
        let mut plan = self.connection.prepare(&plan)?;
        let mut steps = plan.raw_query();
        while let Some(step) = steps.next()? {
            let step: String = step.get("detail")?;
            if step.starts_with("SCAN ") && step != "SCAN CONSTANT ROW" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs one of the statements that steer transactions.
    pub(crate) fn control(&self, sql: &'static str) -> Result<(), Error> {
        self.connection.prepare_cached(sql)?.raw_execute()?;
        Ok(())
    }
}

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(n) => ValueRef::Integer(*n),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn from_sqlite(column: usize, value: ValueRef<'_>) -> Result<Value, rusqlite::Error> {
    let mismatch = || rusqlite::Error::InvalidColumnType(column, String::new(), value.data_type());
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Integer(n),
        // No column of ours holds a float; a query that makes one is not portable.
        ValueRef::Real(_) => return Err(mismatch()),
        ValueRef::Text(text) => Value::Text(str::from_utf8(text).map_err(|_| mismatch())?.to_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}
