//! The one thread that writes: it runs many closures in one transaction and makes them durable together.
//!
//! A sync of the disk costs a millisecond or more, so callers that wait at the same time share one. A group runs without
//! savepoints, which copy every page that is changed; when one of its closures refuses, all of it is rolled back and runs
//! again with one for each. Invariant: no caller hears of success before the commit that holds its changes has returned,
//! and when a group falls apart each of its closures runs again alone, once.
//!
//! A group of nothing but closures that may wait for their sync is committed without one: it is in the log, where every
//! reader and every later process finds it, and the next sync of the log takes it along.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use crate::changes::{self, ChangeLog, ChangeLogConfig};
use crate::rerun::Rerun;
use crate::session::{Access, Session};
use crate::{Error, Tx};

/// Closures in one transaction at most. More would not make the sync cheaper, only the wait longer.
const GROUP_CLOSURES: usize = 256;
/// A group takes no more closures after this time, so that the first of them is not kept waiting.
pub(crate) const GROUP_TIME: Duration = Duration::from_millis(10);
/// Callers that may wait in the queue; further ones wait before it.
pub(crate) const QUEUE: usize = 1024;
/// The log is moved into the database file after about this many changing closures.
const CHECKPOINT_CLOSURES: usize = 1000;
/// One that changes more rows than this counts for several, so that no move takes long.
const ROWS_OF_CLOSURE: u64 = 40;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// A sync of the log, and with it of everything before it.
    Durable,
    /// Nothing: the next sync is soon enough.
    Unsynced,
}

/// A write closure on its way through the writer, with its caller waiting.
pub(crate) trait Job: Send {
    fn commit(&self) -> Commit;
    /// Runs the closure and keeps its result; true when the closure returned Ok.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Tells the caller the result of the closure: it is committed, or it was the closure's own refusal.
    fn acknowledge(self: Box<Self>);
    /// Tells the caller that nothing was stored: the closure's own error if it returned one, else this.
    fn refuse(self: Box<Self>, error: Error);
}

pub(crate) enum Message {
    Write(Box<dyn Job>),
    /// Has the change log kept so from now on.
    Follow(Box<ChangeLogConfig>, oneshot::Sender<Result<(), Error>>),
    Close(oneshot::Sender<()>),
}

/// The job of a closure with its own result and error types.
pub(crate) struct Closure<T, E, F> {
    pub(crate) commit: Commit,
    pub(crate) body: F,
    pub(crate) result: Option<Result<T, E>>,
    pub(crate) reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Closure<T, E, F>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn commit(&self) -> Commit {
        self.commit
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = None;
        let body = &mut self.body;
        // The closure is free of side effects, so nothing half-done outlives the savepoint's rollback.
        let result =
            catch_unwind(AssertUnwindSafe(|| body(tx))).unwrap_or_else(|_| Err(Error::Panicked.into()));
        // A closure may have swallowed the error of a statement; its transaction is spoiled all the same.
        let result = match (result, tx.failure()) {
            (Ok(_), Some(failure)) => Err(failure.into()),
            (result, _) => result,
        };
        let ok = result.is_ok();
        self.result = Some(result);
        ok
    }

    fn acknowledge(self: Box<Self>) {
        if let Some(result) = self.result {
            // A caller that no longer waits hears nothing; what it asked for is done.
            drop(self.reply.send(result));
        }
    }

    fn refuse(self: Box<Self>, error: Error) {
        let result = match self.result {
            Some(Err(own)) => Err(own),
            _ => Err(error.into()),
        };
        drop(self.reply.send(result));
    }
}

/// What a transaction is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// The first closure, and those that queue up meanwhile.
    Open,
    /// The closures that there are, each in a savepoint of its own: a refusal undoes one and not all.
    Savepoints,
    /// One closure.
    Alone,
}

/// The change log that is kept at present, where there is one.
pub(crate) type KeptLog = Arc<RwLock<Option<Arc<ChangeLog>>>>;

struct Writer {
    path: PathBuf,
    session: Session,
    /// How the session commits at present.
    commits: Commit,
    queue: mpsc::Receiver<Message>,
    /// Taken from the queue while a group was filled, and not part of it.
    put_back: Option<Message>,
    rerun: Arc<Rerun>,
    /// The change log on the replicas. Only the writer changes which.
    log: KeptLog,
    /// Set when a sync failed; nothing is written any more.
    broken: Arc<AtomicBool>,
    since_checkpoint: usize,
}

