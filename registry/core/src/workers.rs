//! Work that no request waits for: uploads nobody continues, objects nobody names, remains of repositories.
//!
//! Each function does one bounded batch and says how much it did; a worker calls it on a timer, and again
//! at once while there is more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use registry_blob::FileId;
use registry_metadata::{garbage, uploads};

use crate::error::CoreError;
use crate::registry::Registry;

const BATCH: u32 = 200;

/// When this process first saw each condemned object. A drain counts from there by the monotonic clock, so
/// that neither a jump of the wall clock nor a restart can shorten it.
#[derive(Default)]
pub(crate) struct Drain {
    first_seen: HashMap<[u8; 16], Instant>,
    cursor: Vec<u8>,
}

impl Drain {
    /// Of a page of condemned objects, those that have drained.
    fn drained(&mut self, page: &[[u8; 16]], period: Duration, now: Instant) -> Vec<[u8; 16]> {
        let first_seen = &mut self.first_seen;
        let drained =
            |file_id: &&[u8; 16]| now.duration_since(*first_seen.entry(**file_id).or_insert(now)) >= period;
        page.iter().filter(drained).copied().collect()
    }
}

impl Registry {
    /// Removes uploads that did not move for the configured lifetime. Gives how many.
    pub async fn expire_uploads(&self) -> Result<usize, CoreError> {
        let now_ms = self.now_ms();
        let before_ms = now_ms - self.inner.config.upload_lifetime_ms;
        self.inner
            .metadata
            .write(move |tx| {
                let expired = uploads::expired(tx, before_ms, now_ms, BATCH)?;
                for row in &expired {
                    if uploads::delete(tx, &row.uid, row.lease)?
                        && let Some(file_id) = &row.file_id
                    {
                        garbage::condemn(tx, file_id, now_ms)?;
                    }
                }
                Ok::<_, CoreError>(expired.len())
            })
            .await
    }

    /// Deletes condemned objects whose drain is over. Gives how many.
    pub async fn collect_garbage(&self) -> Result<usize, CoreError> {
        let after = self.inner.drain.lock().cursor.clone();
        let page = self
            .inner
            .metadata
            .read(move |tx| Ok::<_, CoreError>(garbage::condemned_after(tx, &after, BATCH)?))
            .await?;
        let period = Duration::from_millis(self.inner.config.garbage_drain_ms);
        let drained = {
            let mut drain = self.inner.drain.lock();
            drain.cursor = match page.last() {
                Some(last) if page.len() == BATCH as usize => last.to_vec(),
                _ => Vec::new(),
            };
            drain.drained(&page, period, Instant::now())
        };
        for file_id in &drained {
            self.inner.content.delete(FileId::from_bytes(*file_id)).await?;
            let file_id = *file_id;
            self.inner.metadata.write(move |tx| Ok::<_, CoreError>(garbage::forget(tx, &file_id)?)).await?;
            self.inner.drain.lock().first_seen.remove(&file_id);
        }
        Ok(drained.len())
    }

    /// Removes a batch of the rows of a deleted repository. False when there is nothing left to remove.
    pub async fn purge_deleted_repositories(&self) -> Result<bool, CoreError> {
        self.inner
            .metadata
            .write(move |tx| {
                let Some(uid) = garbage::deleted_repository(tx)? else { return Ok(false) };
                garbage::purge_repository(tx, &uid, BATCH)?;
                Ok::<_, CoreError>(true)
            })
            .await
    }
}
