//! Backup and restore: everything but the keys in one sealed file, and back onto an empty directory.
//!
//! A backup is one moment of the database and every object that it names. Objects never change, so they are
//! copied while the server serves; only their deletion is held up. Invariant: a restore makes nothing live
//! before all of it has been read, opened and checked.

mod archive;
mod changes;
mod create;
mod error;
mod keys;
mod restore;
mod staging;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use changes::{RestoreChanges, RestoredChanges};
pub use create::{BackupReport, NewBackup};
pub use error::BackupError;
pub use restore::{Restore, RestoreReport, SchemaCheck};

/// Layout of what is inside the sealed stream. A newer one is refused.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "berth.db";
const POLICIES: &str = "policies/";
/// What a server locks in its data directory.
const LOCK: &str = "lock";
/// Where a restore gathers what it reads.
const RESTORING: &str = ".restore";
/// There once all of that was checked: what it is of. From then on it is only given its places.
const CHECKED: &str = "checked.json";
/// Files of the data directory that are kept beside the database, where they are there, and what they are called
/// after a restore: what is restored begins an audit log of its own, because the metadata may be older than the
/// last lines of the old one.
const BESIDE: [(&str, &str); 2] = [("credentials", "credentials"), ("audit.log", "audit.log.restored")];

/// The first file of a backup: what it is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupManifest {
    pub format: u32,
    /// Release that wrote it.
    pub berth: String,
    pub installation: String,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    pub account_id: String,
    pub region: String,
    /// Version of each namespace of the database.
    pub schemas: std::collections::BTreeMap<String, u32>,
    /// Objects that the database names, and their bytes.
    pub objects: u64,
    pub object_bytes: u64,
}

/// How far it is; told often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    pub done_bytes: u64,
    /// 0 when it is not known.
    pub total_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Database,
    Content,
    Checking,
}

/// Told of progress, from the task that works.
pub type Report<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Whether a restore into this data directory is under way, or ended before it was whole: no installation yet, and
/// nowhere to begin one.
pub fn is_half_restored(data: &Path) -> bool {
    data.join(RESTORING).exists() && !data.join(DATABASE).exists()
}
