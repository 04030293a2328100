//! Scrub: one walk over everything that is stored, in the order of file ids, on all replicas side by side.
//!
//! The position is saved with what was found, so that a restart repeats at most one stretch. Copies are checked
//! with their keys, from the medium and not from a cache, at a bounded rate.

use std::collections::{BTreeMap, BTreeSet};

use registry_blob::{BlobError, Damage, FileId, ReplicaId, Replicated};
use registry_metadata::blobs::{self, Object};
use registry_metadata::repairs;
use registry_metadata::replicas::{self, ReplicaState};
use registry_metadata::scrubs::{self, Finding, FindingKind, Scrub, ScrubState, Tally};

use super::{TAKEN_FOR_MS, Upkeep, renewing};
use crate::commit::blob_key;
use crate::error::CoreError;

/// Objects of one stretch, and the bytes after which it ends early.
const OBJECTS: u32 = 64;
const BYTES: u64 = 256 << 20;
/// Entries of a replica's listing that are compared at a time.
const LISTED: usize = 512;
/// How long repaired findings are shown.
const SHOWN_FOR_MS: i64 = 30 * 24 * 3_600_000;

type Id = [u8; 16];

/// What one stretch found.
#[derive(Default)]
struct Stretch {
    tally: Tally,
    findings: Vec<Finding>,
    /// Copies that are good, by file id and replica: an old finding of theirs is settled.
    good: Vec<(Id, String)>,
}

impl Upkeep {
    /// Begins a new walk, or lets one that was paused go on.
    ///
    /// # Errors
    /// The database's.
    pub async fn start_scrub(&self) -> Result<Scrub, CoreError> {
        let now_ms = self.registry.now_ms();
        self.registry
            .inner
            .metadata
            .write(move |tx| {
                match scrubs::get(tx)? {
                    Some(scrub) if scrub.state == ScrubState::Paused => {
                        scrubs::set_state(tx, ScrubState::Running)?;
                    }
                    Some(scrub) if scrub.state == ScrubState::Running => {}
                    _ => scrubs::begin(tx, now_ms)?,
                }
                scrubs::get(tx)?.ok_or_else(|| CoreError::internal("a walk that was begun is not there"))
            })
            .await
    }

    /// Pauses the walk that is under way; it goes on where it stands.
    ///
    /// # Errors
    /// The database's.
    pub async fn stop_scrub(&self) -> Result<Option<Scrub>, CoreError> {
        self.registry
            .inner
            .metadata
            .write(|tx| {
                if scrubs::get(tx)?.is_some_and(|scrub| scrub.state == ScrubState::Running) {
                    scrubs::set_state(tx, ScrubState::Paused)?;
                }
                Ok::<_, CoreError>(scrubs::get(tx)?)
            })
            .await
    }

    /// One stretch of the walk; begins a new walk when its time has come. True while there is more.
    ///
    /// # Errors
    /// The database's. A replica that cannot be asked is counted and passed by.
    pub async fn scrub(&self) -> Result<bool, CoreError> {
        let metadata = &self.registry.inner.metadata;
        let now_ms = self.registry.now_ms();
        let interval_ms = self.config.scrub_interval_ms;
        let standing = metadata.read(|tx| Ok::<_, CoreError>(scrubs::get(tx)?)).await?;
        let is_over = standing.as_ref().is_none_or(|scrub| scrub.state == ScrubState::Finished);
        let started_ms = standing.map_or(0, |scrub| scrub.started_at_ms);
        if is_over && interval_ms > 0 && now_ms - started_ms >= interval_ms {
            metadata.write(move |tx| Ok::<_, CoreError>(scrubs::begin(tx, now_ms)?)).await?;
            metadata
                .write(move |tx| {
                    Ok::<_, CoreError>(scrubs::forget_repaired(tx, now_ms - SHOWN_FOR_MS, 1000)?)
                })
                .await?;
        } else if is_over {
            return Ok(false);
        }
        let taken =
            metadata.write(move |tx| Ok::<_, CoreError>(scrubs::take(tx, now_ms, now_ms + TAKEN_FOR_MS)?));
        let Some(walk) = taken.await? else { return Ok(false) };
        renewing(self.stretch(&walk), || self.renew_scrub(walk.clone())).await
    }