/// Opens the writing connection and starts the thread; it ends when it is told to close, or when the last
/// sender is gone and the queue is empty.
pub(crate) fn start(
    path: &Path,
    rerun: Arc<Rerun>,
    broken: Arc<AtomicBool>,
    log: Option<ChangeLogConfig>,
) -> Result<(mpsc::Sender<Message>, KeptLog), Error> {
    let mut session = Session::open(path, Access::Write)?;
    session.watch(&rerun);
    let log = match log {
        None => {
            changes::note_unlogged(&session)?;
            None
        }
        Some(config) => {
            session.record();
            Some(Arc::new(ChangeLog::open(&session, path, config)?))
        }
    };
    let (sender, queue) = mpsc::channel(QUEUE);
    let log = Arc::new(RwLock::new(log));
    let kept = Arc::clone(&log);
    // As every session is opened.
    let commits = Commit::Durable;
    let path = path.to_owned();
    let writer =
        Writer { path, session, commits, queue, put_back: None, rerun, log, broken, since_checkpoint: 0 };
    std::thread::Builder::new()
        .name("sql-writer".into())
        .spawn(move || writer.run())
        .map_err(|error| Error::Open(Arc::new(error)))?;
    Ok((sender, kept))
}

impl Writer {
    fn run(mut self) {
        // A server that is killed again and again comes to no other checkpoint, and its log would only grow.
        self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        let closing = loop {
            match self.put_back.take().or_else(|| self.queue.blocking_recv()) {
                Some(Message::Write(job)) => self.write(job),
                Some(Message::Follow(config, done)) => drop(done.send(self.follow(*config))),
                Some(Message::Close(done)) => break Some(done),
                None => break None,
            }
        };
        // What was sent before the closing has been done; what comes later is told so.
        self.queue.close();
        while let Some(message) = self.queue.blocking_recv() {
            match message {
                Message::Write(job) => job.refuse(Error::Closed),
                Message::Follow(_, done) => drop(done.send(Err(Error::Closed))),
                Message::Close(done) => {
                    let _ = done.send(());
                }
            }
        }
        if !self.broken.load(Ordering::Relaxed) {
            self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        }
        let log = self.log();
        drop(self.session);
        if let Some(log) = log {
            log.close();
        }
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    /// Writes `first` and whatever has queued up behind it, and tells their callers.
    fn write(&mut self, first: Box<dyn Job>) {
        if self.broken.load(Ordering::Relaxed) {
            return first.refuse(Error::NotDurable);
        }
        if let Err(error) = self.ready() {
            return first.refuse(error);
        }
        let before = self.session.connection().total_changes();
        let mut group = vec![first];
        let mut outcome = self.transaction(&mut group, Group::Open);
        if matches!(outcome, Ok(false)) && group.len() > 1 {
            outcome = self.transaction(&mut group, Group::Savepoints);
        }
        match outcome {
            Ok(_) => {
                let changed = self.session.connection().total_changes() - before;
                self.since_checkpoint += group.len().max((changed / ROWS_OF_CLOSURE) as usize);
                for job in group {
                    job.acknowledge();
                }
            }
            // It is committed here: running it again would do it twice.
            Err(Error::NotReplicated) => {
                for job in group {
                    job.refuse(Error::NotReplicated);
                }
            }
            Err(error) => {
                tracing::warn!(database.closures = group.len(), error = %error, "a group was rolled back");
                for job in group {
                    self.write_alone(job);
                }
            }
        }
        if self.since_checkpoint >= CHECKPOINT_CLOSURES && !self.broken.load(Ordering::Relaxed) {
            self.since_checkpoint = 0;
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    /// The second and last attempt of a closure whose group fell apart.
    fn write_alone(&mut self, job: Box<dyn Job>) {
        if self.broken.load(Ordering::Relaxed) {
            return job.refuse(Error::NotDurable);
        }
        if let Err(error) = self.ready() {
            return job.refuse(error);
        }
        let mut group = vec![job];
        let outcome = self.transaction(&mut group, Group::Alone);
        for job in group {
            match &outcome {
                Ok(_) => job.acknowledge(),
                Err(error) => job.refuse(error.clone()),
            }
        }
    }

    /// Runs a group in one transaction. False when a closure refused, and after an error: then nothing of it is stored.
    /// How it is committed is settled before it begins: one that needs no sync takes no closure that needs one, which
    /// comes next then.
    fn transaction(&mut self, group: &mut Vec<Box<dyn Job>>, kind: Group) -> Result<bool, Error> {
        self.session.forget();
        // None of the others asks for more than the first, or the whole is synced in any case.
        let log = self.log();
        // What the replicas were told the file must not forget: it would be taken for an older copy.
        let commit = if log.is_some() { Commit::Durable } else { group[0].commit() };
        let begun = self.will_commit(commit).and_then(|()| self.session.control("BEGIN IMMEDIATE"));
        let outcome = begun.and_then(|()| {
            let agreed = match kind {
                Group::Savepoints => {
                    group.iter_mut().try_for_each(|job| self.savepoint(job.as_mut(), true))?;
                    true
                }
                Group::Open => self.gather(group, commit)?,
                Group::Alone => self.run_job(group[0].as_mut())?,
            };
            if !agreed {
                self.session.control("ROLLBACK")?;
                return Ok(false);
            }
            match &log {
                None => self.session.control("COMMIT")?,
                Some(log) => log.commit(&self.session)?,
            }
            Ok(true)
        });
        if let Err(error) = &outcome {
            // Fails when the engine has rolled back already, which is as well.
            drop(self.session.control("ROLLBACK"));
            if matches!(error, Error::NotDurable) {
                self.give_up();
            }
        }
        outcome
    }

    /// Runs the one closure of a group, and adds and runs those that queue up meanwhile. False as soon as one refuses.
    fn gather(&mut self, group: &mut Vec<Box<dyn Job>>, commit: Commit) -> Result<bool, Error> {
        let began = Instant::now();
        loop {
            let job = group.last_mut().expect("the group is never empty");
            if !self.run_job(job.as_mut())? {
                return Ok(false);
            }
            if group.len() >= GROUP_CLOSURES || began.elapsed() >= GROUP_TIME {
                return Ok(true);
            }
            match self.queue.try_recv() {
                Ok(Message::Write(job)) if commit == Commit::Durable || job.commit() == commit => {
                    group.push(job)
                }
                Ok(other) => {
                    self.put_back = Some(other);
                    return Ok(true);
                }
                Err(_) => return Ok(true),
            }
        }
    }

    /// Has the transactions to come committed so. Outside of a transaction only.
    fn will_commit(&mut self, commit: Commit) -> Result<(), Error> {
        if self.commits != commit {
            let pragma = match commit {
                Commit::Durable => "PRAGMA synchronous = FULL",
                Commit::Unsynced => "PRAGMA synchronous = NORMAL",
            };
            // Prepared each time: the engine obeys this pragma while it prepares it, and not when it runs.
            self.session.connection().execute_batch(pragma)?;
            self.commits = commit;
        }
        Ok(())
    }

    /// Runs one closure; false when it refused, and what it did is to be undone. An error means that the whole transaction
    /// is gone.
    fn run_job(&self, job: &mut dyn Job) -> Result<bool, Error> {
        if self.rerun.toss() {
            self.savepoint(job, false)?;
        }
        self.run_once(job)
    }

    fn run_once(&self, job: &mut dyn Job) -> Result<bool, Error> {
        let mut tx = Tx::new(&self.session);
        let ok = job.run(&mut tx);
        // SQLITE_FULL, IOERR and NOMEM may roll back everything, savepoints and all.
        if self.session.connection().is_autocommit() {
            return Err(tx.failure().unwrap_or(Error::Spoiled));
        }
        Ok(ok)
    }

    /// The same in a savepoint of its own, which undoes what a closure did that refused, or that is not to be kept.
    fn savepoint(&self, job: &mut dyn Job, keep: bool) -> Result<(), Error> {
        self.session.control("SAVEPOINT closure")?;
        let mark = self.session.mark();
        let ok = if keep { self.run_job(job)? } else { self.run_once(job)? };
        if !(ok && keep) {
            self.session.control("ROLLBACK TO closure")?;
            self.session.rewind(mark);
        }
        self.session.control("RELEASE closure")
    }

    /// Whether the replicas can take a group, where they keep the change log.
    fn ready(&self) -> Result<(), Error> {
        self.log().map_or(Ok(()), |log| log.ready())
    }

    fn log(&self) -> Option<Arc<ChangeLog>> {
        self.log.read().clone()
    }

    /// Ends the change log and begins it anew, as the next start would, on the replicas of `config`. After an error
    /// nothing is carried to those that are behind until the next attempt.
    fn follow(&mut self, config: ChangeLogConfig) -> Result<(), Error> {
        match self.log() {
            Some(log) => log.close(),
            None => self.session.record(),
        }
        self.will_commit(Commit::Durable)?;
        let log = ChangeLog::begin(&self.session, &self.path, config)?;
        *self.log.write() = Some(Arc::new(log));
        Ok(())
    }

    /// Moves what the log holds into the database file. What cannot be moved now stays in the log.
    fn checkpoint(&mut self, pragma: &'static str) {
        let moved = self
            .will_commit(Commit::Durable)
            .and_then(|()| self.session.connection().query_row(pragma, [], |_| Ok(())).map_err(Error::from));
        match moved {
            Ok(()) => {}
            Err(Error::NotDurable) => self.give_up(),
            Err(error) => tracing::warn!(error = %error, "the database log could not be moved into the file"),
        }
    }

    fn give_up(&self) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "a sync of the database file failed: no more changes until the server is restarted"
            );
        }
    }
}
