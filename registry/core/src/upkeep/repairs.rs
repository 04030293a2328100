//! The worker of the repair queue, and what reads found bad.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use registry_blob::{BlobError, BlobStore, FileId, Pace, Repaired, ReplicaId};
use registry_metadata::repairs::{self, Repair};
use registry_metadata::scrubs::{self, Finding, FindingKind};
use registry_metadata::{KeyRow, blobs, garbage};

use super::{TAKEN_FOR_MS, Upkeep, renewing};
use crate::commit::blob_key;
use crate::error::CoreError;

/// Repairs of one replica that are taken at a time.
const TAKEN_AT_ONCE: u32 = 16;
/// Copies that a replica deletes at a time, of objects that went while it was away.
const REMOVED_AT_ONCE: u32 = 100;
/// Repairs under way at a time.
const AT_ONCE: usize = 4;
/// From one attempt to the next: doubling, within these.
const FIRST_PAUSE_MS: i64 = 5_000;
const LONGEST_PAUSE_MS: i64 = 600_000;
/// What a replica may take to say that it is there.
const PROBE: Duration = Duration::from_secs(5);
/// How often the log tells of copies that are being made.
const TELL_EACH: Duration = Duration::from_secs(60);

/// Copies that were made since the log told of them.
pub(super) struct Made {
    copies: u64,
    bytes: u64,
    since: Instant,
}

impl Upkeep {
    /// One round: notes what reads found bad, queues what new replicas lack, and works on what is due. True
    /// while there is more to do at once.
    ///
    /// # Errors
    /// The database's. A repair that fails is put off.
    pub async fn repair(&self) -> Result<bool, CoreError> {
        self.note_rejections().await?;
        let mut more = self.backfill().await?;
        let replicas = self.registry.inner.content.replicas();
        for id in replicas.replica_ids() {
            let Some(store) = replicas.store(id) else { continue };
            if !matches!(tokio::time::timeout(PROBE, store.probe()).await, Ok(Ok(()))) {
                continue;
            }
            more |= self.remove_left(id, store.as_ref()).await?;
            if !replicas.is_written(id) {
                continue;
            }
            let (name, now_ms) = (id.as_str().to_owned(), self.registry.now_ms());
            let metadata = &self.registry.inner.metadata;
            let is_due = metadata.point({
                let name = name.clone();
                move |tx| repairs::is_due(tx, &name, now_ms)
            });
            if !is_due.await.map_err(CoreError::from)? {
                continue;
            }
            let taken = metadata
                .write(move |tx| repairs::take(tx, &name, now_ms, now_ms + TAKEN_FOR_MS, TAKEN_AT_ONCE))
                .await
                .map_err(CoreError::from)?;
            more |= taken.len() == TAKEN_AT_ONCE as usize;
            let all = Arc::new(taken);
            let work = async {
                let repairs = all.iter().cloned().map(|repair| self.work_on(repair));
                let mut running = stream::iter(repairs).buffer_unordered(AT_ONCE);
                while let Some(done) = running.next().await {
                    done?;
                }
                Ok::<_, CoreError>(())
            };
            renewing(work, || self.renew_repairs(Arc::clone(&all))).await?;
        }
        self.tell_made(more);
        Ok(more)
    }

    async fn renew_repairs(&self, taken: Arc<Vec<Repair>>) -> Result<(), CoreError> {
        let until_ms = self.registry.now_ms() + TAKEN_FOR_MS;
        let metadata = &self.registry.inner.metadata;
        metadata.write(move |tx| Ok(repairs::renew(tx, &taken, until_ms)?)).await
    }

    /// Deletes copies of objects that went while the replica was away. True while there are more.
    async fn remove_left(&self, id: &ReplicaId, store: &dyn BlobStore) -> Result<bool, CoreError> {
        let (metadata, name) = (&self.registry.inner.metadata, id.as_str().to_owned());
        let left = metadata.point(move |tx| garbage::removals(tx, &name, REMOVED_AT_ONCE));
        let left = left.await.map_err(CoreError::from)?;
        if left.is_empty() || self.registry.waiting_for_adoption().await?.is_some() {
            return Ok(false);
        }
        let Some(_may) = self.registry.may_delete()? else { return Ok(false) };
        for file_id in &left {
            let deleted = tokio::time::timeout(PROBE, store.delete(FileId::from_bytes(*file_id))).await;
            if !matches!(deleted, Ok(Ok(()))) {
                return Ok(false);
            }
            let (file_id, name) = (*file_id, id.as_str().to_owned());
            metadata.write(move |tx| Ok::<_, CoreError>(garbage::removed(tx, &name, &file_id)?)).await?;
        }
        Ok(left.len() == REMOVED_AT_ONCE as usize)
    }

    /// Makes every repair due at once.
    pub async fn hurry_repairs(&self) -> Result<(), CoreError> {
        let now_ms = self.registry.now_ms();
        let metadata = &self.registry.inner.metadata;
        while metadata.write(move |tx| repairs::hurry(tx, now_ms, 1000)).await.map_err(CoreError::from)? > 0 {
        }
        Ok(())
    }

