//! The collector: blobs that nothing names any more, from their link to their last byte.
//!
//! Candidates come from metadata only, from queues that whatever may make something unneeded fills in its own
//! transaction, so that a collection costs what there is to collect. A link goes when no manifest needs it and
//! nobody relied on it for a grace; a key is condemned when nothing names its digest, and deleted a grace later if
//! that is still so; its object goes when readers have drained. Each step asks again in the transaction that
//! deletes, and both later waits count from when this process first saw the candidate, by the monotonic clock:
//! neither a jump of the wall clock nor a restart can shorten them. A slow walk finds what no queue knows of.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use registry_blob::FileId;
use registry_metadata::candidates::{self, Walk, WalkPosition};
use registry_metadata::liveness::{self, ObjectKey};
use registry_metadata::manifests::{self, Retired};
use registry_metadata::{Tx, garbage, repositories};
use registry_types::RepositoryName;

use crate::error::CoreError;
use crate::pins::RESOLVED_MS;
use crate::registry::Registry;

/// Rows of one transaction.
const BATCH: u32 = 200;
/// Deleted manifests of one page; each names a bounded number of contents and is a transaction of its own.
const RETIRED: u32 = 100;
/// Transactions of each step in one call.
const BATCHES: usize = 50;
/// Rows of one page of a walk over everything, and pages of one call.
const WALK_PAGE: u32 = 500;
const WALK_PAGES: usize = 2;

/// Where the collector stands; it goes round what is retired, condemned and garbage again and again.
#[derive(Default)]
pub(crate) struct Collector {
    retired: Option<Retired>,
    condemned: Option<ObjectKey>,
    garbage: Vec<u8>,
    waiting_keys: Waiting<ObjectKey>,
    waiting_objects: Waiting<[u8; 16]>,
}

/// When this process first saw each candidate, by its monotonic clock.
struct Waiting<K> {
    first_seen: HashMap<K, Duration>,
    /// Those that the walk under way has met: the others went without this process.
    met: HashSet<K>,
}

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self { first_seen: HashMap::new(), met: HashSet::new() }
    }
}

impl<K: Clone + Eq + Hash> Waiting<K> {
    /// Those of a page that have waited for the whole period. With the last page of a walk, whatever the walk did
    /// not meet is forgotten, so that its wait begins anew should it come again.
    fn ripe(&mut self, page: &[K], is_last: bool, period: Duration, now: Duration) -> Vec<K> {
        let mut ripe = Vec::new();
        for key in page {
            let first = *self.first_seen.entry(key.clone()).or_insert(now);
            if now.saturating_sub(first) >= period {
                self.first_seen.remove(key);
                ripe.push(key.clone());
            }
            self.met.insert(key.clone());
        }
        if is_last {
            let met = std::mem::take(&mut self.met);
            self.first_seen.retain(|key, _| met.contains(key));
        }
        ripe
    }
}

impl Registry {
    /// A bounded stretch of collection. Gives how many objects it deleted.
    ///
    /// # Errors
    /// The database's or the store's; what was done stays done.
    pub async fn collect_garbage(&self) -> Result<usize, CoreError> {
        if self.waiting_for_adoption().await?.is_some() {
            return Ok(0);
        }
        let mut deleted = 0;
        for _ in 0..BATCHES {
            if !self.release_retired().await? {
                break;
            }
        }
        for walk in Walk::ALL {
            self.look_for_candidates(walk).await?;
        }
        for _ in 0..BATCHES {
            let more = self.expire_links().await?;
            if !(self.condemn_keys().await? | more) {
                break;
            }
        }
        for _ in 0..BATCHES {
            if !self.delete_condemned_keys().await? {
                break;
            }
        }
        for _ in 0..BATCHES {
            let (count, more) = self.delete_objects().await?;
            deleted += count;
            self.inner.activity.collected_objects.add(count as u64);
            if !more {
                break;
            }
        }
        self.inner.activity.collections.add(1);
        Ok(deleted)
    }

