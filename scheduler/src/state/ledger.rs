//! The one place where the state changes: works come in, are done in order, committed together, then answered.
//!
//! A work is a synchronous closure over a [`Draft`]. Works that wait at the same time share one durable
//! transaction. Invariant: nothing is seen by a reader, sent to an agent or answered before it is committed,
//! and a work that fails changes nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::{RwLock, RwLockReadGuard};
use registry_runtime::{Clock, Shutdown};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Change, Draft, State};
use crate::store::{Store, StoreError};

#[cfg(test)]
mod tests;

/// Works of one transaction, and the changes after which no further work is taken in.
const MOST_WORKS: usize = 256;
const MOST_CHANGES: usize = 600;
const QUEUE: usize = 4096;

/// The change was not made durable.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("the change could not be stored")]
    Store,
    #[error("the scheduler is stopping")]
    Stopped,
}

impl From<CommitError> for registry_aws::AwsError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store => registry_aws::AwsError::server(),
            CommitError::Stopped => registry_aws::AwsError::unavailable("The server is stopping. Try again."),
        }
    }
}

/// What is done around every commit.
pub(crate) trait Hooks: Send + Sync + 'static {
    /// Before the commit: brings the state nearer to what is wanted, given what just changed.
    fn reconcile(&self, draft: &mut Draft<'_>, changed: &[Change]);
    /// At an interval, as a work of its own.
    fn tick(&self, draft: &mut Draft<'_>);
    /// After the commit, with the state that readers see from now on.
    fn committed(&self, changes: &[Change], state: &State);
}

/// A work in the queue: does its part on the draft, and returns how to answer once the outcome is known.
pub(crate) type Work = Box<dyn FnOnce(&mut Draft<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

#[derive(Clone)]
pub(crate) struct Ledger {
    queue: mpsc::Sender<Work>,
    committed: Arc<RwLock<State>>,
}

/// The ledger's other half, until it runs.
pub(crate) struct Clerk {
    works: mpsc::Receiver<Work>,
    committed: Arc<RwLock<State>>,
    store: Store,
    clock: Clock,
    lost: CancellationToken,
}

impl Ledger {
    pub(crate) fn new(state: State, store: Store, clock: Clock) -> (Ledger, Clerk) {
        let (queue, works) = mpsc::channel(QUEUE);
        let committed = Arc::new(RwLock::new(state));
        let lost = CancellationToken::new();
        (Ledger { queue, committed: Arc::clone(&committed) }, Clerk { works, committed, store, clock, lost })
    }

    /// The committed state. The guard is not to be held across an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.committed.read()
    }

    /// The committed state, for whoever may be asked in the middle of a reading: it does not wait for a writer that
    /// waits for that reading.
    pub(crate) fn read_within(&self) -> RwLockReadGuard<'_, State> {
        self.committed.read_recursive()
    }

    /// Does a work and waits until it is durable. An error of the work itself changes nothing.
    pub(crate) async fn change<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Draft<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<CommitError> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let boxed: Work = Box::new(move |draft| {
            let mark = draft.mark();
            let result = work(draft);
            if result.is_err() {
                draft.roll_back(mark);
            }
            Box::new(move |committed| {
                let answer = match (result, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Ok(_), Err(error)) => Err(error.into()),
                    (Err(error), _) => Err(error),
                };
                // A caller that went away does not take its change with it.
                let _ = reply.send(answer);
            })
        });
        self.queue.send(boxed).await.map_err(|_| CommitError::Stopped)?;
        outcome.await.map_err(|_| CommitError::Store)?
    }
}

impl Clerk {
    /// Cancelled when what is in memory may differ from what is stored: another server leads by now, or nobody
    /// knows whether a change was stored. Nothing is changed any more from then on.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Works until it is closed, then finishes what is queued. Once the shutdown has begun nothing is decided by
    /// the passing of time any more: a server that stops gives nobody up.
    pub(crate) async fn run(
        mut self,
        hooks: Arc<dyn Hooks>,
        tick: Duration,
        shutdown: Shutdown,
        closed: CancellationToken,
    ) {
        let mut working = self.committed.read().copy();
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut works = Vec::new();
            let mut due = false;
            tokio::select! {
                biased;
                count = self.works.recv_many(&mut works, MOST_WORKS) => {
                    if count == 0 {
                        return;
                    }
                }
                () = closed.cancelled(), if !self.works.is_closed() => self.works.close(),
                _ = ticks.tick() => due = !shutdown.has_begun(),
            }
            let round = AssertUnwindSafe(self.round(&mut working, works, due, &*hooks));
            if round.catch_unwind().await.is_err() {
                // The works of this round are answered as failed; what is committed is whole.
                tracing::error!("a change of the scheduler's state panicked and was taken back");
                working = self.committed.read().copy();
            }
        }
    }

    async fn round(&self, working: &mut State, works: Vec<Work>, mut due: bool, hooks: &dyn Hooks) {
        let mut works = works.into_iter().peekable();
        loop {
            let mut draft = Draft::new(working, self.clock.now_ms());
            let mut answers = Vec::new();
            if std::mem::take(&mut due) {
                hooks.tick(&mut draft);
            }
            while draft.mark() < MOST_CHANGES
                && let Some(work) = works.next()
            {
                answers.push(work(&mut draft));
            }
            let mut seen = 0;
            // What a reconciler changed may be for it to look at again; it settles in a few turns.
            for _ in 0..4 {
                let fresh = draft.changes()[seen..].to_vec();
                seen = draft.mark();
                if fresh.is_empty() {
                    break;
                }
                hooks.reconcile(&mut draft, &fresh);
            }
            let changes: Arc<[Change]> = draft.into_changes().into();
            let outcome = self.commit(working, &changes, hooks).await;
            for answer in answers {
                answer(outcome);
            }
            if works.peek().is_none() {
                return;
            }
        }
    }

    async fn commit(
        &self,
        working: &mut State,
        changes: &Arc<[Change]>,
        hooks: &dyn Hooks,
    ) -> Result<(), CommitError> {
        if changes.is_empty() {
            return Ok(());
        }
        if self.lost.is_cancelled() {
            *working = self.committed.read().copy();
            return Err(CommitError::Stopped);
        }
        if let Err(error) = self.store.write(changes).await {
            if matches!(
                error,
                StoreError::Fenced | StoreError::Database(registry_sql::Error::OutcomeUnknown(_))
            ) {
                self.lost.cancel();
            }
            tracing::error!(error = %error, "the scheduler's changes could not be stored");
            *working = self.committed.read().copy();
            return Err(CommitError::Store);
        }
        {
            let mut committed = self.committed.write();
            for change in changes.iter() {
                committed.apply(change);
            }
        }
        hooks.committed(changes, &self.committed.read());
        Ok(())
    }
}
