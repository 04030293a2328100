//! The change log: every committed group of a SQLite database, sealed, on the replicas of the content.
//!
//! A group is what was executed, statement by statement with its parameters, so that running it again on a
//! copy gives the same database. It is written to the replicas while SQLite commits it, and acknowledged when
//! both are durable, on the quorum. Now and then a whole copy of the database lets older changes go. Invariant:
//! what was acknowledged can be read from any `replicas - quorum + 1` of the replicas.
//!
//! Frames are numbered, and each names the one before it, so that a group which SQLite did not commit is told
//! from one that it did: the next frame skips it. Each start of a server begins new files under the next term.

mod chain;
mod files;
mod keeper;
mod log;
mod record;
mod replica;
mod restore;
mod shipped;
mod shipper;
mod standing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use files::{LOG_FOLDER, holds_change_log, is_snapshot};
pub(crate) use log::ChangeLog;
pub(crate) use log::note_unlogged;
pub(crate) use record::{Kind, Mark, Recording};
pub use restore::{LogSource, RestoredDatabase, restore_sqlite};

/// What a sealed file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// A whole copy of the database.
    Snapshot,
    /// Groups, one frame each.
    Changes,
}

/// Seals what goes to the replicas. The keys are the caller's.
pub trait LogSeal: Send + Sync {
    /// Length of a file's head in bytes.
    fn head_len(&self) -> usize;

    /// Begins a file: its head, and what seals its frames in their order.
    fn begin(&self, kind: LogFile) -> (Vec<u8>, Box<dyn FrameSeal>);

    /// What opens the frames of a file with this head.
    ///
    /// # Errors
    /// Says why the file is none of ours.
    fn open(&self, kind: LogFile, head: &[u8]) -> Result<Box<dyn FrameSeal>, String>;
}

/// Seals or opens the frames of one file, each in its place.
pub trait FrameSeal: Send {
    fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8>;

    /// `None` when it is not what was sealed at this place.
    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>>;
}

/// Whether a replica may be written: its disk is mounted, and it is the right one.
pub type ReplicaCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A replica that keeps the log.
#[derive(Clone)]
pub struct LogReplica {
    pub name: String,
    /// The replica's folder; the log lies in a folder of its own in it. For a remote one a folder here that is its
    /// own: what was not carried there yet.
    pub root: PathBuf,
    pub check: ReplicaCheck,
    /// Where a replica lies that is no folder of this machine. No group waits for it.
    pub remote: Option<Arc<dyn LogRemote>>,
}

/// A place elsewhere for the files of a log, each whole or not there. Every call blocks, for a bounded time.
pub trait LogRemote: Send + Sync {
    /// Where it is, as an operator writes it.
    fn location(&self) -> String;

    /// Stores a file, in the place of what had its name.
    ///
    /// # Errors
    /// Says what went wrong.
    fn put(&self, name: &str, file: &Path) -> Result<(), String>;

    /// The names of the files.
    ///
    /// # Errors
    /// Says what went wrong.
    fn list(&self) -> Result<Vec<String>, String>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// Says what went wrong.
    fn delete(&self, name: &str) -> Result<(), String>;
}

/// Where the log is kept.
#[derive(Clone)]
pub struct ChangeLogConfig {
    pub replicas: Vec<LogReplica>,
    /// How many of those here must hold a group before it is acknowledged; none where too few of all lie here.
    pub quorum: usize,
    pub seal: Arc<dyn LogSeal>,
    /// Bytes of changes after which a new copy of the database is written, if the database is not larger.
    pub snapshot_bytes: u64,
}

/// How the log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeLogStatus {
    /// Number of the last group.
    pub sequence: u64,
    pub quorum: usize,
    /// What the quorum does not hold; without one, what no replica holds.
    pub lag: Lag,
    pub replicas: Vec<ReplicaLogStatus>,
}

/// How far a place is behind the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Groups.
    pub changes: u64,
    /// Since the first of them was committed.
    pub age: Duration,
}

/// How it stands on one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLogStatus {
    pub name: String,
    /// It holds every group; otherwise a copy of the database is on its way there.
    pub in_sync: bool,
    /// What it has not confirmed.
    pub lag: Lag,
    /// What went wrong last, while it is not in sync.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests;