    async fn renew_scrub(&self, walk: Scrub) -> Result<(), CoreError> {
        let until_ms = self.registry.now_ms() + TAKEN_FOR_MS;
        let metadata = &self.registry.inner.metadata;
        metadata.write(move |tx| Ok(scrubs::renew(tx, &walk, until_ms)?)).await
    }

    async fn stretch(&self, walk: &Scrub) -> Result<bool, CoreError> {
        let set = self.registry.inner.content.replicas();
        let after = walk.position.clone();
        let mut page = self.objects(&after).await?;
        let mut is_last = page.len() < OBJECTS as usize;
        let mut sum = 0;
        let copies = set.replica_ids().count() as u64;
        let within = page.iter().take_while(|object| {
            let fits = sum < BYTES;
            sum += object.key.object_len * copies;
            fits
        });
        let count = within.count();
        is_last &= count == page.len();
        page.truncate(count);
        let last = page.last().map(|object| object.key.file_id).filter(|_| !is_last);

        let mut stretch = Stretch::default();
        let (listed, bound) = self.listings(&set, &after, last, &mut stretch.tally).await;
        page.retain(|object| bound.is_none_or(|bound| object.key.file_id <= bound));
        self.find_unknown(&set, &page, listed, bound, &mut stretch).await?;
        for object in &page {
            stretch.tally.objects += 1;
            self.check_copies(&set, object, &mut stretch).await?;
        }
        self.save(walk, bound, stretch).await
    }

    async fn objects(&self, after: &[u8]) -> Result<Vec<Object>, CoreError> {
        let after = after.to_vec();
        let metadata = &self.registry.inner.metadata;
        metadata.read(move |tx| Ok(blobs::objects_after(tx, &after, OBJECTS)?)).await
    }

    /// What each replica lists after `after`, up to `last`, and how far all the listings reach: `None` to
    /// the end of everything.
    async fn listings(
        &self,
        set: &Replicated,
        after: &[u8],
        last: Option<Id>,
        tally: &mut Tally,
    ) -> (BTreeMap<ReplicaId, BTreeMap<Id, u64>>, Option<Id>) {
        let after = <Id>::try_from(after).ok().map(FileId::from_bytes);
        let (mut listed, mut bound) = (BTreeMap::new(), last);
        for id in set.replica_ids() {
            let Some(store) = set.store(id) else { continue };
            let entries = match store.list(after, LISTED).await {
                Ok(entries) => entries,
                Err(error) => {
                    tally.unchecked += 1;
                    tracing::warn!(replica.id = %id, error = %error, "a replica cannot be listed");
                    continue;
                }
            };
            if let Some(end) = entries.last().filter(|_| entries.len() == LISTED) {
                let end = *end.file_id.as_bytes();
                bound = Some(bound.map_or(end, |bound| bound.min(end)));
            }
            let entries = entries.into_iter().map(|entry| (*entry.file_id.as_bytes(), entry.len));
            listed.insert(id.clone(), entries.collect());
        }
        (listed, bound)
    }

    /// Objects that lie on a replica and that no row names.
    async fn find_unknown(
        &self,
        set: &Replicated,
        page: &[Object],
        listed: BTreeMap<ReplicaId, BTreeMap<Id, u64>>,
        bound: Option<Id>,
        stretch: &mut Stretch,
    ) -> Result<(), CoreError> {
        let known: BTreeSet<Id> = page.iter().map(|object| object.key.file_id).collect();
        for (replica, entries) in listed {
            for (file_id, size) in entries {
                if bound.is_some_and(|bound| file_id > bound) || known.contains(&file_id) {
                    continue;
                }
                // The rows are asked after the listing: every object is registered before its first byte.
                let metadata = &self.registry.inner.metadata;
                if metadata.point(move |tx| Ok::<_, CoreError>(blobs::is_registered(tx, &file_id)?)).await? {
                    continue;
                }
                // And whether it is there still, after the rows: it may have been collected meanwhile.
                let Some(store) = set.store(&replica) else { continue };
                if store.open(FileId::from_bytes(file_id)).await.is_err() {
                    continue;
                }
                stretch.tally.unknown += 1;
                let detail = "no row names this object".to_owned();
                stretch.findings.push(self.finding(file_id, &replica, FindingKind::Unknown, detail, size));
            }
        }
        Ok(())
    }

