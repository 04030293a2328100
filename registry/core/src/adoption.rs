//! After a restore nothing is deleted until the operator has looked at what came back, and adopted it.
//!
//! Whatever deletes content or destroys keys asks here first.

use registry_metadata::adoption::{self, Restored};
use registry_runtime::Hold;

use crate::error::CoreError;
use crate::registry::Registry;

impl Registry {
    /// The restore that waits to be adopted: while there is one, nothing is deleted and no key destroyed.
    ///
    /// # Errors
    /// The database's.
    pub async fn waiting_for_adoption(&self) -> Result<Option<Restored>, CoreError> {
        self.inner.metadata.point(|tx| adoption::pending(tx)).await.map_err(CoreError::from)
    }

    /// Takes what was restored for good: the collector works again. False when nothing waited for it.
    ///
    /// # Errors
    /// The database's.
    pub async fn adopt(&self) -> Result<bool, CoreError> {
        self.inner.metadata.write(|tx| Ok::<_, CoreError>(adoption::adopt(tx)?)).await
    }

    /// The right to delete objects for as long as it is held; `None` while a backup copies them.
    pub(crate) fn may_delete(&self) -> Result<Option<MayDelete>, CoreError> {
        let Some(lock) = &self.inner.config.deletion_lock else {
            return Ok(Some(MayDelete { _hold: None }));
        };
        let held = Hold::exclusive(lock).map_err(|error| CoreError::Internal(Box::new(error)))?;
        Ok(held.map(|hold| MayDelete { _hold: Some(hold) }))
    }
}

/// The right to delete objects.
pub(crate) struct MayDelete {
    _hold: Option<Hold>,
}
