//! Objects registered ahead of need, so that a manifest costs one durable transaction and not two.
//!
//! Every object is registered before its first byte, or a crash would leave something behind that nothing names. A
//! blob's upload registers its own; manifests are small and many, and take theirs from a few that this process
//! registered together. One that is never taken runs out and becomes garbage.

use std::time::Duration;

use registry_blob::FileId;
use registry_metadata::reservations;

use crate::error::CoreError;
use crate::registry::Registry;

/// Objects registered at once.
const TOGETHER: usize = 16;

/// Objects that are registered, and that nothing was written to yet.
#[derive(Default)]
pub(crate) struct Reservations {
    free: Vec<Reserved>,
}

#[derive(Clone, Copy)]
struct Reserved {
    file_id: FileId,
    /// By the monotonic clock: from then on too little may be left of the reservation.
    use_before: Duration,
}

impl Reservations {
    fn take(&mut self, now: Duration) -> Option<FileId> {
        while let Some(reserved) = self.free.pop() {
            if now < reserved.use_before {
                return Some(reserved.file_id);
            }
        }
        None
    }
}

impl Registry {
    /// An object of the caller's own, for half of an upload's lifetime at least.
    pub(crate) async fn reserve_object(&self) -> Result<FileId, CoreError> {
        let now = self.inner.clock.monotonic();
        if let Some(file_id) = self.inner.reservations.lock().take(now) {
            return Ok(file_id);
        }
        let all: [FileId; TOGETHER] = std::array::from_fn(|_| FileId::random());
        let lifetime_ms = self.inner.config.upload_lifetime_ms;
        let expires_at_ms = self.now_ms() + lifetime_ms;
        self.inner
            .metadata
            .write(move |tx| {
                for file_id in &all {
                    reservations::insert(tx, file_id.as_bytes(), expires_at_ms)?;
                }
                Ok::<_, CoreError>(())
            })
            .await?;
        let [first, others @ ..] = all;
        let use_before = now + Duration::from_millis(lifetime_ms.unsigned_abs() / 2);
        let reserved = others.into_iter().map(|file_id| Reserved { file_id, use_before });
        self.inner.reservations.lock().free.extend(reserved);
        Ok(first)
    }

    /// Condemns an object whose manifest came to nothing. Should this fail, its reservation runs out.
    pub(crate) async fn give_up_object(&self, file_id: FileId) {
        let now_ms = self.now_ms();
        let given_up: Result<(), CoreError> = self
            .inner
            .metadata
            .write(move |tx| Ok(reservations::give_up(tx, file_id.as_bytes(), now_ms)?))
            .await;
        if let Err(error) = given_up {
            tracing::debug!(error = %error, "a reserved object is left to expire");
        }
    }
}
