//! Objects registered ahead of need, so that a push costs one durable transaction and not two.
//!
//! Every object is registered durably before its first byte, or a power cut would leave something behind that nothing
//! names. Manifests and uploads take theirs from a few that this process registered together, in the transaction that
//! names it elsewhere: should that one be forgotten, the reservation is there again. One that is never taken runs out
//! and becomes garbage.

use std::time::Duration;

use registry_blob::FileId;
use registry_metadata::{Tx, reservations};

use crate::error::CoreError;
use crate::registry::Registry;

/// Objects registered at once, by everybody who finds none: as many more as there are pushes at the time.
const TOGETHER: usize = 16;

/// Objects that are registered, and that nothing was written to yet.
#[derive(Default)]
pub(crate) struct Reservations {
    free: Vec<Reserved>,
}

/// An object that is registered for one taker.
#[derive(Clone, Copy)]
pub(crate) struct Reserved {
    pub(crate) file_id: FileId,
    /// From then on too little may be left of the reservation: by the monotonic clock, and by the one that ends it.
    use_before: Duration,
    use_before_ms: i64,
}

impl Reservations {
    fn take(&mut self, now: Duration, now_ms: i64) -> Option<Reserved> {
        while let Some(reserved) = self.free.pop() {
            if now < reserved.use_before && now_ms < reserved.use_before_ms {
                return Some(reserved);
            }
        }
        None
    }
}

/// Ends the reservation of an object, in the transaction that names it elsewhere.
///
/// # Errors
/// `Unavailable` when it was over: the object is garbage by now.
pub(crate) fn take(tx: &Tx<'_>, file_id: FileId) -> Result<(), CoreError> {
    if reservations::take(tx, file_id.as_bytes())? {
        Ok(())
    } else {
        Err(CoreError::unavailable("a push took longer than its reservation"))
    }
}

impl Registry {
    /// An object of the caller's own, for half of an upload's lifetime at least.
    pub(crate) async fn reserve_object(&self) -> Result<Reserved, CoreError> {
        let (now, now_ms) = (self.inner.clock.monotonic(), self.now_ms());
        if let Some(reserved) = self.inner.reservations.lock().take(now, now_ms) {
            return Ok(reserved);
        }
        let all: [FileId; TOGETHER] = std::array::from_fn(|_| FileId::random());
        let lifetime_ms = self.inner.config.upload_lifetime_ms;
        let expires_at_ms = now_ms + lifetime_ms;
        self.inner
            .metadata
            .write(move |tx| {
                for file_id in &all {
                    reservations::insert(tx, file_id.as_bytes(), expires_at_ms)?;
                }
                Ok::<_, CoreError>(())
            })
            .await?;
        let use_before = now + Duration::from_millis(lifetime_ms.unsigned_abs() / 2);
        let use_before_ms = now_ms + lifetime_ms / 2;
        let [first, others @ ..] = all.map(|file_id| Reserved { file_id, use_before, use_before_ms });
        self.inner.reservations.lock().free.extend(others);
        Ok(first)
    }

    /// Gives back an object that was not taken, and that nothing was written to.
    pub(crate) fn return_object(&self, reserved: Reserved) {
        self.inner.reservations.lock().free.push(reserved);
    }

    /// Condemns an object that was not taken and whose manifest came to nothing. Should this fail, its reservation runs out.
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
