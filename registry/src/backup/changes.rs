//! Bringing the database back from the change log on the replicas: the content lies there still.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use registry_metadata::Metadata;
use registry_metadata::adoption::{self, Restored};
use registry_runtime::{RecoveryKey, durable};
use registry_sql::{Database, Error as SqlError, LogSeal, RestoredDatabase, restore_sqlite};
use serde::Serialize;

use super::error::BackupError;
use super::restore::SchemaCheck;
use super::staging::{OwnData, Scratch, is_empty};
use super::{CHECKED, DATABASE, RESTORING, keys};

/// What is restored, and where to.
pub struct RestoreChanges<'a> {
    /// Folders of replicas; those that they name are asked too.
    pub roots: &'a [PathBuf],
    pub data: &'a Path,
    pub key_dir: &'a Path,
    /// Written into `key_dir`; `None` when that holds the keys already.
    pub recovery_key: Option<&'a RecoveryKey>,
    pub seal: Arc<dyn LogSeal>,
    /// Take what there is, though replicas that may know more cannot be read.
    pub accept_older: bool,
    pub schema: &'a dyn SchemaCheck,
    pub now_ms: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredChanges {
    pub data: PathBuf,
    /// Number of the last change.
    pub sequence: u64,
    /// The replica it came from.
    pub from: PathBuf,
    /// Whether nothing acknowledged can be missing.
    pub certain: bool,
    /// Keys, as `domain/epoch`, without which some of the content stays unreadable.
    pub missing_keys: Vec<String>,
}

impl RestoreChanges<'_> {
    /// Restores the database, or nothing.
    ///
    /// # Errors
    /// What is wrong with the replicas, the key or the directory.
    pub async fn run(&self) -> Result<RestoredChanges, BackupError> {
        let made = !self.data.exists();
        let own = OwnData::take(self.data)?;
        let restored = self.run_alone().await;
        if restored.is_err() {
            own.give_up();
            if made {
                // Not empty means that somebody else uses it by now.
                drop(std::fs::remove_dir(self.data));
            }
        }
        restored
    }

    async fn run_alone(&self) -> Result<RestoredChanges, BackupError> {
        let checked = self.data.join(RESTORING).join(CHECKED);
        if checked.exists() || !is_empty(self.data, &[self.key_dir])? {
            return Err(BackupError::NotEmpty { path: self.data.to_owned() });
        }
        if let Some(key) = self.recovery_key {
            key.check(self.key_dir)?;
        }
        self.stage_and_publish().await
    }

    async fn stage_and_publish(&self) -> Result<RestoredChanges, BackupError> {
        let scratch = Scratch::make(&self.data.join(RESTORING))?;
        let path = scratch.path().join(DATABASE);
        let restored = self.read(path.clone()).await?;
        let database = Database::open_sqlite(&path).await?;
        let marked = self.check_and_mark(&database, &restored).await;
        database.close().await;
        let missing_keys = marked?;
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(BackupError::file(&path))?;
        if let Some(key) = self.recovery_key {
            key.install(self.key_dir)?;
        }
        let target = self.data.join(DATABASE);
        std::fs::rename(&path, &target)
            .and_then(|()| durable::sync_directory(self.data))
            .map_err(BackupError::file(&target))?;
        Ok(RestoredChanges {
            data: self.data.to_owned(),
            sequence: restored.sequence,
            from: restored.from,
            certain: restored.certain,
            missing_keys,
        })
    }

    async fn read(&self, target: PathBuf) -> Result<RestoredDatabase, BackupError> {
        let (roots, seal, accept_older) = (self.roots.to_vec(), Arc::clone(&self.seal), self.accept_older);
        let read =
            tokio::task::spawn_blocking(move || restore_sqlite(&roots, seal.as_ref(), &target, accept_older));
        let restored = read.await.map_err(|_| BackupError::Panicked)?;
        restored.map_err(|error| match error {
            SqlError::LogUnusable(what) => BackupError::Replicas { what },
            error => BackupError::Database(error),
        })
    }

    async fn check_and_mark(
        &self,
        database: &Database,
        restored: &RestoredDatabase,
    ) -> Result<Vec<String>, BackupError> {
        self.schema.check(database).await?;
        let mark = Restored {
            at_ms: self.now_ms,
            source: format!("replica {} at change {}", restored.from.display(), restored.sequence),
        };
        let metadata = Metadata::open(database.clone()).await?;
        let missing_keys = keys::missing(database, self.recovery_key, self.key_dir).await?;
        metadata.write(move |tx| adoption::note_restored(tx, &mark)).await?;
        Ok(missing_keys)
    }
}
