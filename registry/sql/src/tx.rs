//! The transaction that a closure works in.
//!
//! Small on purpose: what it offers, every engine offers alike. Invariant: after a statement failed nothing
//! more can be done in the transaction and it will not commit, whatever the closure returns (PostgreSQL
//! behaves so by itself; on SQLite it is kept here).

use std::cell::{Cell, RefCell};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ToSql};

use crate::session::Session;
use crate::{Error, Row, Value};

/// A closure that touches more rows than this holds up everybody else.
const ROWS_EXPECTED: u64 = 1000;

/// An open transaction. SQL is `&'static str`, so that no input can become part of it.
///
/// Portable SQL, which SQLite and PostgreSQL both take: placeholders `$1`, `$2` …; columns TEXT, BIGINT and
/// BLOB; `ON CONFLICT … DO UPDATE`, `RETURNING`; flags as 0 and 1; no `now()` and nothing else that is random
/// (time and ids are parameters), no arrays, no `LIMIT NULL`. A closure touches at most 1,000 rows.
pub struct Tx<'a> {
    session: &'a Session,
    /// The first error, if a statement failed.
    failure: RefCell<Option<Error>>,
    rows: Cell<u64>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(session: &'a Session) -> Tx<'a> {
        Tx { session, failure: RefCell::new(None), rows: Cell::new(0) }
    }

    /// Every row of the result. For INSERT, UPDATE and DELETE with RETURNING too.
    pub fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        self.guarded(sql, params, |statement| {
            let columns = statement.column_count();
            let mut result = Vec::new();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|column| from_sqlite(column, row.get_ref(column)?));
                result.push(Row::new(values.collect::<Result<_, _>>()?));
            }
            Ok(result)
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

    /// Runs a statement without a result; the number of rows it changed.
    pub fn execute(&self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        self.guarded(sql, params, |statement| Ok(statement.raw_execute()? as u64))
            .inspect(|&rows| self.count(rows))
    }

    /// Runs several statements without parameters: the text of a migration.
    pub(crate) fn batch(&self, sql: &'static str) -> Result<(), Error> {
        self.session.connection().execute_batch(sql).map_err(|error| self.fail(error))
    }

    /// The first error, if a statement failed: the transaction must then be rolled back.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    fn guarded<T>(
        &self,
        sql: &'static str,
        params: &[Value],
        run: impl FnOnce(&mut CachedStatement<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        if self.failure.borrow().is_some() {
            return Err(Error::Spoiled);
        }
        let prepared = self.session.statement(sql).and_then(|mut statement| {
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
        prepared.and_then(|mut statement| run(&mut statement)).map_err(|error| {
            if matches!(error, rusqlite::Error::SqliteFailure(..)) {
                return self.fail(error);
            }
            tracing::error!(database.statement = sql, error = %error, "a statement is wrong");
            self.fail(error)
        })
    }

    fn fail(&self, error: rusqlite::Error) -> Error {
        let error = Error::from(error);
        self.failure.borrow_mut().get_or_insert_with(|| error.clone());
        error
    }

    fn count(&self, rows: u64) {
        let before = self.rows.replace(self.rows.get() + rows);
        if before <= ROWS_EXPECTED && self.rows.get() > ROWS_EXPECTED {
            tracing::debug!(database.rows = self.rows.get(), "a closure touches many rows");
        }
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
