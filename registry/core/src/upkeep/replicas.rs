//! Replicas: added, drained and removed while serving.
//!
//! The rows say which there are; every server follows them within a second. A location in the configuration
//! that no row knows is added at start, as by the command; nothing is ever removed but by the command.

use std::sync::Arc;

use registry_blob::{BlobStore, QuorumError, ReplicaId, Replicated, StoreError};
use registry_metadata::replicas::{self, ReplicaRow, ReplicaState};
use registry_metadata::{Metadata, blobs, garbage, repairs};
use thiserror::Error;

use super::{Places, Upkeep};
use crate::error::CoreError;

/// Repairs of a new replica that are queued at a time, at most.
const QUEUED_AT_ONCE: u32 = 2000;
/// Rows of one transaction.
const BATCH: u32 = 500;

/// Why replicas cannot be as somebody wants them.
#[derive(Debug, Error)]
pub enum ReplicaError {
    #[error("{0}")]
    Location(String),
    #[error("{location} cannot be used")]
    Store {
        location: String,
        #[source]
        source: StoreError,
    },
    #[error("{location} belongs to another installation")]
    OtherInstallation { location: String },
    #[error("{location} is replica {id} already")]
    InUse { location: String, id: String },
    /// A copied root, or a disk that is mounted twice.
    #[error("{location} carries the marker of replica {id}, which still answers at {other}")]
    Twice { location: String, id: String, other: String },
    #[error("there is no replica {0}")]
    Unknown(String),
    #[error("replica {id} is {state}", state = state.as_str())]
    State { id: String, state: ReplicaState },
    /// The other replicas do not hold everything yet.
    #[error("the other replicas do not hold everything yet: {owed} repairs or a backfill are open")]
    LastCopies { owed: u64 },
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// A replica that the content store works with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    id: String,
    location: String,
    state: ReplicaState,
}

impl Loaded {
    fn of(row: &ReplicaRow) -> Option<Self> {
        let location = row.location.clone().filter(|_| row.state != ReplicaState::Removed)?;
        Some(Self { id: row.id.clone(), location, state: row.state })
    }

    /// Id and location.
    pub(super) fn place(&self) -> (String, String) {
        (self.id.clone(), self.location.clone())
    }
}

/// Makes the places of a new installation the roots of its replicas, before there is a database: whoever finds
/// one later finds these too, or knows that they are lost.
///
/// # Errors
/// When replicas and write quorum do not go together, and nothing is made then; when a location cannot be used.
pub async fn initialize_replicas(
    places: &dyn Places,
    wanted: &[String],
    write_quorum: Option<usize>,
) -> Result<(), ReplicaError> {
    let wanted = resolve(places, wanted)?;
    check_quorum(wanted.len(), write_quorum)?;
    for (number, location) in wanted.into_iter().enumerate() {
        let initialized = places.initialize(&location, &numbered(number)).await;
        initialized.map_err(|source| ReplicaError::Store { location, source })?;
    }
    Ok(())
}

/// Opens the replicas of an installation at its start. `wanted` is what the configuration names: these are the
/// replicas when there is no row yet, and later those that no row knows are added.
///
/// # Errors
/// When a location cannot be used, or replicas and write quorum do not go together.
pub async fn open_replicas(
    metadata: &Metadata,
    places: &dyn Places,
    wanted: &[String],
    write_quorum: Option<usize>,
    now_ms: i64,
) -> Result<Replicated, ReplicaError> {
    let wanted = resolve(places, wanted)?;
    let mut rows = read_rows(metadata).await?;
    if rows.is_empty() {
        check_quorum(wanted.len(), write_quorum)?;
        let first = wanted.clone();
        metadata
            .write(move |tx| {
                for (number, location) in first.iter().enumerate() {
                    replicas::insert(tx, numbered(number).as_str(), location, false, now_ms)?;
                }
                Ok::<_, CoreError>(())
            })
            .await?;
        rows = read_rows(metadata).await?;
    }
    for location in &wanted {
        if rows.iter().any(|row| row.location.as_ref() == Some(location)) {
            continue;
        }
        let failed = |source| ReplicaError::Store { location: location.clone(), source };
        let marker = places.marker(location).await.map_err(failed)?;
        let removed = |row: &&ReplicaRow| {
            row.state == ReplicaState::Removed && marker.as_ref().is_some_and(|found| found.replica == row.id)
        };
        if let Some(row) = rows.iter().find(removed) {
            tracing::warn!(
                replica.id = %row.id,
                replica.location = %location,
                "the configuration names a replica that was removed; `berth store replica add` takes it back"
            );
            continue;
        }
        let active = rows.iter().filter(|row| row.state == ReplicaState::Active).count();
        check_quorum(active + 1, write_quorum)?;
        let id = admit(metadata, places, &rows, location, now_ms).await?;
        tracing::info!(replica.id = %id, replica.location = %location, "a replica was added");
        rows = read_rows(metadata).await?;
    }
    for row in &rows {
        if let Some(location) = &row.location
            && !wanted.contains(location)
        {
            tracing::warn!(
                replica.id = %row.id,
                replica.location = %location,
                "a replica in use does not stand in the configuration; it stays until `berth store replica remove`"
            );
        }
    }
    let loaded: Vec<Loaded> = rows.iter().filter_map(Loaded::of).collect();
    build(places, &loaded, write_quorum, None)
}

