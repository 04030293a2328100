//! The handle that every room holds, whatever the engine beneath.
//!
//! Cheap to clone. Invariant: after [`Database::close`] returned, everything acknowledged is durable and nothing
//! of this process touches the database any more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::changes::{ChangeLogConfig, ChangeLogStatus};
use crate::postgres::{Address, Postgres};
use crate::rerun::Rerun;
use crate::sqlite::Sqlite;
use crate::writer::Commit;
use crate::{Error, Migration, Tx, companion, migrate};

#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    closed: AtomicBool,
    /// For tests: whether every transaction lets other work go first.
    yielding: bool,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Engine {
    async fn write<T, E, F>(&self, commit: Commit, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match self {
            Engine::Sqlite(sqlite) => sqlite.write(commit, body).await,
            // A PostgreSQL may fall alone: it would forget what servers that go on still believe, such as a lease
            // whose number it would then give to a second one.
            Engine::Postgres(postgres) => postgres.write(body).await,
        }
    }
}

impl Database {
    /// Opens the SQLite file at `path` (its folder must exist), creating it with mode 0600. Runs the recovery
    /// of SQLite's log, so it may take a moment after a crash.
    pub async fn open_sqlite(path: &Path) -> Result<Database, Error> {
        Database::sqlite(path, None).await
    }

    /// For tests: a PostgreSQL by its URL, or the SQLite file of this path. About every second closure is run
    /// twice, the first time without effect; the same seed gives the same choice. Before each transaction other
    /// work of the caller's executor has its turn.
    pub async fn open_rerunning(place: &str, seed: u64) -> Result<Database, Error> {
        let engine = if place.starts_with("postgres://") {
            Engine::Postgres(Postgres::open(Address::parse(place)?, Rerun::seeded(seed)).await?)
        } else {
            let path = Path::new(place).to_owned();
            Engine::Sqlite(blocking(move || Sqlite::open(path, Rerun::seeded(seed), None)).await?)
        };
        Ok(Database { shared: Arc::new(Shared { engine, closed: AtomicBool::new(false), yielding: true }) })
    }

