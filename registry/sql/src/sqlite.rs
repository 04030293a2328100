//! The engine of one file: a thread that writes, connections that read, snapshots before migrations.
//!
//! Invariant: after [`Sqlite::close`] returned, everything acknowledged is in the database file itself and no
//! thread touches it any more.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::changes::{ChangeLogConfig, ChangeLogStatus};
use crate::database::blocking;
use crate::readers::Readers;
use crate::rerun::Rerun;
use crate::writer::{self, Closure, Commit, KeptLog, Message};
use crate::{Error, Tx, migrate};

/// Scans at once; more would only fight for the page cache.
const SCANS: usize = 8;

pub(crate) struct Sqlite {
    path: PathBuf,
    pub(crate) writer: mpsc::Sender<Message>,
    log: KeptLog,
    readers: Arc<Readers>,
    scans: Arc<Semaphore>,
    pub(crate) broken: Arc<AtomicBool>,
    /// Whether this file held a schema when it was opened: then a migration is preceded by a snapshot.
    existed: bool,
    snapshot: tokio::sync::Mutex<bool>,
}

impl Sqlite {
    /// Blocks while SQLite recovers its log.
    pub(crate) fn open(path: PathBuf, rerun: Rerun, log: Option<ChangeLogConfig>) -> Result<Sqlite, Error> {
        create(&path).map_err(|error| Error::Open(Arc::new(error)))?;
        let (rerun, broken) = (Arc::new(rerun), Arc::new(AtomicBool::new(false)));
        // The writer first: it puts the file into write-ahead mode, which readers rely on.
        let (writer, log) = writer::start(&path, Arc::clone(&rerun), Arc::clone(&broken), log)?;
        let readers = Arc::new(Readers::new(path.clone(), rerun));
        let existed = readers.run(migrate::holds_a_schema)?;
        Ok(Sqlite {
            path,
            writer,
            log,
            readers,
            scans: Arc::new(Semaphore::new(SCANS)),
            broken,
            existed,
            snapshot: tokio::sync::Mutex::new(false),
        })
    }

    /// A complete copy before the first migration of a database that existed when it was opened.
    pub(crate) async fn before_migration(&self, namespace: &'static str, first: u32) -> Result<(), Error> {
        if !self.existed {
            return Ok(());
        }
        let mut taken = self.snapshot.lock().await;
        if !*taken {
            let path = self.path.clone();
            blocking(move || migrate::snapshot(&path, namespace, first)).await?;
            *taken = true;
        }
        Ok(())
    }

    pub(crate) async fn write<T, E, F>(&self, commit: Commit, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let job = Box::new(Closure { commit, body, result: None, reply });
        if self.writer.send(Message::Write(job)).await.is_err() {
            return Err(Error::Closed.into());
        }
        result.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    pub(crate) async fn read<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let _turn = self.scans.acquire().await.map_err(|_| Error::Closed)?;
        let readers = Arc::clone(&self.readers);
        blocking(move || readers.run(body)).await
    }

    /// In the calling thread.
    pub(crate) fn point<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        self.readers.run(body)
    }

    /// How the change log stands; `None` where there is none.
    pub(crate) fn change_log(&self) -> Option<ChangeLogStatus> {
        self.log.read().as_ref().map(|log| log.status())
    }

    pub(crate) async fn follow_change_log(&self, config: ChangeLogConfig) -> Result<(), Error> {
        let (done, begun) = oneshot::channel();
        if self.writer.send(Message::Follow(Box::new(config), done)).await.is_err() {
            return Err(Error::Closed);
        }
        begun.await.unwrap_or(Err(Error::Closed))
    }

    /// Has every replica take a new copy of the database. Gives those that have not.
    pub(crate) async fn renew_change_log(&self) -> Vec<String> {
        let Some(log) = self.log.read().clone() else { return Vec::new() };
        let renewed = tokio::task::spawn_blocking(move || log.renew()).await;
        // None may be taken for all where it ended by a panic.
        renewed.unwrap_or_else(|_| vec!["the change log".to_owned()])
    }

    /// Statements that went through a whole table, in tests.
    pub(crate) fn walks(&self) -> Vec<&'static str> {
        self.readers.walks()
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    pub(crate) async fn close(&self) {
        self.readers.close();
        let (done, closed) = oneshot::channel();
        if self.writer.send(Message::Close(done)).await.is_ok() {
            // An error means that another call closed it.
            drop(closed.await);
        }
    }
}

/// Creates the file, if it is not there, so that nobody else can read it: SQLite gives its log the same mode.
pub(crate) fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The folder that holds a file, "." for a bare name.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in the folder of a file durable.
pub(crate) fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}
