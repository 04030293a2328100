//! Several replicas that hold identical objects.
//!
//! A write counts when the write quorum holds it; a replica that failed once is out for that upload. A
//! read goes on from another replica, and no single replica's "not found" is an answer.

pub(crate) mod readers;
pub(crate) mod writers;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tracing::warn;

use crate::error::BlobError;
use crate::file_id::FileId;
use crate::store::{BlobStore, StoreError};

/// How long a replica that answered too late is left out where others can do the work.
const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// Findings kept for whoever repairs; older ones go, since scrub finds them again.
const REJECTIONS_KEPT: usize = 1024;
/// Sets of replicas are kept as bits.
const MOST_REPLICAS: usize = 64;

/// Name of a replica, as in its root's marker and in repair rows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(Arc<str>);

impl ReplicaId {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stretch of an object that a replica holds badly, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub file_id: FileId,
    pub replica: ReplicaId,
    /// Bytes of the object, not of the blob.
    pub range: Range<u64>,
}

/// Replicas and quorum that can not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuorumError {
    #[error("between 1 and 64 replicas are needed")]
    Replicas,
    #[error("two replicas have one name")]
    SameName,
    #[error(
        "with two replicas the write quorum must be stated: set write_quorum = 2 (both hold what is acknowledged) or \
         write_quorum = 1 (one may be away)"
    )]
    Unstated,
    #[error(
        "the write quorum must be at least {least} and at most the number of replicas: change write_quorum"
    )]
    Quorum { least: usize },
}

#[derive(Clone)]
struct Replica {
    id: ReplicaId,
    store: Arc<dyn BlobStore>,
    /// False while it is being drained: read from and deleted from, never written.
    writable: bool,
    suspect_until: Arc<Mutex<Option<Instant>>>,
}

impl Replica {
    fn is_suspect(&self) -> bool {
        self.suspect_until.lock().is_some_and(|until| Instant::now() < until)
    }
}

/// N stores that hold identical objects. Which they are never changes: when a replica is added or drained,
/// another set takes this one's place, and whoever began with this one ends with it.
pub struct Replicated {
    replicas: Vec<Replica>,
    write_quorum: usize,
    rejections: Arc<Mutex<VecDeque<Rejection>>>,
}

impl Replicated {
    /// One store, which is its own quorum.
    pub fn single(id: ReplicaId, store: Arc<dyn BlobStore>) -> Self {
        Self::assemble(vec![(id, store)], 1)
    }

    /// Without a stated quorum one replica is its own, and three or more need a majority.
    pub fn new(
        replicas: Vec<(ReplicaId, Arc<dyn BlobStore>)>,
        write_quorum: Option<usize>,
    ) -> Result<Self, QuorumError> {
        let count = replicas.len();
        let named_twice =
            |(at, (id, _)): (usize, &(ReplicaId, _))| replicas[..at].iter().any(|(other, _)| other == id);
        if replicas.iter().enumerate().any(named_twice) {
            return Err(QuorumError::SameName);
        }
        let write_quorum = Self::quorum_of(count, write_quorum)?;
        Ok(Self::assemble(replicas, write_quorum))
    }

    /// The write quorum of `count` replicas: the stated one, if it can be.
    pub fn quorum_of(count: usize, stated: Option<usize>) -> Result<usize, QuorumError> {
        if count == 0 || count > MOST_REPLICAS {
            return Err(QuorumError::Replicas);
        }
        let least = if count < 3 { 1 } else { count / 2 + 1 };
        match stated {
            None if count == 2 => Err(QuorumError::Unstated),
            None => Ok(least),
            Some(stated) if (least..=count).contains(&stated) => Ok(stated),
            Some(_) => Err(QuorumError::Quorum { least }),
        }
    }

    fn assemble(replicas: Vec<(ReplicaId, Arc<dyn BlobStore>)>, write_quorum: usize) -> Self {
        let replicas = replicas
            .into_iter()
            .map(|(id, store)| Replica { id, store, writable: true, suspect_until: Arc::default() })
            .collect();
        Self { replicas, write_quorum, rejections: Arc::default() }
    }

    /// The same with replicas that are only read from and deleted from.
    ///
    /// # Errors
    /// When a name is taken, or there are more replicas than a set may have.
    pub fn with_drained(
        mut self,
        drained: Vec<(ReplicaId, Arc<dyn BlobStore>)>,
    ) -> Result<Self, QuorumError> {
        for (id, store) in drained {
            if self.store(&id).is_some() {
                return Err(QuorumError::SameName);
            }
            self.replicas.push(Replica { id, store, writable: false, suspect_until: Arc::default() });
        }
        if self.replicas.len() > MOST_REPLICAS { Err(QuorumError::Replicas) } else { Ok(self) }
    }

