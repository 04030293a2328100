//! One upload's writers on several replicas.
//!
//! Every step runs on all of them at once. When the quorum has done it, the others have a few seconds
//! more; whoever fails or is late is out for this upload.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::{Replica, ReplicaId, Replicated};
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::store::{ObjectWriter, StoreError};

/// What a replica that hangs may hold up a write for, once the quorum is there.
const STRAGGLER: Duration = Duration::from_secs(5);
/// What a step may take until the quorum is there.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(60);
/// A commit writes out what the page cache still holds: seconds for each gigabyte on a slow disk.
const COMMIT_LIMIT: Duration = Duration::from_secs(600);

/// Runs one step on several replicas. Returns what succeeded and what failed, in no order; ends early
/// when `quorum` can no longer be reached.
pub(crate) async fn gather<T>(
    set: &Replicated,
    steps: impl Iterator<Item = (usize, impl Future<Output = Result<T, StoreError>>)>,
    quorum: usize,
    limit: Duration,
) -> (Vec<(usize, T)>, Vec<(usize, StoreError)>) {
    let mut pending = Vec::new();
    let mut running: FuturesUnordered<_> = steps
        .map(|(index, step)| {
            pending.push(index);
            async move { (index, step.await) }
        })
        .collect();
    let mut deadline = Instant::now() + limit;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    while done.len() + pending.len() >= quorum {
        match timeout_at(deadline, running.next()).await {
            Ok(None) => break,
            Ok(Some((index, result))) => {
                pending.retain(|other| *other != index);
                match result {
                    Ok(value) => done.push((index, value)),
                    Err(error) => {
                        set.note_failure(index, &error);
                        failed.push((index, error));
                    }
                }
                if done.len() == quorum {
                    deadline = deadline.min(Instant::now() + STRAGGLER);
                }
            }
            Err(_) => {
                for index in pending {
                    set.note_failure(index, &StoreError::TimedOut);
                    failed.push((index, StoreError::TimedOut));
                }
                break;
            }
        }
    }
    (done, failed)
}

type Lane = (usize, Box<dyn ObjectWriter>);

/// A replica that holds every byte of an upload so far, with what its driver needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participant {
    pub(crate) replica: ReplicaId,
    pub(crate) checkpoint: Vec<u8>,
}

/// The writers of one object.
pub(crate) struct WriteSet {
    set: Arc<Replicated>,
    lanes: Vec<Lane>,
}

impl WriteSet {
    /// Begins a new object wherever it can be begun.
    pub(crate) async fn create(set: Arc<Replicated>, file_id: FileId) -> Result<Self, BlobError> {
        let sound = set.replicas.iter().filter(|replica| replica.writable && !replica.is_suspect()).count();
        let leave_suspects = sound >= set.write_quorum;
        let steps = set
            .replicas
            .iter()
            .enumerate()
            .filter(|(_, replica)| replica.writable && (!leave_suspects || !replica.is_suspect()))
            .map(|(index, replica)| (index, replica.store.create(file_id)));
        let (lanes, failed) = gather(&set, steps, set.write_quorum, STEP_LIMIT).await;
        let this = Self { set: Arc::clone(&set), lanes };
        this.demand_quorum(failed)?;
        Ok(this)
    }

    /// Goes on at `len` on the replicas that took part so far; `None`: begins anew on all.
    pub(crate) async fn resume(
        set: Arc<Replicated>,
        file_id: FileId,
        len: u64,
        participants: Option<&[Participant]>,
    ) -> Result<Self, BlobError> {
        let checkpoint_of = |replica: &Replica| match participants {
            None => replica.writable.then_some(&[][..]),
            Some(all) => {
                let part = all.iter().find(|one| one.replica == replica.id);
                part.map(|one| one.checkpoint.as_slice())
            }
        };
        let steps = set.replicas.iter().enumerate().filter_map(|(index, replica)| {
            let checkpoint = checkpoint_of(replica)?;
            Some((index, replica.store.resume(file_id, len, checkpoint)))
        });
        let (lanes, failed) = gather(&set, steps, set.write_quorum, STEP_LIMIT).await;
        if lanes.len() < set.write_quorum {
            let lost = |error: &StoreError| {
                matches!(error, StoreError::NotFound | StoreError::Short | StoreError::Exists)
            };
            if failed.iter().all(|(_, error)| lost(error)) {
                return Err(BlobError::UploadUnknown);
            }
        }
        let this = Self { set: Arc::clone(&set), lanes };
        this.demand_quorum(failed)?;
        Ok(this)
    }

    pub(crate) async fn append(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let steps = std::mem::take(&mut self.lanes).into_iter().map(|(index, mut writer)| {
            let chunk = chunk.clone();
            (index, async move { writer.append(chunk).await.map(|()| writer) })
        });
        let (lanes, failed) = gather(&self.set, steps, self.set.write_quorum, STEP_LIMIT).await;
        self.lanes = lanes;
        self.demand_quorum(failed)
    }

    /// Adds `last` and waits until another process can go on; returns the replicas that hold everything.
    pub(crate) async fn flush(&mut self, last: Bytes) -> Result<Vec<Participant>, BlobError> {
        let steps = std::mem::take(&mut self.lanes).into_iter().map(|(index, mut writer)| {
            let last = last.clone();
            (index, async move { writer.flush(last).await.map(|checkpoint| (writer, checkpoint)) })
        });
        let (done, failed) = gather(&self.set, steps, self.set.write_quorum, STEP_LIMIT).await;
        let mut participants = Vec::with_capacity(done.len());
        for (index, (writer, checkpoint)) in done {
            participants.push(Participant { replica: self.set.replicas[index].id.clone(), checkpoint });
            self.lanes.push((index, writer));
        }
        self.demand_quorum(failed)?;
        Ok(participants)
    }

    /// Adds `last` and makes the object durable; returns the replicas that hold it.
    pub(crate) async fn commit(self, last: Bytes) -> Result<Vec<ReplicaId>, BlobError> {
        let steps = self.lanes.into_iter().map(|(index, writer)| {
            let last = last.clone();
            (index, async move { writer.commit(last).await })
        });
        let (done, failed) = gather(&self.set, steps, self.set.write_quorum, COMMIT_LIMIT).await;
        if done.len() < self.set.write_quorum {
            return Err(quorum_lost(failed));
        }
        Ok(done.into_iter().map(|(index, ())| self.set.replicas[index].id.clone()).collect())
    }

    fn demand_quorum(&self, failed: Vec<(usize, StoreError)>) -> Result<(), BlobError> {
        if self.lanes.len() >= self.set.write_quorum { Ok(()) } else { Err(quorum_lost(failed)) }
    }
}

fn quorum_lost(failed: Vec<(usize, StoreError)>) -> BlobError {
    let is_full = |error: &StoreError| match error {
        StoreError::Io(error) => {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    };
    if failed.iter().any(|(_, error)| matches!(error, StoreError::Busy)) {
        return BlobError::UploadBusy;
    }
    if !failed.is_empty() && failed.iter().all(|(_, error)| matches!(error, StoreError::Exists)) {
        // An earlier attempt's object lies there, whose commit was never acknowledged.
        return BlobError::UploadUnknown;
    }
    let mut errors: Vec<StoreError> = failed.into_iter().map(|(_, error)| error).collect();
    match errors.iter().position(is_full) {
        Some(at) => BlobError::Full(errors.swap_remove(at)),
        None => BlobError::Unavailable(errors.pop().unwrap_or(StoreError::TimedOut)),
    }
}