fn resolve(places: &dyn Places, wanted: &[String]) -> Result<Vec<String>, ReplicaError> {
    wanted.iter().map(|location| places.resolve(location).map_err(ReplicaError::Location)).collect()
}

/// The id of the first replicas, by their place in the configuration.
fn numbered(number: usize) -> ReplicaId {
    ReplicaId::new(&format!("replica{number}"))
}

/// Makes a location a replica's: a new one's, or that of one that carries our marker. Gives its id.
async fn admit(
    metadata: &Metadata,
    places: &dyn Places,
    rows: &[ReplicaRow],
    location: &str,
    now_ms: i64,
) -> Result<String, ReplicaError> {
    let failed = |source| ReplicaError::Store { location: location.to_owned(), source };
    let marker = places.marker(location).await.map_err(failed)?;
    if marker.as_ref().is_some_and(|marker| marker.cluster != places.cluster()) {
        return Err(ReplicaError::OtherInstallation { location: location.to_owned() });
    }
    let id = match &marker {
        Some(marker) => marker.replica.clone(),
        None => {
            // Rows are never deleted, so that no id is given twice.
            numbered(rows.len()).as_str().to_owned()
        }
    };
    let known = rows.iter().find(|row| row.id == id);
    if let Some(row) = known
        && row.state != ReplicaState::Removed
        && let Some(other) = &row.location
    {
        let there = places.open(other, &ReplicaId::new(&id)).map_err(failed)?;
        if there.probe().await.is_ok() {
            let (location, other) = (location.to_owned(), other.clone());
            return Err(ReplicaError::Twice { location, id, other });
        }
    }
    // Also where the marker lies already: it may have been cut short before its folders were there.
    places.initialize(location, &ReplicaId::new(&id)).await.map_err(failed)?;
    let state = known.map(|row| row.state);
    let (of_row, location) = (id.clone(), location.to_owned());
    metadata
        .write(move |tx| {
            match state {
                None => replicas::insert(tx, &of_row, &location, true, now_ms)?,
                Some(ReplicaState::Removed) => replicas::revive(tx, &of_row, &location, now_ms)?,
                Some(_) => replicas::relocate(tx, &of_row, &location, now_ms)?,
            }
            Ok::<_, CoreError>(())
        })
        .await?;
    Ok(id)
}

async fn read_rows(metadata: &Metadata) -> Result<Vec<ReplicaRow>, CoreError> {
    metadata.read(|tx| Ok(replicas::all(tx)?)).await
}

/// Whether so many replicas can be written with that quorum.
fn check_quorum(active: usize, write_quorum: Option<usize>) -> Result<(), QuorumError> {
    Replicated::quorum_of(active, write_quorum).map(drop)
}

/// The set of the loaded replicas; stores that `current` has open for the same id are used again.
fn build(
    places: &dyn Places,
    loaded: &[Loaded],
    write_quorum: Option<usize>,
    current: Option<(&Replicated, &[Loaded])>,
) -> Result<Replicated, ReplicaError> {
    let (mut written, mut drained) = (Vec::new(), Vec::new());
    for replica in loaded {
        let id = ReplicaId::new(&replica.id);
        let same = |(_, before): &(&Replicated, &[Loaded])| {
            before.iter().any(|one| one.id == replica.id && one.location == replica.location)
        };
        let open = current.filter(same).and_then(|(set, _)| set.store(&id).cloned());
        let store: Arc<dyn BlobStore> = match open {
            Some(store) => store,
            None => places
                .open(&replica.location, &id)
                .map_err(|source| ReplicaError::Store { location: replica.location.clone(), source })?,
        };
        match replica.state {
            ReplicaState::Draining => drained.push((id, store)),
            _ => written.push((id, store)),
        }
    }
    Ok(Replicated::new(written, write_quorum)?.with_drained(drained)?)
}

impl Upkeep {
    /// Adds replicas: an empty place, a removed replica that comes back, or one that has moved. They are
    /// written from now on, and filled in the background. Gives their ids.
    ///
    /// # Errors
    /// Nothing changes for the locations after the one that cannot be used.
    pub async fn add_replicas(&self, wanted: &[String]) -> Result<Vec<String>, ReplicaError> {
        let metadata = &self.registry.inner.metadata;
        let mut rows = read_rows(metadata).await?;
        let locations = resolve(self.places.as_ref(), wanted)?;
        for location in &locations {
            if let Some(row) = rows.iter().find(|row| row.location.as_ref() == Some(location)) {
                return Err(ReplicaError::InUse { location: location.clone(), id: row.id.clone() });
            }
        }
        let active = rows.iter().filter(|row| row.state == ReplicaState::Active).count();
        check_quorum(active + locations.len(), self.config.write_quorum)?;
        let mut ids = Vec::new();
        for location in locations {
            let now_ms = self.registry.now_ms();
            ids.push(admit(metadata, self.places.as_ref(), &rows, &location, now_ms).await?);
            rows = read_rows(metadata).await?;
        }
        self.sync_replicas().await?;
        Ok(ids)
    }