    async fn check_copies(
        &self,
        set: &Replicated,
        object: &Object,
        stretch: &mut Stretch,
    ) -> Result<(), CoreError> {
        let file_id = object.key.file_id;
        let row = blob_key(&object.domain, &object.key);
        for replica in set.replica_ids() {
            if self.is_awaited(file_id, replica).await? {
                continue;
            }
            let content = &self.registry.inner.content;
            match content.verify_keyed(replica, &row, &object.digest, &self.scrub_pace).await {
                Ok(None) => {
                    stretch.tally.copies += 1;
                    stretch.tally.copy_bytes += row.object_len;
                    stretch.good.push((file_id, replica.as_str().to_owned()));
                }
                Ok(Some(damage)) => {
                    stretch.tally.copies += 1;
                    let kind = kind_of(&damage);
                    match kind {
                        FindingKind::Missing => stretch.tally.missing += 1,
                        _ => stretch.tally.damaged += 1,
                    }
                    let Damage { range, reason } = damage;
                    let detail = format!("bytes {} to {}: {reason}", range.start, range.end);
                    stretch.findings.push(self.finding(file_id, replica, kind, detail, row.object_len));
                }
                Err(error) => {
                    stretch.tally.unchecked += 1;
                    self.note_unchecked(replica, &error);
                }
            }
        }
        Ok(())
    }

    /// Whether it is known already that the replica lacks the copy.
    async fn is_awaited(&self, file_id: Id, replica: &ReplicaId) -> Result<bool, CoreError> {
        let replica = replica.as_str().to_owned();
        let metadata = &self.registry.inner.metadata;
        metadata
            .point(move |tx| {
                if repairs::is_queued(tx, &file_id, &replica)? {
                    return Ok(true);
                }
                let rows = replicas::all(tx)?;
                let row = rows.iter().find(|row| row.id == replica);
                let behind = row.and_then(|row| row.backfill_after.as_ref());
                Ok::<_, CoreError>(behind.is_some_and(|after| file_id[..] > after[..]))
            })
            .await
    }

    fn note_unchecked(&self, replica: &ReplicaId, error: &BlobError) {
        tracing::debug!(replica.id = %replica, error = %error, "a copy could not be checked");
    }

    fn finding(
        &self,
        file_id: Id,
        replica: &ReplicaId,
        kind: FindingKind,
        detail: String,
        size: u64,
    ) -> Finding {
        let replica = replica.as_str().to_owned();
        let found_at_ms = self.registry.now_ms();
        Finding { file_id, replica, kind, detail, size, found_at_ms, repaired_at_ms: None }
    }

    /// Findings, repairs and the position, in one transaction. True while there is more.
    async fn save(&self, walk: &Scrub, bound: Option<Id>, stretch: Stretch) -> Result<bool, CoreError> {
        let (walk, now_ms) = (walk.clone(), self.registry.now_ms());
        let (activity, tally) = (self.registry.activity(), &stretch.tally);
        activity.scrubbed_copies.add(tally.copies);
        activity.scrubbed_bytes.add(tally.copy_bytes);
        activity.scrub_findings.add(tally.damaged + tally.missing + tally.unknown);
        let advanced = self.registry.inner.metadata.write(move |tx| {
            for finding in &stretch.findings {
                let object = blobs::object(tx, &finding.file_id)?;
                match (&object, finding.kind) {
                    (None, FindingKind::Unknown) => {}
                    // Deleted while it was checked.
                    (None, _) => continue,
                    (Some(_), FindingKind::Unknown) => continue,
                    (Some(object), _) => {
                        let is_written = replicas::all(tx)?
                            .iter()
                            .any(|row| row.id == finding.replica && row.state == ReplicaState::Active);
                        if is_written {
                            let (domain, digest) = (&object.domain, &object.digest);
                            repairs::put(tx, &finding.file_id, &finding.replica, domain, digest, now_ms)?;
                        }
                    }
                }
                scrubs::put_finding(tx, finding)?;
            }
            for (file_id, replica) in &stretch.good {
                scrubs::repaired(tx, file_id, replica, now_ms)?;
            }
            let bound = bound.as_ref().map(|bound| &bound[..]);
            Ok::<_, CoreError>(scrubs::advance(tx, &walk, bound, &stretch.tally, now_ms)?)
        });
        Ok(advanced.await? && bound.is_some())
    }
}

fn kind_of(damage: &Damage) -> FindingKind {
    if damage.is_missing() { FindingKind::Missing } else { FindingKind::Damaged }
}
