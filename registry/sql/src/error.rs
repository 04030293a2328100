//! What can go wrong with the database, told apart by what a caller can do about it.
//!
//! The engine's own error is kept as the source and never shown to a client. Invariant: whatever the variant but
//! [`Error::OutcomeUnknown`] and [`Error::NotReplicated`], nothing of the failed closure was stored.

use std::sync::Arc;

/// The engine's own error, kept for the log.
pub(crate) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Which promise of the schema a change would have broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstraintKind {
    Unique,
    ForeignKey,
    Other,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No space on the disk that holds the database. Works again when there is.
    #[error("the disk that holds the database is full")]
    Full(#[source] Cause),
    /// A constraint of the schema refused the change.
    #[error("a constraint of the database refused the change")]
    Constraint {
        kind: ConstraintKind,
        #[source]
        source: Cause,
    },
    /// Another process kept the database locked for longer than the busy timeout.
    #[error("the database is locked by another process")]
    Busy(#[source] Cause),
    /// The database server cannot be reached, or is starting or stopping. Nothing was stored; may pass.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Cause),
    /// The connection broke after the commit was asked for and before it was confirmed: the change is stored
    /// whole or not at all, and nobody here knows which. The closure was not run again, because it may have
    /// taken effect; whoever keeps a copy of what is stored must read it anew.
    #[error("the connection to the database broke during a commit, whose outcome is unknown")]
    OutcomeUnknown(#[source] Cause),
    /// The address of the database is not one that can be used; the text says why, without the password.
    #[error("{0}")]
    Address(String),
    /// The operating system failed to read or write the file; may pass.
    #[error("the database file could not be read or written")]
    Io(#[source] Cause),
    /// A sync of the file failed, so that nobody knows what is on the disk. The database takes no more writes
    /// until it is opened anew: a later sync that succeeds proves nothing.
    #[error("the database could not be made durable, and takes no changes until the server is restarted")]
    NotDurable,
    /// The file is not a database, or is damaged.
    #[error("the database file is damaged")]
    Corrupt(#[source] Cause),
    /// The statement itself is wrong, or was given the wrong parameters: a bug of the caller.
    #[error("the database refused a statement")]
    Statement(#[source] Cause),
    /// `query_one` found no row, or more than one.
    #[error("expected exactly one row, found {found}")]
    NotOneRow { found: usize },
    /// A column was read as something it is not.
    #[error("column {index} was read as {expected} and holds {found}")]
    Column { index: usize, expected: &'static str, found: &'static str },
    /// What must commit together with the change cannot be written; may pass.
    #[error("what must be recorded with the change cannot be recorded")]
    Companion(#[source] Cause),
    /// An earlier statement of this transaction failed; nothing more can be done in it.
    #[error("an earlier statement of the transaction failed")]
    Spoiled,
    /// The database holds a schema that a newer release made.
    #[error(
        "the database has schema version {found} of `{namespace}`, and this release knows only {supported}"
    )]
    SchemaNewer { namespace: &'static str, found: u32, supported: u32 },
    /// A migration that was applied is not the one this release holds: migrations are append-only.
    #[error("migration {version} of `{namespace}` was applied with other text")]
    SchemaChanged { namespace: &'static str, version: u32 },
    /// The numbers of the given migrations are not 1, 2, 3 …
    #[error("the migrations of `{namespace}` are not numbered 1, 2, 3 …")]
    SchemaNumbering { namespace: &'static str },
    /// The snapshot that must precede a migration could not be written; nothing was migrated.
    #[error("the snapshot before the migration could not be written")]
    Snapshot(#[source] Arc<std::io::Error>),
    /// The file could not be created or opened.
    #[error("the database file could not be opened")]
    Open(#[source] Arc<std::io::Error>),
    /// Too few replicas hold the change, or could take it. It may have been made all the same, as after an
    /// answer that was lost.
    #[error("too few replicas hold the change")]
    NotReplicated,
    /// A replica knows more than the database: an older copy of it was put back.
    #[error(
        "replica {replica} holds changes that are newer than this database: bring them back with `berth restore \
         --from-replica`, or, to go on from here without them, remove the folder `database` of every replica"
    )]
    LogNewer { replica: String },
    /// What the replicas hold does not give a database.
    #[error("{0}")]
    LogUnusable(String),
    /// The closure panicked.
    #[error("a database closure panicked")]
    Panicked,
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// What a [`crate::Companion`] refuses a change with.
    pub fn companion(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Companion(Arc::new(cause))
    }

    /// Whether a unique or primary key constraint refused the change.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Error::Constraint { kind: ConstraintKind::Unique, .. })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        use rusqlite::ffi;
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            return Error::Statement(Arc::new(error));
        };
        let (code, extended) = (failure.code, failure.extended_code);
        let cause: Cause = Arc::new(error);
        match code {
            ffi::ErrorCode::DiskFull => Error::Full(cause),
            ffi::ErrorCode::ConstraintViolation => Error::Constraint {
                kind: match extended {
                    ffi::SQLITE_CONSTRAINT_UNIQUE
                    | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                    | ffi::SQLITE_CONSTRAINT_ROWID => ConstraintKind::Unique,
                    ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ConstraintKind::ForeignKey,
                    _ => ConstraintKind::Other,
                },
                source: cause,
            },
            ffi::ErrorCode::DatabaseBusy | ffi::ErrorCode::DatabaseLocked => Error::Busy(cause),
            ffi::ErrorCode::SystemIoFailure => match extended {
                ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => Error::NotDurable,
                _ => Error::Io(cause),
            },
            ffi::ErrorCode::CannotOpen | ffi::ErrorCode::ReadOnly | ffi::ErrorCode::OutOfMemory => {
                Error::Io(cause)
            }
            ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase => Error::Corrupt(cause),
            _ => Error::Statement(cause),
        }
    }
}
