//! The database of this server: a file of its own, or a PostgreSQL that several servers share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use registry_runtime::{KeyError, KeyProvider, LocalKeys, Secret};
use registry_sql::{ChangeLogConfig, Database};

use crate::config::Settings;

/// Where the metadata are, found but not yet written to.
pub(crate) struct Storage {
    place: Place,
    /// Whether this is the first start of the whole installation.
    pub(crate) is_first_start: bool,
}

enum Place {
    File(PathBuf),
    Server(Database),
}

impl Storage {
    /// Looks whether there is a database. A PostgreSQL must answer.
    pub(crate) async fn find(settings: &Settings) -> Result<Storage> {
        let Some(url) = &settings.config.database else {
            let path = settings.data.join("berth.db");
            let is_first_start = !path.exists();
            return Ok(Storage { place: Place::File(path), is_first_start });
        };
        let database = Database::open_postgres(url.expose()).await.context("cannot open the database")?;
        let is_first_start = database.is_new().await.context("cannot read the database")?;
        Ok(Storage { place: Place::Server(database), is_first_start })
    }

    /// The file of a database that was made before.
    pub(crate) fn existing_file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) if !self.is_first_start => Some(path),
            _ => None,
        }
    }

    /// Like [`Storage::find`], for commands that need an installation.
    pub(crate) async fn existing(settings: &Settings) -> Result<Storage> {
        let storage = Storage::find(settings).await?;
        if storage.is_first_start {
            let place = match &storage.place {
                Place::File(path) => path.display().to_string(),
                Place::Server(_) => "the database".to_owned(),
            };
            bail!("{place} holds nothing yet: `berth up` or `berth serve` fill it at their first start");
        }
        Ok(storage)
    }

    /// Opens it for serving: a file with its changes on the replicas, where these keep them.
    pub(crate) async fn open_logged(self, log: Option<ChangeLogConfig>) -> Result<Database> {
        match (self.place, log) {
            (Place::File(path), Some(log)) => Database::open_sqlite_logged(&path, log)
                .await
                .with_context(|| format!("cannot open {}", path.display())),
            (place, _) => Storage { place, is_first_start: self.is_first_start }.open().await,
        }
    }

    pub(crate) async fn open(self) -> Result<Database> {
        match self.place {
            Place::File(path) => {
                Database::open_sqlite(&path).await.with_context(|| format!("cannot open {}", path.display()))
            }
            Place::Server(database) => Ok(database),
        }
    }
}

/// Runs one step of a start. Of several servers that start for the first time at once, one may be in another's way for
/// a moment, after which it finds what the other has made.
pub(crate) async fn insist<T>(settings: &Settings, step: impl AsyncFn() -> Result<T>) -> Result<T> {
    let attempts = if settings.config.database.is_some() { 10 } else { 1 };
    for _ in 1..attempts {
        match step().await {
            Ok(made) => return Ok(made),
            Err(error) => {
                tracing::debug!(error = %format!("{error:#}"), "a step of the start is tried again")
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    step().await
}

/// The keys of an installation whose first start is over, on one of several servers: a secret made here alone
/// could be read nowhere else, so what is missing stays missing.
pub(crate) struct SharedKeys(pub(crate) LocalKeys);

impl KeyProvider for SharedKeys {
    fn secret(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.0.secret(domain, epoch)
    }

    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.0.secret(domain, epoch).map_err(|error| match error {
            KeyError::Missing { .. } => KeyError::NotShared { path: self.0.path(domain, epoch) },
            error => error,
        })
    }

    fn destroy(&self, domain: &str, epoch: u32) -> Result<(), KeyError> {
        self.0.destroy(domain, epoch)
    }
}
