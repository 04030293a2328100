//! The hold of one request on an upload.
//!
//! Only its holder moves an upload. A request that ends early, even by being dropped, gives the hold back;
//! one whose process dies loses it when it runs out.

use std::time::{Duration, Instant};

use registry_metadata::{UploadUid, uploads};

use crate::error::CoreError;
use crate::registry::Registry;

pub(crate) struct Lease {
    registry: Registry,
    uid: UploadUid,
    number: i64,
    renewed: Instant,
    held: bool,
}

impl Lease {
    /// The hold that was just taken with this number.
    pub(crate) fn taken(registry: &Registry, uid: &UploadUid, number: i64) -> Self {
        Self { registry: registry.clone(), uid: uid.clone(), number, renewed: Instant::now(), held: true }
    }

    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    /// The lease as the content store binds it into sealed state.
    pub(crate) fn text(number: i64) -> String {
        number.to_string()
    }

    /// # Errors
    /// `UploadBusy` when another request holds the upload by now.
    pub(crate) async fn renew_when_due(&mut self, interval: Duration) -> Result<(), CoreError> {
        if self.renewed.elapsed() < interval {
            return Ok(());
        }
        self.renewed = Instant::now();
        let until = self.registry.now_ms() + self.registry.inner.config.lease_ms;
        if end_at(&self.registry, &self.uid, self.number, until).await? {
            Ok(())
        } else {
            self.held = false;
            Err(CoreError::UploadBusy)
        }
    }

    /// Gives the hold back before the request is answered, so that a client may go on at once.
    pub(crate) async fn give_back(mut self) {
        match end_at(&self.registry, &self.uid, self.number, 0).await {
            Ok(_) => self.held = false,
            // Dropping tries once more; should that fail too, the lease runs out by itself.
            Err(error) => {
                tracing::debug!(upload.uid = %self.uid, error = %error, "a lease was not given back")
            }
        }
    }

    /// The transaction that ended the request gave the hold back already.
    pub(crate) fn given_back(mut self) {
        self.held = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (registry, uid, number) = (self.registry.clone(), self.uid.clone(), self.number);
        runtime.spawn(async move {
            // When this fails the lease runs out by itself.
            if let Err(error) = end_at(&registry, &uid, number, 0).await {
                tracing::debug!(upload.uid = %uid, error = %error, "a lease was not given back");
            }
        });
    }
}

/// Not synced: a lease holds among processes, and a power cut ends them all.
async fn end_at(registry: &Registry, uid: &UploadUid, number: i64, until_ms: i64) -> Result<bool, CoreError> {
    let uid = uid.clone();
    registry
        .inner
        .metadata
        .write_unsynced(move |tx| Ok::<_, CoreError>(uploads::renew_lease(tx, &uid, number, until_ms)?))
        .await
}
