//! Work that no request waits for: uploads nobody continues, and the remains of repositories.
//!
//! Each function does one bounded batch and says how much it did; a worker calls it on a timer, and again
//! at once while there is more.

use registry_metadata::{garbage, reservations, uploads};

use crate::error::CoreError;
use crate::registry::Registry;

const BATCH: u32 = 200;

impl Registry {
    /// Removes uploads that did not move for the configured lifetime, and reservations that were not taken in it. Gives
    /// how many.
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
                let reserved = reservations::expired(tx, now_ms, BATCH)?;
                for file_id in &reserved {
                    reservations::give_up(tx, file_id, now_ms)?;
                }
                Ok::<_, CoreError>(expired.len() + reserved.len())
            })
            .await
    }

    /// Removes a batch of the rows of a deleted repository. False when there is nothing left to remove.
    pub async fn purge_deleted_repositories(&self) -> Result<bool, CoreError> {
        let now_ms = self.now_ms();
        self.inner
            .metadata
            .write(move |tx| {
                let Some(uid) = garbage::deleted_repository(tx)? else { return Ok(false) };
                garbage::purge_repository(tx, &uid, BATCH, now_ms)?;
                Ok::<_, CoreError>(true)
            })
            .await
    }
}
