//! One connection to PostgreSQL, set up as every connection must be, with its prepared statements.
//!
//! Each has a runtime of its own that runs in the calling thread: measured with 32 callers, that takes half the
//! CPU time of connections that live on the server's runtime (43 against 69 µs a read, 80 against 167 µs a
//! transaction of two writes). Invariant: full durability, and no transaction outlives its closure.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::address::Address;
use super::convert::{self, Bound};
use super::failure::{self, Trouble};
use crate::{Error, Row, Value, placeholder};

/// No statement of ours takes this long; a server that stays silent for it is taken for lost.
const SILENCE: Duration = Duration::from_secs(30);
/// A migration may rewrite a large table.
const MIGRATION: Duration = Duration::from_secs(3600);

/// Confirmed is what is on the server's disk, and on its synchronous standbys if it has some. A transaction whose
/// server died must not keep its locks.
const SETUP: &str = "
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
SET idle_in_transaction_session_timeout = '60s';
SET standard_conforming_strings = on;
SET client_min_messages = warning;";

pub(crate) struct Session {
    /// Always there, but while it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    /// By the address of the static text they came from.
    statements: RefCell<HashMap<(usize, usize), Statement>>,
    transaction: Cell<Transaction>,
    lost: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    /// Goes with the first statement, in the same packet.
    Asked(&'static str),
    Open,
}

impl Session {
    /// Connects and checks what the server is.
    pub(super) fn connect(address: &Address) -> Result<Session, Error> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Open(Arc::new(error)))?;
        let client = runtime.block_on(async {
            let connecting = tokio::time::timeout(SILENCE, address.connect()).await;
            let client = connecting.map_err(|_| silent(SILENCE))?.map_err(failure::of_statement)?;
            client.batch_execute(SETUP).await.map_err(failure::of_statement)?;
            Ok::<_, Error>(client)
        })?;
        Ok(Session {
            runtime: Some(runtime),
            client,
            statements: RefCell::default(),
            transaction: Cell::new(Transaction::None),
            lost: Cell::new(false),
        })
    }

    /// Makes the row that migrations are locked with, and says what the server promises.
    pub(super) fn prepare_migrations(&self) -> Result<(), Error> {
        let settings = self.query(
            "SELECT current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes')",
            &[],
        )?;
        for row in settings {
            let encoding: String = row.get(0)?;
            if encoding != "UTF8" {
                return Err(Error::Address(Trouble::Encoding(encoding).to_string()));
            }
            if row.get::<String>(1)? != "on" || row.get::<String>(2)? != "on" {
                tracing::warn!(
                    "the database runs without fsync or full_page_writes: a power cut loses what was acknowledged"
                );
            }
        }
        // Two that do this at once may collide in the catalogue, and the second time one of them finds it there.
        let mut result = Ok(());
        for _ in 0..5 {
            result = self.batch(
                "CREATE TABLE IF NOT EXISTS schema_lock (id BIGINT PRIMARY KEY, taken BIGINT NOT NULL);
                 INSERT INTO schema_lock (id, taken) VALUES (1, 0) ON CONFLICT (id) DO NOTHING",
            );
            if result.is_ok() {
                break;
            }
        }
        result
    }

    pub(super) fn is_usable(&self) -> bool {
        self.transaction.get() == Transaction::None && !self.lost.get() && !self.client.is_closed()
    }

    /// The statement that begins a transaction is sent with the first one in it.
    pub(super) fn begin(&self, begin: &'static str) {
        self.transaction.set(Transaction::Asked(begin));
    }

    /// Nothing to do when the closure asked nothing.
    pub(super) fn commit(&self) -> Result<(), Error> {
        if self.transaction.replace(Transaction::None) != Transaction::Open {
            return Ok(());
        }
        match self.within(SILENCE, self.client.batch_execute("COMMIT")) {
            Ok(committed) => committed.map_err(failure::of_commit),
            Err(_) => Err(Error::OutcomeUnknown(Arc::new(Trouble::Silent(SILENCE.as_secs())))),
        }
    }

    pub(super) fn roll_back(&self) {
        if self.transaction.replace(Transaction::None) != Transaction::Open || self.lost.get() {
            return;
        }
        // What cannot be rolled back is given up with its connection.
        if !matches!(self.within(SILENCE, self.client.batch_execute("ROLLBACK")), Ok(Ok(()))) {
            self.lost.set(true);
        }
    }

    /// Every row of the result.
    pub(crate) fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        let rows = self.statement(sql, params, async |client, statement, params| {
            client.query(statement, params).await
        })?;
        let rows: Result<_, _> = rows.iter().map(convert::row).collect();
        rows.map_err(|error| wrong(sql, error))
    }

    /// The number of rows that were changed.
    pub(crate) fn execute(&self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        self.statement(sql, params, async |client, statement, params| client.execute(statement, params).await)
    }

    /// Several statements without parameters: the text of a migration.
    pub(crate) fn batch(&self, sql: &'static str) -> Result<(), Error> {
        let text = placeholder::to_postgres(sql);
        let begin = self.begin_now();
        let run = self.within(MIGRATION, async {
            if let Some(begin) = begin {
                self.client.batch_execute(begin).await?;
            }
            self.client.batch_execute(&text).await
        })?;
        run.map_err(|error| self.failed(sql, error))
    }

    fn statement<T>(
        &self,
        sql: &'static str,
        params: &[Value],
        run: impl AsyncFnOnce(&Client, &Statement, &[&(dyn ToSql + Sync)]) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        let bound: Vec<Bound<'_>> = params.iter().map(Bound).collect();
        let params: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|value| value as _).collect();
        let known = self.statements.borrow().get(&key(sql)).cloned();
        let begin = self.begin_now();
        let outcome = self.within(SILENCE, async {
            // Polled in this order, the beginning of the transaction goes out before its first statement.
            let begin = async {
                match begin {
                    Some(begin) => self.client.batch_execute(begin).await,
                    None => Ok(()),
                }
            };
            let run = async {
                let statement = match known {
                    Some(statement) => statement,
                    None => {
                        let statement = self.client.prepare(sql).await?;
                        self.statements.borrow_mut().insert(key(sql), statement.clone());
                        statement
                    }
                };
                if statement.params().len() != params.len() {
                    let expected = statement.params().len();
                    return Ok(Err(Trouble::Parameters { expected, given: params.len() }));
                }
                run(&self.client, &statement, &params).await.map(Ok)
            };
            let (begun, result) = tokio::join!(biased; begin, run);
            begun.and(result)
        })?;
        match outcome {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(trouble)) => Err(wrong(sql, trouble)),
            Err(error) => Err(self.failed(sql, error)),
        }
    }

    fn begin_now(&self) -> Option<&'static str> {
        match self.transaction.get() {
            Transaction::Asked(begin) => {
                self.transaction.set(Transaction::Open);
                Some(begin)
            }
            Transaction::None | Transaction::Open => None,
        }
    }

    fn failed(&self, sql: &'static str, error: tokio_postgres::Error) -> Error {
        let error = failure::of_statement(error);
        match &error {
            Error::Unavailable(_) => self.lost.set(true),
            Error::Statement(cause) => {
                tracing::error!(database.statement = sql, error = %cause, "a statement is wrong");
            }
            _ => {}
        }
        error
    }

    /// Runs to its end in this thread, which drives the connection meanwhile.
    fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Error> {
        let runtime = self.runtime.as_ref().expect("the runtime is there until the session is dropped");
        runtime.block_on(async { tokio::time::timeout(limit, work).await }).map_err(|_| {
            self.lost.set(true);
            silent(limit)
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // An ordinary drop waits, which is not allowed everywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn key(sql: &'static str) -> (usize, usize) {
    (sql.as_ptr().addr(), sql.len())
}

fn silent(limit: Duration) -> Error {
    Error::Unavailable(Arc::new(Trouble::Silent(limit.as_secs())))
}

fn wrong(sql: &'static str, trouble: Trouble) -> Error {
    tracing::error!(database.statement = sql, error = %trouble, "a statement is wrong");
    Error::Statement(Arc::new(trouble))
}