    /// Takes over what `previous` knows of the replicas that are in both sets.
    pub(crate) fn continuing(mut self, previous: &Self) -> Self {
        self.rejections = Arc::clone(&previous.rejections);
        for replica in &mut self.replicas {
            if let Some(known) = previous.replicas.iter().find(|known| known.id == replica.id) {
                replica.suspect_until = Arc::clone(&known.suspect_until);
            }
        }
        self
    }

    /// How many replicas must hold an object before it counts as written.
    pub fn write_quorum(&self) -> usize {
        self.write_quorum
    }

    /// Whether new objects go to a replica.
    pub fn is_written(&self, replica: &ReplicaId) -> bool {
        self.replicas.iter().any(|other| other.id == *replica && other.writable)
    }

    /// Whether a replica answered too late within the last half minute.
    pub fn is_suspect(&self, replica: &ReplicaId) -> bool {
        self.replicas.iter().any(|other| other.id == *replica && other.is_suspect())
    }

    pub fn replica_ids(&self) -> impl Iterator<Item = &ReplicaId> {
        self.replicas.iter().map(|replica| &replica.id)
    }

    /// The store of one replica, for scrub and repair.
    pub fn store(&self, replica: &ReplicaId) -> Option<&Arc<dyn BlobStore>> {
        self.replicas.iter().find(|other| other.id == *replica).map(|replica| &replica.store)
    }

    /// Notes that a replica holds a stretch of an object badly. Nothing is deleted for it.
    pub fn reject(&self, file_id: FileId, range: Range<u64>, replica: &ReplicaId) {
        warn!(
            object.file_id = %file_id,
            object.offset = range.start,
            object.range_bytes = range.end - range.start,
            replica.id = %replica,
            "a replica holds bad bytes"
        );
        if let Some(store) = self.store(replica) {
            store.forget(file_id);
        }
        let mut rejections = self.rejections.lock();
        if rejections.len() == REJECTIONS_KEPT {
            rejections.pop_front();
        }
        rejections.push_back(Rejection { file_id, replica: replica.clone(), range });
    }

    /// What was rejected since the last call, at most the newest thousand.
    pub fn take_rejections(&self) -> Vec<Rejection> {
        self.rejections.lock().drain(..).collect()
    }

    /// Removes an object from every replica. Gives those that could not be asked, and may hold it still. Fails when
    /// that is all of them: the object stays registered, and the call is made again.
    pub(crate) async fn delete(&self, file_id: FileId) -> Result<Vec<ReplicaId>, BlobError> {
        let leave_suspects = self.replicas.iter().any(|replica| !replica.is_suspect());
        let is_left = |replica: &Replica| leave_suspects && replica.is_suspect();
        let mut left: Vec<ReplicaId> = self
            .replicas
            .iter()
            .filter(|replica| is_left(replica))
            .map(|replica| replica.id.clone())
            .collect();
        let asked = self.replicas.iter().enumerate().filter(|(_, replica)| !left.contains(&replica.id));
        let steps = asked.map(|(index, replica)| {
            let store = Arc::clone(&replica.store);
            (index, async move { store.delete(file_id).await })
        });
        let steps: Vec<_> = steps.collect();
        let (done, failed) = writers::gather(self, steps.into_iter(), 1, writers::STEP_LIMIT).await;
        if done.is_empty() {
            let error = failed.into_iter().next().map_or(StoreError::TimedOut, |(_, error)| error);
            return Err(BlobError::Unavailable(error));
        }
        left.extend(failed.into_iter().map(|(index, _)| self.replicas[index].id.clone()));
        Ok(left)
    }

    fn suspect(&self, index: usize) {
        *self.replicas[index].suspect_until.lock() = Some(Instant::now() + SUSPECT_FOR);
    }

    /// Logs a replica's failure, and leaves a hanging one out for a while. What is an answer is none.
    fn note_failure(&self, index: usize, error: &StoreError) {
        match error {
            StoreError::NotFound | StoreError::Exists | StoreError::Busy | StoreError::Short => return,
            StoreError::TimedOut => self.suspect(index),
            StoreError::Offline(_) | StoreError::Io(_) => {}
        }
        warn!(
            replica.id = %self.replicas[index].id,
            error = error as &dyn std::error::Error,
            "a replica failed"
        );
    }
}

#[cfg(test)]
mod tests;
