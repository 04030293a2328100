//! What can be wrong with a backup, each in one sentence for whoever typed the command.

use std::io;
use std::path::PathBuf;

use registry_blob::{BlobError, StoreError};
use registry_metadata::SqlError;
use registry_runtime::{KeyError, RecoveryError, StreamError};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum BackupError {
    #[error("{} exists already: name a new file", path.display())]
    OutputExists { path: PathBuf },
    #[error("{} is not empty: a restore needs an empty directory", path.display())]
    NotEmpty { path: PathBuf },
    /// Another process writes there.
    #[error("{} is in use by a server, or another backup or restore: wait for it", path.display())]
    Busy { path: PathBuf },
    /// Of the default key domain.
    #[error(
        "neither the recovery key nor key_dir has the key of epoch {epoch}, under which the content is sealed: give \
         the recovery key that was exported before this key was destroyed"
    )]
    KeyMissing { epoch: u32 },
    #[error("{} is not a backup of Berth", path.display())]
    NotBackup { path: PathBuf },
    /// Layout of a later release.
    #[error("the backup has format {found} of Berth {berth}, and this release knows only {supported}")]
    Newer { found: u32, berth: String, supported: u32 },
    /// Its database has a schema of a later release.
    #[error("the backup was made by Berth {berth}: {reason}")]
    Schema { berth: String, reason: SqlError },
    #[error("the backup {} cannot be opened: {reason}", path.display())]
    Sealed { path: PathBuf, reason: StreamError },
    /// The tags hold and the parts do not fit together.
    #[error("the backup is not whole: {what}")]
    Incomplete { what: String },
    #[error("the replicas do not give the database: {what}")]
    Replicas { what: String },
    #[error("{} cannot be read or written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the database cannot be read or written")]
    Database(#[source] SqlError),
    #[error("the rows of the database cannot be read")]
    Metadata(#[source] registry_metadata::Error),
    #[error("the content cannot be read or written")]
    Content(#[source] BlobError),
    #[error("a replica cannot be written")]
    Replica(#[source] StoreError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("a task ended by a panic")]
    Panicked,
}

impl BackupError {
    pub(super) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> BackupError {
        let path = path.to_owned();
        |source| BackupError::File { path, source }
    }
}

impl From<SqlError> for BackupError {
    fn from(error: SqlError) -> BackupError {
        BackupError::Database(error)
    }
}

impl From<registry_metadata::Error> for BackupError {
    fn from(error: registry_metadata::Error) -> BackupError {
        BackupError::Metadata(error)
    }
}

impl From<BlobError> for BackupError {
    fn from(error: BlobError) -> BackupError {
        BackupError::Content(error)
    }
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> BackupError {
        BackupError::Replica(error)
    }
}
