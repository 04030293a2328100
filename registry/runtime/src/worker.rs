//! Work that repeats: on a timer, and at once when somebody nudges it.
//!
//! Reconcilers take no input and look at the state themselves, so a nudge carries nothing and any number of
//! nudges during a round lead to one more. Invariant: rounds of one worker never overlap, and neither an error
//! nor a panic ends the worker.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Shutdown;

/// Nudges the worker, and waits for its end. Clones nudge the same worker. Dropping it does not stop the
/// worker: the shutdown does.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    nudged: Arc<Notify>,
    ended: Shutdown,
}

impl WorkerHandle {
    /// Asks for a round now, or for one more after the round that is running.
    pub fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Returns when the last round has ended, after the shutdown began.
    pub async fn ended(&self) {
        self.ended.begun().await;
    }
}

/// Starts a worker: one round at once, then one each `interval` after the end of the last, and one at each
/// nudge. A round that runs when the shutdown begins is finished. An error is logged when it is new, not again
/// while it repeats.
pub fn spawn<F, R, E>(
    name: &'static str,
    interval: Duration,
    shutdown: &Shutdown,
    mut round: F,
) -> WorkerHandle
where
    F: FnMut() -> R + Send + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let nudged = Arc::new(Notify::new());
    let handle = WorkerHandle { nudged: Arc::clone(&nudged), ended: Shutdown::new() };
    let (ended, shutdown) = (handle.ended.clone(), shutdown.clone());
    tokio::spawn(async move {
        let mut last_error: Option<String> = None;
        while !shutdown.has_begun() {
            // In a task of its own, so that a panic ends the round and not the worker.
            let running: JoinHandle<Result<(), E>> = tokio::spawn(round());
            let error = match running.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(describe(&*error.into())),
                Err(panic) => Some(format!("the round did not end: {panic}")),
            };
            match (&last_error, &error) {
                (before, Some(now)) if before.as_ref() != Some(now) => {
                    tracing::warn!(worker.name = name, error = %now, "a worker failed and will try again");
                }
                (Some(_), None) => tracing::info!(worker.name = name, "a worker works again"),
                _ => {}
            }
            last_error = error;
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = nudged.notified() => {}
                () = shutdown.begun() => {}
            }
        }
        ended.begin();
    });
    handle
}

/// An error with its causes: "outer: middle: inner".
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_nudge_starts_a_round_and_rounds_never_overlap() {
        let (shutdown, running) = (Shutdown::new(), Arc::new(AtomicUsize::new(0)));
        let (done, mut rounds) = mpsc::unbounded_channel();
        let worker = spawn("test", NEVER, &shutdown, move || {
            let (running, done) = (Arc::clone(&running), done.clone());
            async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                done.send(())
            }
        });
        rounds.recv().await.unwrap();
        for _ in 0..10 {
            worker.nudge();
            rounds.recv().await.unwrap();
        }
        shutdown.begin();
        worker.ended().await;
    }

    #[tokio::test]
    async fn errors_and_panics_do_not_end_the_worker() {
        let (shutdown, mut count) = (Shutdown::new(), 0);
        let (done, mut rounds) = mpsc::unbounded_channel();
        let worker = spawn("test", Duration::from_millis(1), &shutdown, move || {
            count += 1;
            let (count, done) = (count, done.clone());
            async move {
                done.send(count).unwrap();
                assert_ne!(count, 2, "a panic on purpose");
                if count == 3 { Err(std::io::Error::other("an error on purpose")) } else { Ok(()) }
            }
        });
        while rounds.recv().await.unwrap() < 5 {}
        shutdown.begin();
        worker.ended().await;
    }

    #[test]
    fn an_error_is_described_with_its_causes() {
        let error = crate::KeyError::Io { path: "/k".into(), source: std::io::Error::other("broken") };
        assert_eq!(describe(&error), "/k cannot be read or written: broken");
    }
}