    /// For tests: the statements of a rerunning SQLite that went through a whole table, or a whole index, and so
    /// cost the more the more is stored.
    pub fn walks(&self) -> Vec<&'static str> {
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.walks(),
            Engine::Postgres(_) => Vec::new(),
        }
    }

    /// Opens the SQLite file at `path` with every change on the replicas before it is acknowledged. Waits until the quorum of them
    /// holds the database.
    ///
    /// # Errors
    /// [`Error::LogNewer`] when an older copy was put in the place of the database, [`Error::NotReplicated`] when
    /// the quorum cannot be had.
    pub async fn open_sqlite_logged(path: &Path, log: ChangeLogConfig) -> Result<Database, Error> {
        Database::sqlite(path, Some(log)).await
    }

    async fn sqlite(path: &Path, log: Option<ChangeLogConfig>) -> Result<Database, Error> {
        let path = path.to_owned();
        let engine = blocking(move || Sqlite::open(path, Rerun::default(), log)).await?;
        Ok(Database::over(Engine::Sqlite(engine)))
    }

    /// Connects to a PostgreSQL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`, and
    /// `sslrootcert=FILE` for an authority of your own. Several servers may use one database.
    ///
    /// # Errors
    /// [`Error::Address`] for what cannot be used, [`Error::Unavailable`] when the server does not answer within
    /// a few seconds.
    pub async fn open_postgres(url: &str) -> Result<Database, Error> {
        let engine = Postgres::open(Address::parse(url)?, Rerun::default()).await?;
        Ok(Database::over(Engine::Postgres(engine)))
    }

    fn over(engine: Engine) -> Database {
        Database { shared: Arc::new(Shared { engine, closed: AtomicBool::new(false), yielding: false }) }
    }

    /// Brings the tables of `namespace` to the last of `migrations`, which are numbered 1, 2, 3 … and are only
    /// ever appended to. All that are pending run in one transaction. A schema that a newer release made is
    /// refused. Before the first migration of a database that existed when it was opened, a complete copy is
    /// written next to it: `<file>.before-<namespace>-<version>`.
    pub async fn migrate(
        &self,
        namespace: &'static str,
        migrations: &'static [Migration],
    ) -> Result<(), Error> {
        let pending = self.read(move |tx| migrate::pending(tx, namespace, migrations)).await?;
        let Some(first) = pending else { return Ok(()) };
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.before_migration(namespace, first).await?,
            // Copies of it are its operator's.
            Engine::Postgres(_) => {}
        }
        self.write(move |tx| migrate::apply(tx, namespace, migrations)).await
    }

    /// Runs a closure that changes something, and returns once its changes are durable. Many callers share one
    /// commit, so the closure may run more than once: it must be free of side effects. When it returns an
    /// error, its changes alone are undone. In [`crate::accompanied`] work it takes the companion's rows along.
    pub async fn write<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.commit(Commit::Durable, body).await
    }

    /// The same for what need not outlive a power cut. When it returns, the changes are committed: everybody sees
    /// them, and they survive the end of the process. The next durable commit makes them durable, as it does everything
    /// committed before it; a power cut until then takes them away, the last ones first. Where the database may fall
    /// without its servers, or replicas are told of each change, this is [`Database::write`].
    pub async fn write_unsynced<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.commit(Commit::Unsynced, body).await
    }

    async fn commit<T, E, F>(&self, commit: Commit, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.let_others_go_first().await;
        let Some(companion) = companion::pending() else {
            return self.shared.engine.write(commit, body).await;
        };
        let (mut body, riding) = (body, Arc::clone(&companion));
        let result = self
            .shared
            .engine
            .write(commit, move |tx| {
                riding.ride(tx)?;
                body(tx)
            })
            .await;
        if result.is_ok() {
            companion.committed();
        }
        result
    }

    /// Runs a closure that only reads, on one snapshot, in the blocking pool: for scans, and for anything that
    /// may touch cold pages.
    pub async fn read<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.let_others_go_first().await;
        self.refuse_when_closed()?;
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.read(body).await,
            Engine::Postgres(postgres) => postgres.read(body).await,
        }
    }

    /// The same in the calling thread: for reads of a few rows by their full key, which are warm and take
    /// microseconds.
    pub async fn point<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.let_others_go_first().await;
        self.refuse_when_closed()?;
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.point(body),
            Engine::Postgres(postgres) => postgres.point(body).await,
        }
    }

    async fn let_others_go_first(&self) {
        if self.shared.yielding {
            tokio::task::yield_now().await;
        }
    }

    /// Whether nothing was ever migrated here.
    pub async fn is_new(&self) -> Result<bool, Error> {
        self.read(|tx| Ok(!migrate::holds_a_schema(tx)?)).await
    }

    /// How the change log on the replicas stands; `None` where there is none.
    pub fn change_log(&self) -> Option<ChangeLogStatus> {
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.change_log(),
            Engine::Postgres(_) => None,
        }
    }

    /// Has the change log of a SQLite kept so from now on, whether there was one or not, without a restart. The replicas
    /// that hold every change go on; the others get a copy of the database. Returns when it has begun: how it stands
    /// is [`Database::change_log`]. A PostgreSQL has none, and nothing is done.
    ///
    /// # Errors
    /// When it could not be begun: it is to be tried again.
    pub async fn follow_change_log(&self, config: ChangeLogConfig) -> Result<(), Error> {
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.follow_change_log(config).await,
            Engine::Postgres(_) => Ok(()),
        }
    }

    /// Has every replica that keeps the change log take a new copy of the database, behind which everything older is
    /// removed there. Gives the names of the replicas that have not; none where there is no change log.
    pub async fn renew_change_log(&self) -> Vec<String> {
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.renew_change_log().await,
            Engine::Postgres(_) => Vec::new(),
        }
    }

    /// Whether writes are still possible: false once a sync of the file has failed.
    pub fn is_healthy(&self) -> bool {
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.is_healthy(),
            Engine::Postgres(postgres) => postgres.is_healthy(),
        }
    }

    /// Finishes the writes that are queued, moves the log into the file and closes it. Later calls fail with
    /// [`Error::Closed`].
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        match &self.shared.engine {
            Engine::Sqlite(sqlite) => sqlite.close().await,
            Engine::Postgres(postgres) => postgres.close().await,
        }
    }

    fn refuse_when_closed(&self) -> Result<(), Error> {
        if self.shared.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T, E, F>(work: F) -> Result<T, E>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Error::Panicked.into()))
}

#[cfg(test)]
pub(crate) mod suite;
#[cfg(test)]
mod tests;
