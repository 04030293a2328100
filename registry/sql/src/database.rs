//! The handle that every room holds.
//!
//! Cheap to clone. Invariant: after [`Database::close`] returned, everything acknowledged is in the database
//! file itself and no thread touches it any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::readers::Readers;
use crate::rerun::Rerun;
use crate::writer::{self, Closure, Message};
use crate::{Error, Migration, Tx, migrate};

/// Scans at once; more would only fight for the page cache.
const SCANS: usize = 8;

#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    writer: mpsc::Sender<Message>,
    readers: Arc<Readers>,
    scans: Arc<Semaphore>,
    closed: AtomicBool,
    broken: Arc<AtomicBool>,
    /// Whether this file held a schema when it was opened: then a migration is preceded by a snapshot.
    existed: bool,
    snapshot: tokio::sync::Mutex<bool>,
}

impl Database {
    /// Opens the SQLite file at `path` (its folder must exist), creating it with mode 0600. Runs the recovery
    /// of SQLite's log, so it may take a moment after a crash.
    pub async fn open_sqlite(path: &Path) -> Result<Database, Error> {
        Database::open(path, Rerun::default()).await
    }

    /// The same, for tests: about every second closure is run twice, the first time without effect. The same
    /// seed gives the same choice.
    pub async fn open_sqlite_rerunning(path: &Path, seed: u64) -> Result<Database, Error> {
        Database::open(path, Rerun::seeded(seed)).await
    }

    async fn open(path: &Path, rerun: Rerun) -> Result<Database, Error> {
        let path = path.to_owned();
        blocking(move || {
            create(&path).map_err(|error| Error::Open(Arc::new(error)))?;
            let (rerun, broken) = (Arc::new(rerun), Arc::new(AtomicBool::new(false)));
            // The writer first: it puts the file into write-ahead mode, which readers rely on.
            let writer = writer::start(&path, Arc::clone(&rerun), Arc::clone(&broken))?;
            let readers = Arc::new(Readers::new(path.clone(), rerun));
            let existed = readers.run(migrate::holds_a_schema)?;
            let shared = Shared {
                path,
                writer,
                readers,
                scans: Arc::new(Semaphore::new(SCANS)),
                closed: AtomicBool::new(false),
                broken,
                existed,
                snapshot: tokio::sync::Mutex::new(false),
            };
            Ok(Database { shared: Arc::new(shared) })
        })
        .await
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
        if self.shared.existed {
            let mut taken = self.shared.snapshot.lock().await;
            if !*taken {
                let path = self.shared.path.clone();
                blocking(move || migrate::snapshot(&path, namespace, first)).await?;
                *taken = true;
            }
        }
        self.write(move |tx| migrate::apply(tx, namespace, migrations)).await
    }

    /// Runs a closure that changes something, and returns once its changes are durable. Many callers share one
    /// commit, so the closure may run more than once: it must be free of side effects. When it returns an
    /// error, its changes alone are undone.
    pub async fn write<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let job = Box::new(Closure { body, result: None, reply });
        if self.shared.writer.send(Message::Write(job)).await.is_err() {
            return Err(Error::Closed.into());
        }
        result.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Runs a closure that only reads, on one snapshot, in the blocking pool: for scans, and for anything that
    /// may touch cold pages.
    pub async fn read<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.refuse_when_closed()?;
        let _turn = self.shared.scans.acquire().await.map_err(|_| Error::Closed)?;
        let readers = Arc::clone(&self.shared.readers);
        blocking(move || readers.run(body)).await
    }

    /// The same in the calling thread: for reads of a few rows by their full key, which are warm and take
    /// microseconds.
    pub async fn point<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.refuse_when_closed()?;
        self.shared.readers.run(body)
    }

    /// Whether writes are still possible: false once a sync of the file has failed.
    pub fn is_healthy(&self) -> bool {
        !self.shared.broken.load(Ordering::Relaxed)
    }

    /// Finishes the writes that are queued, moves the log into the file and closes it. Later calls fail with
    /// [`Error::Closed`].
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.readers.close();
        let (done, closed) = oneshot::channel();
        if self.shared.writer.send(Message::Close(done)).await.is_ok() {
            // An error means that another call closed it.
            drop(closed.await);
        }
    }

    fn refuse_when_closed(&self) -> Result<(), Error> {
        if self.shared.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// Creates the file, if it is not there, so that nobody else can read it: SQLite gives its log the same mode.
fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => std::fs::File::open(folder(path))?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The folder that holds a file, "." for a bare name.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

async fn blocking<T, E, F>(work: F) -> Result<T, E>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Error::Panicked.into()))
}

#[cfg(test)]
mod tests;
