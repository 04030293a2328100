//! Upkeep of the content: which replicas there are, repairing them, walking over everything, and what is found.
//!
//! What is to be done lies in metadata, so that a restart, or another server, goes on where this one stopped.
//! Invariant: nothing here deletes an object, but for `purge` at an operator's word, and what it deletes no
//! row names.

mod findings;
mod repairs;
mod replicas;
mod scrub;
mod status;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use registry_blob::{BlobStore, Marker, Pace, ReplicaId, StoreError};

use crate::error::CoreError;
use crate::registry::Registry;

pub use findings::Purged;
pub use registry_metadata::replicas::ReplicaState;
pub use registry_metadata::scrubs::{Finding, FindingKind, Scrub, ScrubState, Tally};
pub use replicas::{ReplicaError, initialize_replicas, numbered_replica, open_replicas};
pub use status::{ReplicaStatus, StoreStatus};
pub use watch::ReplicaWatch;

/// How long work belongs to the server that took it and has not said since that it goes on.
pub(crate) const TAKEN_FOR_MS: i64 = 30_000;
/// How often it says so.
pub(crate) const RENEWED_EACH: Duration = Duration::from_secs(10);

/// Where replicas can lie. Connected by whoever knows the configuration.
#[async_trait]
pub trait Places: Send + Sync {
    /// The location in the one way it is written down.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn resolve(&self, location: &str) -> Result<String, String>;

    /// The location with symbolic links followed as far as it is there; as it is where that cannot be told.
    async fn real(&self, location: &str) -> String {
        location.to_owned()
    }

    /// The id of this installation, as markers carry it.
    fn cluster(&self) -> &str;

    /// The marker that lies there, if any.
    async fn marker(&self, location: &str) -> Result<Option<Marker>, StoreError>;

    /// Makes an empty place the root of a new replica.
    async fn initialize(&self, location: &str, id: &ReplicaId) -> Result<(), StoreError>;

    /// A store over a place, which may be offline.
    fn open(&self, location: &str, id: &ReplicaId) -> Result<Arc<dyn BlobStore>, StoreError>;

    /// Keeps a small text beside a replica's objects, durably, in the place of what had its name.
    async fn keep_note(
        &self,
        location: &str,
        id: &ReplicaId,
        name: &str,
        text: Vec<u8>,
    ) -> Result<(), StoreError>;

    /// A text that was kept; `None` where there is none of that name.
    async fn note(&self, location: &str, id: &ReplicaId, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Does work that was taken, which may go on for hours, and takes it anew for as long as it goes on. So what a server
/// that ended leaves is soon another's, or its own after a restart.
pub(crate) async fn renewing<T, F>(work: impl Future<Output = T>, renew: impl Fn() -> F) -> T
where
    F: Future<Output = Result<(), CoreError>>,
{
    let keep = async {
        loop {
            tokio::time::sleep(RENEWED_EACH).await;
            if let Err(error) = renew().await {
                tracing::warn!(%error, "work that goes on could not be kept: another may do it too");
            }
        }
    };
    tokio::select! {
        done = work => done,
        never = keep => never,
    }
}

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct UpkeepConfig {
    /// How many replicas must hold an object before it counts as written; `None`: a majority.
    pub write_quorum: Option<usize>,
    /// How fast scrub reads, bytes a second over all replicas; 0 is no bound.
    pub scrub_rate: u64,
    /// From the beginning of one walk to that of the next, milliseconds; 0: only when asked.
    pub scrub_interval_ms: i64,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self { write_quorum: None, scrub_rate: 32 << 20, scrub_interval_ms: 30 * 24 * 3_600_000 }
    }
}

/// Upkeep of one registry's content. Cheap to clone.
#[derive(Clone)]
pub struct Upkeep {
    registry: Registry,
    places: Arc<dyn Places>,
    config: UpkeepConfig,
    scrub_pace: Arc<Pace>,
    /// The replicas that the content store works with.
    loaded: Arc<Mutex<Vec<replicas::Loaded>>>,
    /// Copies that were made and not told of yet.
    made: Arc<Mutex<HashMap<String, repairs::Made>>>,
}

impl Upkeep {
    pub fn new(registry: Registry, places: Arc<dyn Places>, config: UpkeepConfig) -> Self {
        let scrub_pace = Arc::new(Pace::new(config.scrub_rate));
        Self { registry, places, config, scrub_pace, loaded: Arc::default(), made: Arc::default() }
    }

    /// Ids and locations of the replicas that are in use.
    pub fn replica_locations(&self) -> Vec<(String, String)> {
        self.loaded.lock().iter().map(replicas::Loaded::place).collect()
    }

    /// Where the replicas lie.
    pub fn places(&self) -> &Arc<dyn Places> {
        &self.places
    }
}

/// A store's error with what the system said of it.
fn told(error: &StoreError) -> String {
    match error {
        StoreError::Io(system) => format!("{error}: {system}"),
        other => other.to_string(),
    }
}
