//! Whether what is restored can be read with the keys that are there.

use std::path::Path;

use registry_metadata::epochs::{self, EpochState};
use registry_metadata::{Domain, blobs};
use registry_runtime::{KeyProvider, LocalKeys, RecoveryKey};
use registry_sql::Database;

use super::error::BackupError;

/// Keys, as `domain/epoch`, that neither the recovery key nor the key folder holds: what is sealed under them stays
/// unreadable, as that of a key which was destroyed on purpose.
///
/// # Errors
/// [`BackupError::KeyMissing`] for the one under which a server would go on writing: none could start.
pub(super) async fn missing(
    database: &Database,
    recovery_key: Option<&RecoveryKey>,
    folder: &Path,
) -> Result<Vec<String>, BackupError> {
    let local = folder.exists().then(|| LocalKeys::open(folder)).transpose()?;
    let is_there = |domain: &str, epoch: u32| {
        recovery_key.is_some_and(|key| key.secret(domain, epoch).is_ok())
            || local.as_ref().is_some_and(|keys| keys.secret(domain, epoch).is_ok())
    };
    let default = Domain::new(registry_blob::Domain::DEFAULT);
    let (active, all) = database
        .read(move |tx| {
            Ok::<_, registry_metadata::Error>((blobs::active_epoch(tx, &default)?, epochs::all(tx)?))
        })
        .await?;
    if !is_there(registry_blob::Domain::DEFAULT, active) {
        return Err(BackupError::KeyMissing { epoch: active });
    }
    let alive = all.into_iter().filter(|one| matches!(one.state, EpochState::Active | EpochState::Retiring));
    let missing = alive.filter(|one| !is_there(one.domain.as_str(), one.epoch));
    Ok(missing.map(|one| format!("{}/{}", one.domain.as_str(), one.epoch)).collect())
}