    /// Writes a replica no more; it is still read.
    ///
    /// # Errors
    /// When too few would be left for the write quorum.
    pub async fn drain_replica(&self, id: &str) -> Result<(), ReplicaError> {
        self.leave(id, ReplicaState::Draining, false).await
    }

    /// Uses a replica no more. Its objects stay where they are. Refused while the others do not hold
    /// everything, unless `force`.
    ///
    /// # Errors
    /// When too few would be left for the write quorum, or the last copy of something could be there.
    pub async fn remove_replica(&self, id: &str, force: bool) -> Result<(), ReplicaError> {
        self.leave(id, ReplicaState::Removed, force).await
    }

    async fn leave(&self, id: &str, to: ReplicaState, force: bool) -> Result<(), ReplicaError> {
        let (id, now_ms) = (id.to_owned(), self.registry.now_ms());
        let write_quorum = self.config.write_quorum;
        let changed = self.registry.inner.metadata.write(move |tx| {
            // The inner result is the answer; the outer one what undoes the transaction.
            let rows = replicas::all(tx)?;
            let Some(row) = rows.iter().find(|row| row.id == id) else {
                return Ok(Err(ReplicaError::Unknown(id.clone())));
            };
            if row.state == ReplicaState::Removed || row.state == to {
                return Ok(Err(ReplicaError::State { id: id.clone(), state: row.state }));
            }
            let stays = |row: &&ReplicaRow| row.state == ReplicaState::Active && row.id != id;
            let others: Vec<&ReplicaRow> = rows.iter().filter(stays).collect();
            if let Err(error) = check_quorum(others.len(), write_quorum) {
                return Ok(Err(error.into()));
            }
            if to == ReplicaState::Removed && !force {
                let mut owed = 0;
                for other in others {
                    owed += repairs::count(tx, &other.id, QUEUED_AT_ONCE)?;
                    owed += u64::from(other.backfill_after.is_some());
                }
                if owed > 0 {
                    return Ok(Err(ReplicaError::LastCopies { owed }));
                }
            }
            replicas::set_state(tx, &id, to, now_ms)?;
            Ok::<_, CoreError>(Ok(()))
        });
        changed.await??;
        self.sync_replicas().await
    }

    /// Lets the content store work with the replicas that the rows say.
    ///
    /// # Errors
    /// When the rows cannot be read, or a store cannot be made; the set in use stays.
    pub async fn sync_replicas(&self) -> Result<(), ReplicaError> {
        let rows = read_rows(&self.registry.inner.metadata).await?;
        let wanted: Vec<Loaded> = rows.iter().filter_map(Loaded::of).collect();
        let before = self.loaded.lock().clone();
        if wanted == before {
            return Ok(());
        }
        let content = &self.registry.inner.content;
        let set = content.replicas();
        let next =
            build(self.places.as_ref(), &wanted, self.config.write_quorum, Some((&set, before.as_slice())))?;
        content.set_replicas(next);
        *self.loaded.lock() = wanted;
        Ok(())
    }

    /// Queues repairs for replicas that were added, and drops those of replicas that are gone. True while
    /// there is more to do.
    pub(super) async fn backfill(&self) -> Result<bool, CoreError> {
        let metadata = &self.registry.inner.metadata;
        let mut more = false;
        for row in read_rows(metadata).await? {
            let now_ms = self.registry.now_ms();
            let id = row.id;
            if row.state == ReplicaState::Removed {
                more |= metadata
                    .write(move |tx| {
                        Ok::<_, registry_metadata::Error>(
                            repairs::drop_of(tx, &id, BATCH)? + garbage::drop_removals(tx, &id, BATCH)?,
                        )
                    })
                    .await
                    .map_err(CoreError::from)?
                    > 0;
                continue;
            }
            let Some(after) = row.backfill_after else { continue };
            more |= metadata
                .write(move |tx| {
                    if repairs::count(tx, &id, QUEUED_AT_ONCE)? >= u64::from(QUEUED_AT_ONCE) {
                        return Ok::<_, CoreError>(false);
                    }
                    let page = blobs::objects_after(tx, &after, BATCH)?;
                    for object in &page {
                        let (domain, digest) = (&object.domain, &object.digest);
                        repairs::put(tx, &object.key.file_id, &id, domain, digest, now_ms)?;
                    }
                    let last = page.last().filter(|_| page.len() == BATCH as usize);
                    replicas::set_backfill(tx, &id, last.map(|object| &object.key.file_id[..]))?;
                    Ok(last.is_some())
                })
                .await?;
        }
        Ok(more)
    }
}