    async fn work_on(&self, repair: Repair) -> Result<(), CoreError> {
        let metadata = &self.registry.inner.metadata;
        let (domain, digest) = (repair.domain.clone(), repair.digest.clone());
        let key = metadata.point(move |tx| Ok::<_, CoreError>(blobs::key(tx, &domain, &digest)?)).await?;
        let result = match key.filter(|key| key.file_id == repair.file_id) {
            // Deleted, or replaced by a new push: nobody needs the copy any more.
            None => Ok(Repaired::WasGood),
            Some(key) => self.mend(&repair, &key).await,
        };
        let now_ms = self.registry.now_ms();
        match result {
            Ok(repaired) => {
                let activity = self.registry.activity();
                match repaired {
                    Repaired::Rewritten { .. } => activity.repairs_rewritten.add(1),
                    _ => activity.repairs_unneeded.add(1),
                }
                let (file_id, replica) = (repair.file_id, repair.replica.clone());
                let was_bad = metadata
                    .write(move |tx| {
                        repairs::done(tx, &repair.file_id, &repair.replica)?;
                        Ok::<_, CoreError>(scrubs::repaired(tx, &repair.file_id, &repair.replica, now_ms)?)
                    })
                    .await?;
                if let Repaired::Rewritten { bytes } = repaired {
                    self.note_copy(FileId::from_bytes(file_id), replica, bytes, was_bad);
                }
                Ok(())
            }
            Err(error) => {
                self.registry.activity().repairs_failed.add(1);
                tracing::warn!(
                    object.file_id = %FileId::from_bytes(repair.file_id),
                    replica.id = %repair.replica,
                    repair.attempts = repair.attempts + 1,
                    error = %error,
                    "a copy could not be repaired"
                );
                let pause = FIRST_PAUSE_MS.saturating_mul(1 << repair.attempts.min(16));
                let due_ms = now_ms + pause.min(LONGEST_PAUSE_MS);
                let problem = error.to_string();
                metadata
                    .write(move |tx| Ok::<_, CoreError>(repairs::put_off(tx, &repair, &problem, due_ms)?))
                    .await
            }
        }
    }

    /// One that was known to be bad or lost is told by itself. What a replica never had, because it is new or was
    /// away, may be a million copies, and is told in sum.
    fn note_copy(&self, file_id: FileId, replica: String, bytes: u64, was_bad: bool) {
        if was_bad {
            tracing::info!(
                object.file_id = %file_id,
                object.size_bytes = bytes,
                replica.id = %replica,
                "a copy was repaired"
            );
            return;
        }
        tracing::debug!(
            object.file_id = %file_id,
            object.size_bytes = bytes,
            replica.id = %replica,
            "a copy was made"
        );
        let mut made = self.made.lock();
        let made = made.entry(replica).or_insert_with(|| Made { copies: 0, bytes: 0, since: Instant::now() });
        made.copies += 1;
        made.bytes += bytes;
    }

    /// Tells of the copies that were made: each minute, and when there is nothing more to do.
    fn tell_made(&self, more: bool) {
        self.made.lock().retain(|replica, made| {
            let waits = more && made.since.elapsed() < TELL_EACH;
            if !waits {
                tracing::info!(
                    replica.id = %replica,
                    copies = made.copies,
                    copies.size_bytes = made.bytes,
                    "copies that a replica lacked were made"
                );
            }
            waits
        });
    }

    async fn mend(&self, repair: &Repair, key: &KeyRow) -> Result<Repaired, BlobError> {
        let replica = ReplicaId::new(&repair.replica);
        let row = blob_key(&repair.domain, key);
        self.registry.inner.content.repair(&replica, &row, &repair.digest, &Pace::unbounded()).await
    }

    /// Queues a repair, and notes a finding, for every copy that a read found bad.
    pub(super) async fn note_rejections(&self) -> Result<(), CoreError> {
        let mut found = HashMap::new();
        for rejection in self.registry.inner.content.replicas().take_rejections() {
            found.insert((*rejection.file_id.as_bytes(), rejection.replica), rejection.range);
        }
        let found: Vec<_> = found.into_iter().collect();
        for batch in found.chunks(100) {
            let (batch, now_ms) = (batch.to_vec(), self.registry.now_ms());
            let noted = self.registry.inner.metadata.write(move |tx| {
                for ((file_id, replica), range) in &batch {
                    let Some(object) = blobs::object(tx, file_id)? else { continue };
                    let is_missing = *range == (0..object.key.object_len);
                    let finding = Finding {
                        file_id: *file_id,
                        replica: replica.as_str().to_owned(),
                        kind: if is_missing { FindingKind::Missing } else { FindingKind::Damaged },
                        detail: format!("a read found bytes {} to {} bad", range.start, range.end),
                        size: object.key.object_len,
                        found_at_ms: now_ms,
                        repaired_at_ms: None,
                    };
                    scrubs::put_finding(tx, &finding)?;
                    repairs::put(tx, file_id, replica.as_str(), &object.domain, &object.digest, now_ms)?;
                }
                Ok::<_, CoreError>(())
            });
            noted.await?;
        }
        Ok(())
    }
}