    /// Lets go of what a batch of deleted manifests names, but for those that run or that a deleted index which runs
    /// names. True when the walk has not come to its end.
    async fn release_retired(&self) -> Result<bool, CoreError> {
        let (now_ms, grace_ms) = (self.now_ms(), i64::try_from(self.inner.config.gc_grace_ms));
        // Whoever resolved the image just before it was deleted has written down by then that it runs.
        let wait_ms = RESOLVED_MS.min(grace_ms.unwrap_or(i64::MAX));
        let after = self.inner.collector.lock().retired.clone();
        let (page, next) = self
            .page(move |tx| {
                let page = manifests::retired_after(tx, after.as_ref(), RETIRED)?;
                let next = page.last().filter(|_| page.len() == RETIRED as usize).cloned();
                let mut named = Vec::with_capacity(page.len());
                for retired in page {
                    let repository = repositories::by_uid(tx, &retired.repository)?;
                    named.push((retired, repository.map(|repository| repository.name)));
                }
                Ok((named, next))
            })
            .await?;
        if !page.is_empty() {
            // Asked after the manifests were seen to be gone: what began to run since then began without them.
            let pinned = self.pinned_digests().await?;
            let runs = |retired: &Retired, name: Option<RepositoryName>| {
                name.is_some_and(|name| pinned.contains(&(name, retired.digest.clone())))
            };
            let free = page.into_iter().filter_map(|(retired, name)| {
                let waited = now_ms.saturating_sub(retired.retired_at_ms) >= wait_ms;
                (waited && !runs(&retired, name)).then_some(retired)
            });
            let free: Vec<Retired> = free.collect();
            for retired in free {
                self.inner
                    .metadata
                    .write(move |tx| {
                        if !manifests::is_named(tx, &retired.repository, &retired.digest)? {
                            manifests::release(tx, &retired.repository, &retired.digest, now_ms)?;
                        }
                        Ok::<_, CoreError>(())
                    })
                    .await?;
            }
        }
        let more = next.is_some();
        self.inner.collector.lock().retired = next;
        Ok(more)
    }

    /// A stretch of a walk over everything, where one is due: what it finds goes into the queues.
    async fn look_for_candidates(&self, walk: Walk) -> Result<(), CoreError> {
        let Some(interval_ms) = self.inner.config.candidate_walk_interval_ms else { return Ok(()) };
        for _ in 0..WALK_PAGES {
            let now_ms = self.now_ms();
            let page = self.page(move |tx| {
                let position = candidates::walk_position(tx, walk)?;
                if position.due_at_ms > now_ms {
                    return Ok(None);
                }
                Ok(Some(candidates::walk_page(tx, walk, &position, WALK_PAGE)?))
            });
            let Some(page) = page.await? else { break };
            self.inner.activity.collector_walked.add(page.seen);
            let next = match page.last.clone() {
                Some((container, digest)) => WalkPosition { container, digest, due_at_ms: now_ms },
                None => {
                    WalkPosition { due_at_ms: now_ms.saturating_add(interval_ms), ..WalkPosition::default() }
                }
            };
            self.inner
                .metadata
                .write(move |tx| {
                    candidates::note_found(tx, &page, now_ms)?;
                    Ok::<_, CoreError>(candidates::set_walk_position(tx, walk, &next)?)
                })
                .await?;
        }
        Ok(())
    }

    /// Takes a batch of links from their queue whose grace is over. True when there may be more.
    async fn expire_links(&self) -> Result<bool, CoreError> {
        let now_ms = self.now_ms();
        let grace_ms = i64::try_from(self.inner.config.gc_grace_ms).unwrap_or(i64::MAX);
        let before_ms = now_ms.saturating_sub(grace_ms);
        let page = self.page(move |tx| candidates::links(tx, before_ms, BATCH)).await?;
        let count = page.len();
        if count > 0 {
            self.inner.activity.collector_examined.add(count as u64);
            self.inner
                .metadata
                .write(move |tx| {
                    for link in &page {
                        candidates::settle_link(tx, link, before_ms, now_ms)?;
                    }
                    Ok::<_, CoreError>(())
                })
                .await?;
        }
        Ok(count == BATCH as usize)
    }

