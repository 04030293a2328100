//! The transaction that a closure works in.
//!
//! Small on purpose: what it offers, every engine offers alike. Invariant: after a statement failed nothing
//! more can be done in the transaction and it will not commit, whatever the closure returns (PostgreSQL
//! behaves so by itself; on SQLite it is kept here).

use std::cell::{Cell, RefCell};

use crate::session::Session;
use crate::{Error, Row, Value, postgres};

/// A closure that touches more rows than this holds up everybody else.
const ROWS_EXPECTED: u64 = 1000;

/// An open transaction. SQL is `&'static str`, so that no input can become part of it.
///
/// Portable SQL, which SQLite and PostgreSQL both take: placeholders `$1`, `$2` …; columns TEXT, BIGINT and
/// BLOB; `ON CONFLICT … DO UPDATE`, `RETURNING`; flags as 0 and 1; no `now()` and nothing else that is random
/// (time and ids are parameters), no arrays, no `LIMIT NULL`. A closure touches at most 1,000 rows.
pub struct Tx<'a> {
    engine: Engine<'a>,
    /// The first error, if a statement failed.
    failure: RefCell<Option<Error>>,
    rows: Cell<u64>,
}

enum Engine<'a> {
    Sqlite(&'a Session),
    Postgres(&'a postgres::Session),
}

impl<'a> Tx<'a> {
    pub(crate) fn new(session: &'a Session) -> Tx<'a> {
        Tx { engine: Engine::Sqlite(session), failure: RefCell::new(None), rows: Cell::new(0) }
    }

    pub(crate) fn on_postgres(session: &'a postgres::Session) -> Tx<'a> {
        Tx { engine: Engine::Postgres(session), failure: RefCell::new(None), rows: Cell::new(0) }
    }

    /// Every row of the result. For INSERT, UPDATE and DELETE with RETURNING too.
    pub fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        self.guarded(|| match self.engine {
            Engine::Sqlite(session) => session.query(sql, params),
            Engine::Postgres(session) => session.query(sql, params),
        })
        .inspect(|rows| self.count(rows.len() as u64))
    }

    /// The row of a query that has at most one; [`Error::NotOneRow`] when it has more.
    pub fn query_optional(&self, sql: &'static str, params: &[Value]) -> Result<Option<Row>, Error> {
        let mut rows = self.query(sql, params)?;
        if rows.len() > 1 {
            return Err(Error::NotOneRow { found: rows.len() });
        }
        Ok(rows.pop())
    }

    /// The row of a query that always has exactly one, such as a count.
    pub fn query_one(&self, sql: &'static str, params: &[Value]) -> Result<Row, Error> {
        self.query_optional(sql, params)?.ok_or(Error::NotOneRow { found: 0 })
    }

    /// Hands on the text in the first column of each row, as it comes: for long lists, which need no row of their
    /// own for each text.
    pub fn texts(
        &self,
        sql: &'static str,
        params: &[Value],
        mut each: impl FnMut(&str),
    ) -> Result<(), Error> {
        let rows = self.guarded(|| match self.engine {
            Engine::Sqlite(session) => session.texts(sql, params, &mut each),
            Engine::Postgres(session) => {
                let rows = session.query(sql, params)?;
                rows.iter().try_for_each(|row| row.get::<String>(0).map(|text| each(&text)))?;
                Ok(rows.len() as u64)
            }
        })?;
        self.count(rows);
        Ok(())
    }

    /// Runs a statement without a result; the number of rows it changed.
    pub fn execute(&self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        self.guarded(|| match self.engine {
            Engine::Sqlite(session) => session.execute(sql, params),
            Engine::Postgres(session) => session.execute(sql, params),
        })
        .inspect(|&rows| self.count(rows))
    }

    /// Runs several statements without parameters: the text of a migration.
    pub(crate) fn batch(&self, sql: &'static str) -> Result<(), Error> {
        self.guarded(|| match self.engine {
            Engine::Sqlite(session) => session.batch(sql),
            Engine::Postgres(session) => session.batch(sql),
        })
    }

    /// For the few things that no two engines do alike: asking for a table, and the lock of migrations.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// The first error, if a statement failed: the transaction must then be rolled back.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    fn guarded<T>(&self, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.failure.borrow().is_some() {
            return Err(Error::Spoiled);
        }
        run().inspect_err(|error| {
            self.failure.borrow_mut().get_or_insert_with(|| error.clone());
        })
    }

    fn count(&self, rows: u64) {
        let before = self.rows.replace(self.rows.get() + rows);
        if before <= ROWS_EXPECTED && self.rows.get() > ROWS_EXPECTED {
            tracing::debug!(database.rows = self.rows.get(), "a closure touches many rows");
        }
    }
}
