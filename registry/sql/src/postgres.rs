//! The engine for several servers: PostgreSQL, over a bounded pool of connections.
//!
//! Every closure runs in a transaction of its own, in a thread that may block: a writing one serializable, a
//! reading one on one snapshot. What PostgreSQL refuses because of a concurrent transaction runs again, and so
//! does what a broken connection cut off before its commit was asked for. Invariant: a closure whose commit was
//! asked for and not answered is never run again; its caller gets [`Error::OutcomeUnknown`].

mod address;
mod convert;
mod failure;
mod session;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::database::blocking;
use crate::rerun::Rerun;
use crate::{Error, Tx};

pub(crate) use address::Address;
pub(crate) use session::Session;

/// Writers and readers have places of their own, so that a queue of one holds up none of the other. Together
/// they bound the connections of one server.
const WRITERS: usize = 8;
const READERS: usize = 8;
/// Of the readers' places, those that scans may take.
const SCANS: usize = 5;
/// For how long a transaction that others get in the way of is run again and again.
const CONFLICT_PATIENCE: Duration = Duration::from_secs(10);
/// For how long a server that cannot be reached is tried again before the caller is told.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

const WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE";
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub(crate) struct Postgres {
    pool: Arc<Pool>,
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    scans: Semaphore,
}

impl Postgres {
    /// Connects once, so that a wrong address or password is noticed now, and makes the row that migrations
    /// are locked with.
    pub(crate) async fn open(address: Address, rerun: Rerun) -> Result<Postgres, Error> {
        let pool =
            Arc::new(Pool { address, idle: Mutex::default(), rerun, unreachable: AtomicBool::new(false) });
        let first = Arc::clone(&pool);
        blocking(move || {
            let session = first.take(Instant::now())?;
            session.prepare_migrations()?;
            first.give_back(session);
            Ok::<_, Error>(())
        })
        .await?;
        Ok(Postgres {
            pool,
            writers: Arc::new(Semaphore::new(WRITERS)),
            readers: Arc::new(Semaphore::new(READERS)),
            scans: Semaphore::new(SCANS),
        })
    }

    pub(crate) async fn write<T, E, F>(&self, mut body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(&self.writers, move |pool| pool.run(WRITE, &mut body)).await
    }

    pub(crate) async fn read<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let _turn = self.scans.acquire().await.map_err(|_| Error::Closed)?;
        self.point(body).await
    }

    pub(crate) async fn point<T, E, F>(&self, mut body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(&self.readers, move |pool| pool.run(READ, &mut body)).await
    }

    async fn run<T, E>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&Pool) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let place = Arc::clone(places).acquire_owned().await.map_err(|_| Error::Closed)?;
        let pool = Arc::clone(&self.pool);
        // The place goes with the work: a caller that no longer waits does not free it early.
        blocking(move || {
            let _place = place;
            work(&pool)
        })
        .await
    }

    /// Whether the server was reached when it was last spoken to.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.pool.unreachable.load(Ordering::Relaxed)
    }

    /// Waits for what is under way and ends the connections.
    pub(crate) async fn close(&self) {
        // An error means that another call closed it.
        let writers = self.writers.acquire_many(WRITERS as u32).await;
        let readers = self.readers.acquire_many(READERS as u32).await;
        self.writers.close();
        self.readers.close();
        drop((writers, readers));
        self.pool.idle.lock().clear();
    }
}

struct Pool {
    address: Address,
    /// Connections that nobody uses; the last one given back is taken first.
    idle: Mutex<Vec<Session>>,
    rerun: Rerun,
    unreachable: AtomicBool,
}

/// How one run of a closure ended.
enum Attempt<T, E> {
    Done(T),
    /// The closure's own refusal, or a failure that another run would not change. Nothing was stored.
    Refused(E),
    /// Nothing was stored, and another run may succeed.
    Again(Error),
}

impl Pool {
    fn run<T, E: From<Error>>(
        &self,
        begin: &'static str,
        body: &mut dyn FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            let session = self.take(began)?;
            let twice = self.rerun.toss();
            let mut attempt = session.attempt(begin, body, !twice);
            if twice && !matches!(attempt, Attempt::Again(_)) {
                attempt = session.attempt(begin, body, true);
            }
            self.give_back(session);
            let error = match attempt {
                Attempt::Done(result) => return Ok(result),
                Attempt::Refused(error) => return Err(error),
                Attempt::Again(error) => error,
            };
            if began.elapsed() > CONFLICT_PATIENCE {
                return Err(error.into());
            }
            attempts += 1;
            tracing::debug!(database.attempts = attempts, error = %error, "a transaction runs again");
            pause(attempts);
        }
    }

    /// A connection: an idle one, or a new one, which is tried again for a while since `began`.
    fn take(&self, began: Instant) -> Result<Session, Error> {
        if let Some(session) = self.idle.lock().pop() {
            return Ok(session);
        }
        let mut attempts = 0;
        loop {
            match Session::connect(&self.address) {
                Ok(session) => {
                    if self.unreachable.swap(false, Ordering::Relaxed) {
                        tracing::info!("the database can be reached again");
                    }
                    return Ok(session);
                }
                Err(error) => {
                    if !self.unreachable.swap(true, Ordering::Relaxed) {
                        let source: &dyn std::error::Error = &error;
                        tracing::error!(error = source, "the database cannot be reached");
                    }
                    if began.elapsed() > CONNECT_PATIENCE || !matches!(error, Error::Unavailable(_)) {
                        return Err(error);
                    }
                }
            }
            attempts += 1;
            pause(attempts);
        }
    }

    fn give_back(&self, session: Session) {
        if session.is_usable() {
            self.idle.lock().push(session);
        } else {
            // What broke one connection has most likely broken the others too.
            self.idle.lock().clear();
        }
    }
}

impl Session {
    /// Runs the closure once in a transaction, which is kept or undone.
    fn attempt<T, E: From<Error>>(
        &self,
        begin: &'static str,
        body: &mut dyn FnMut(&mut Tx<'_>) -> Result<T, E>,
        keep: bool,
    ) -> Attempt<T, E> {
        self.begin(begin);
        let mut tx = Tx::on_postgres(self);
        // The closure is free of side effects, so nothing half-done outlives the rollback.
        let result = catch_unwind(AssertUnwindSafe(|| body(&mut tx)));
        let result = match (result, tx.failure()) {
            // Whatever the closure made of it.
            (_, Some(failure @ (Error::Busy(_) | Error::Unavailable(_)))) => Attempt::Again(failure),
            (Err(_), _) => Attempt::Refused(Error::Panicked.into()),
            (Ok(Ok(_)), Some(failure)) => Attempt::Refused(failure.into()),
            (Ok(Err(own)), _) => Attempt::Refused(own),
            (Ok(Ok(result)), None) => Attempt::Done(result),
        };
        if !matches!(result, Attempt::Done(_)) || !keep {
            self.roll_back();
            return result;
        }
        match self.commit() {
            Ok(()) => result,
            Err(error @ (Error::Busy(_) | Error::Unavailable(_))) => Attempt::Again(error),
            Err(error) => Attempt::Refused(error.into()),
        }
    }
}

/// Waits before another attempt: longer each time, and not as long as whoever collided.
#[allow(clippy::disallowed_methods)] // no condition can be waited for, and this thread is one that may block
fn pause(attempts: u32) {
    let longest_us = 1_000_u64 << attempts.min(7);
    let random = RandomState::new().build_hasher().finish();
    std::thread::sleep(Duration::from_micros(random % longest_us));
}

#[cfg(test)]
mod tests;