    /// Takes a batch of digests from their queue and condemns the keys of those that nothing names. True when there
    /// may be more.
    async fn condemn_keys(&self) -> Result<bool, CoreError> {
        let page = self.page(|tx| candidates::digests(tx, BATCH)).await?;
        let count = page.len();
        if count > 0 {
            let now_ms = self.now_ms();
            self.inner.activity.collector_examined.add(count as u64);
            self.inner
                .metadata
                .write(move |tx| {
                    for digest in &page {
                        candidates::settle_digest(tx, digest, now_ms)?;
                    }
                    Ok::<_, CoreError>(())
                })
                .await?;
        }
        Ok(count == BATCH as usize)
    }

    /// Deletes a batch of condemned keys whose grace is over. True when the walk has not come to its end.
    async fn delete_condemned_keys(&self) -> Result<bool, CoreError> {
        let after = self.inner.collector.lock().condemned.clone();
        let page = self.page(move |tx| liveness::condemned_after(tx, after.as_ref(), BATCH)).await?;
        let next = next(&page);
        let period = Duration::from_millis(self.inner.config.gc_grace_ms);
        let (is_last, now) = (next.is_none(), self.inner.clock.monotonic());
        let ripe = self.inner.collector.lock().waiting_keys.ripe(&page, is_last, period, now);
        if !ripe.is_empty() {
            let now_ms = self.now_ms();
            self.inner
                .metadata
                .write(move |tx| {
                    for key in &ripe {
                        liveness::delete_condemned_key(tx, key, now_ms)?;
                    }
                    Ok::<_, CoreError>(())
                })
                .await?;
        }
        let more = next.is_some();
        self.inner.collector.lock().condemned = next;
        Ok(more)
    }

    /// Deletes a batch of objects that have drained: how many, and whether the walk has not come to its end.
    async fn delete_objects(&self) -> Result<(usize, bool), CoreError> {
        // A backup copies what its moment of the database names: until it is done, nothing goes.
        let Some(_may) = self.may_delete()? else { return Ok((0, false)) };
        let after = self.inner.collector.lock().garbage.clone();
        let page = self.page(move |tx| garbage::condemned_after(tx, &after, BATCH)).await?;
        let period = Duration::from_millis(self.inner.config.garbage_drain_ms);
        let next = next(&page);
        let (is_last, now) = (next.is_none(), self.inner.clock.monotonic());
        let ripe = self.inner.collector.lock().waiting_objects.ripe(&page, is_last, period, now);
        for file_id in &ripe {
            // A replica that is away holds up nobody: it deletes its copy when it is back.
            let left_on = self.inner.content.delete(FileId::from_bytes(*file_id)).await?;
            let left_on: Vec<String> = left_on.iter().map(|id| id.as_str().to_owned()).collect();
            let (file_id, now_ms) = (*file_id, self.now_ms());
            self.inner
                .metadata
                .write(move |tx| Ok::<_, CoreError>(garbage::forget(tx, &file_id, &left_on, now_ms)?))
                .await?;
        }
        let more = next.is_some();
        self.inner.collector.lock().garbage = next.map(|last| last.to_vec()).unwrap_or_default();
        Ok((ripe.len(), more))
    }

    async fn page<T: Send + 'static>(
        &self,
        read: impl FnMut(&mut Tx<'_>) -> Result<T, registry_metadata::Error> + Send + 'static,
    ) -> Result<T, CoreError> {
        self.inner.metadata.read(read).await.map_err(CoreError::from)
    }
}

/// Where a walk goes on: after the last row of a full page.
fn next<T: Clone>(page: &[T]) -> Option<T> {
    page.last().filter(|_| page.len() == BATCH as usize).cloned()
}
