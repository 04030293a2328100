//! The chain's last checkpoint, and those that files begin with, on the replicas of the content.
//!
//! Whoever takes the database away, or puts an older one in its place, finds them there. Invariant: what a place
//! holds is never replaced by a checkpoint that is not after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use registry_sql::Database;

use super::chain::Checkpoint;
use super::keeper::AuditError;
use crate::store::audit;

/// How long a place may take for one checkpoint.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a place that did not take a checkpoint is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Anchors that are read from the metadata in one step.
const ANCHORS_AT_ONCE: i64 = 500;

/// Where small texts are kept besides the metadata. Errors are for people.
#[async_trait]
pub trait CheckpointPlaces: Send + Sync + 'static {
    /// The names of the places that there are now.
    async fn names(&self) -> Vec<String>;

    /// The text of this name; `None` where the place is there and has none.
    async fn read(&self, place: &str, name: &str) -> Result<Option<Vec<u8>>, String>;

    /// Keeps the text durably, in the place of what had its name.
    async fn write(&self, place: &str, name: &str, text: Vec<u8>) -> Result<(), String>;
}

/// The name of the chain's last checkpoint.
pub(super) fn last_name(chain: &str) -> String {
    format!("audit-{chain}.last")
}

/// The name of a checkpoint that a file begins with.
pub(super) fn anchor_name(chain: &str, number: u64) -> String {
    format!("audit-{chain}.{number}")
}

/// A checkpoint that a place holds; what cannot be read as one is an error.
pub(super) async fn read(
    places: &dyn CheckpointPlaces,
    place: &str,
    name: &str,
) -> Result<Option<Checkpoint>, String> {
    let text = tokio::time::timeout(PATIENCE, places.read(place, name)).await;
    match text.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))? {
        Some(text) => {
            serde_json::from_slice(&text).map(Some).map_err(|_| format!("its {name} is no checkpoint"))
        }
        None => Ok(None),
    }
}

/// Brings the places up to what the metadata has.
pub(super) struct Mirror {
    places: Arc<dyn CheckpointPlaces>,
    /// The number of the last checkpoint that each place holds.
    kept: Mutex<HashMap<String, u64>>,
    /// What is wrong with each place, and when that was found.
    problems: Mutex<HashMap<String, (String, Instant)>>,
}

impl Mirror {
    pub(super) fn new(places: Arc<dyn CheckpointPlaces>) -> Self {
        Self { places, kept: Mutex::default(), problems: Mutex::default() }
    }

    /// A place that knows more than the metadata, or did not take what these have.
    pub(super) fn problem(&self) -> Option<String> {
        self.problems.lock().values().next().map(|(problem, _)| problem.clone())
    }

    pub(super) async fn run(&self, database: &Database, chain: &str) -> Result<(), AuditError> {
        let name = chain.to_owned();
        let Some(row) = database.read(move |tx| audit::chain(tx, &name)).await? else { return Ok(()) };
        let last: Checkpoint = serde_json::from_str(&row.checkpoint).map_err(|_| AuditError::Damaged)?;
        let names = self.places.names().await;
        self.problems.lock().retain(|place, _| names.contains(place));
        for place in names {
            let failed = self.problems.lock().get(&place).map(|(_, at)| *at);
            if self.kept.lock().get(&place) == Some(&last.checkpoint)
                || failed.is_some_and(|at| at.elapsed() < RETRY_AFTER)
            {
                continue;
            }
            match self.bring(database, &place, &last).await? {
                Ok(()) => {
                    self.kept.lock().insert(place.clone(), last.checkpoint);
                    self.problems.lock().remove(&place);
                }
                Err(problem) => self.tell(&place, problem),
            }
        }
        Ok(())
    }

    fn tell(&self, place: &str, problem: String) {
        let before = self.problems.lock().insert(place.to_owned(), (problem.clone(), Instant::now()));
        if before.is_none() {
            tracing::error!(%place, "{problem}");
        }
    }

    /// Writes `last` to a place, and the anchors up to it; the inner error is the place's.
    async fn bring(
        &self,
        database: &Database,
        place: &str,
        last: &Checkpoint,
    ) -> Result<Result<(), String>, AuditError> {
        let places = self.places.as_ref();
        let there = match read(places, place, &last_name(&last.chain)).await {
            Ok(there) => there,
            Err(problem) => {
                return Ok(Err(format!("{place} does not keep the audit log's checkpoints: {problem}")));
            }
        };
        if let Some(there) = &there
            && (there.checkpoint > last.checkpoint || (there.checkpoint == last.checkpoint && there != last))
        {
            return Ok(Err(format!(
                "{place} holds checkpoint {} of the audit log of {}, and the database is at {} of {}: the database \
                 is an older one, or the log was begun anew. See `berth audit verify`",
                there.checkpoint, there.time, last.checkpoint, last.time
            )));
        }
        let mut after = there.map_or(-1, |there| i64::try_from(there.checkpoint).unwrap_or(i64::MAX));
        loop {
            let chain = last.chain.clone();
            let anchors = database.read(move |tx| audit::anchors(tx, &chain, after, ANCHORS_AT_ONCE)).await?;
            let Some((number, _)) = anchors.last() else { break };
            after = *number;
            for (number, text) in anchors {
                let name = anchor_name(&last.chain, number.unsigned_abs());
                if let Err(problem) = self.write(place, &name, text.into_bytes()).await {
                    return Ok(Err(problem));
                }
            }
        }
        let text = (last.begun_line() + "}").into_bytes();
        Ok(self.write(place, &last_name(&last.chain), text).await)
    }

    async fn write(&self, place: &str, name: &str, text: Vec<u8>) -> Result<(), String> {
        let written = tokio::time::timeout(PATIENCE, self.places.write(place, name, text)).await;
        let written = written.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        written.map_err(|problem| format!("{place} does not keep the audit log's checkpoints: {problem}"))
    }
}
