//! Replicas: added, drained and removed while serving.
//!
//! The rows say which there are; every server follows them within a second. A location in the configuration
//! that no row knows is added at start, as by the command; nothing is ever removed but by the command.
//!
//! Invariant: several places become replicas all at once or not at all. An id that a marker may carry is in a row
//! before, so that a place whose taking in broke off can be taken in later.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use registry_blob::{BlobStore, QuorumError, ReplicaId, Replicated, StoreError};
use registry_metadata::replicas::{self, ReplicaRow, ReplicaState};
use registry_metadata::{Error, Metadata, blobs, garbage, repairs};
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
    #[error("{location} and {other} are one place: two copies there would be lost together")]
    Same { location: String, other: String },
    #[error("{inner} lies inside {outer}: two copies there would be lost together")]
    Inside { inner: String, outer: String },
    /// Somebody else changed the replicas at the same moment.
    #[error("the replicas were changed meanwhile: try again")]
    Meanwhile,
    #[error("there is no replica {0}")]
    Unknown(String),
    #[error("replica {id} is {state}", state = state.as_str())]
    State { id: String, state: ReplicaState },
    /// The other replicas do not hold everything yet.
    #[error("the other replicas do not hold everything yet: {owed} repairs or a backfill are open")]
    LastCopies { owed: u64 },
    #[error("{count}: {why}{instead}")]
    Quorum { count: Counted, why: QuorumError, instead: &'static str },
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// The replicas that do not go together with the write quorum.
#[derive(Debug)]
pub enum Counted {
    Configured(usize),
    /// After some were added.
    With(usize),
    /// After one left.
    Left(usize),
    /// As the rows say.
    InUse(Vec<String>),
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: &usize| if *count == 1 { "" } else { "s" };
        match self {
            Self::Configured(count) => {
                write!(f, "the configuration names {count} replica{}", plural(count))
            }
            Self::With(count) => write!(f, "{count} replica{} would be in use", plural(count)),
            Self::Left(count) => write!(f, "{count} replica{} would be left", plural(count)),
            Self::InUse(which) => write!(f, "the replicas in use are {}", which.join(", ")),
        }
    }
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
        Some(Self { id: row.id.clone(), location: row.location.clone()?, state: row.state })
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
/// When replicas and write quorum do not go together, or one place lies in another, and nothing is made then; when
/// a location cannot be used.
pub async fn initialize_replicas(
    places: &dyn Places,
    wanted: &[String],
    write_quorum: Option<usize>,
) -> Result<(), ReplicaError> {
    let wanted = resolve(places, wanted)?;
    check_configured(wanted.len(), write_quorum)?;
    let known: Vec<Whose> = wanted.iter().map(|location| Whose { location, id: None }).collect();
    keep_apart(places, 0, &known).await?;
    for (number, location) in wanted.into_iter().enumerate() {
        let initialized = places.initialize(&location, &numbered_replica(number)).await;
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
        check_configured(wanted.len(), write_quorum)?;
        let first = wanted.clone();
        metadata
            .write(move |tx| {
                for (number, location) in first.iter().enumerate() {
                    replicas::insert(tx, numbered_replica(number).as_str(), location, false, now_ms)?;
                }
                Ok::<_, CoreError>(())
            })
            .await?;
        rows = read_rows(metadata).await?;
    }
    let mut new = Vec::new();
    for location in &wanted {
        if rows.iter().any(|row| row.location.as_ref() == Some(location)) {
            continue;
        }
        // First by where it lay: the disk may be gone, and a folder in its place would fill another.
        let removed = match rows.iter().find(|row| row.left.as_ref() == Some(location)) {
            Some(row) => Some(row),
            None => {
                let failed = |source| ReplicaError::Store { location: location.clone(), source };
                let marker = places.marker(location).await.map_err(failed)?;
                marker.and_then(|marker| {
                    rows.iter().find(|row| row.state == ReplicaState::Removed && row.id == marker.replica)
                })
            }
        };
        if let Some(row) = removed {
            tracing::warn!(
                replica.id = %row.id,
                replica.location = %location,
                "the configuration names a replica that was removed: it stays out until `berth store replica add`"
            );
            continue;
        }
        new.push(location.clone());
    }
    if !new.is_empty() {
        let ids = take_in(metadata, places, &new, write_quorum, now_ms).await?;
        for (id, location) in ids.iter().zip(&new) {
            tracing::info!(replica.id = %id, replica.location = %location, "a replica was added");
        }
        rows = read_rows(metadata).await?;
    }
    warn_of_rows(places, &rows, &wanted).await;
    let loaded: Vec<Loaded> = rows.iter().filter_map(Loaded::of).collect();
    build(places, &loaded, write_quorum, None)
}

/// Tells of replicas in use that nobody would set up today.
async fn warn_of_rows(places: &dyn Places, rows: &[ReplicaRow], wanted: &[String]) {
    for row in rows {
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
    let known: Vec<Whose> = rows.iter().filter_map(Whose::of).collect();
    if let Err(error) = keep_apart(places, 0, &known).await {
        tracing::warn!(error = %error, "replicas are not independent of each other");
    }
}

fn resolve(places: &dyn Places, wanted: &[String]) -> Result<Vec<String>, ReplicaError> {
    wanted.iter().map(|location| places.resolve(location).map_err(ReplicaError::Location)).collect()
}

/// The id of the first replicas, by their place in the configuration.
pub fn numbered_replica(number: usize) -> ReplicaId {
    ReplicaId::new(&format!("replica{number}"))
}

/// A place and the replica that lies there, if it is one.
struct Whose<'a> {
    location: &'a str,
    id: Option<&'a str>,
}

impl<'a> Whose<'a> {
    fn of(row: &'a ReplicaRow) -> Option<Self> {
        Some(Self { location: row.location.as_deref()?, id: Some(&row.id) })
    }

    fn is_same_replica(&self, other: &Self) -> bool {
        self.id.is_some() && self.id == other.id
    }
}

/// Refuses places that are one, and folders inside of others: with one disk all of them would be gone. Buckets are
/// told apart by their names, which may be of several services. The first `settled` of them are as they are: they are
/// compared with the others alone.
async fn keep_apart(places: &dyn Places, settled: usize, known: &[Whose<'_>]) -> Result<(), ReplicaError> {
    let real = join_all(known.iter().map(|one| places.real(one.location))).await;
    for (at, one) in known.iter().enumerate().skip(settled) {
        for (before, other) in known[..at].iter().enumerate() {
            if one.is_same_replica(other) {
                continue;
            }
            let (here, there) = (Path::new(&real[at]), Path::new(&real[before]));
            let inside = |inner: &Whose<'_>, outer: &Whose<'_>| {
                let (inner, outer) = (inner.location.to_owned(), outer.location.to_owned());
                Err(ReplicaError::Inside { inner, outer })
            };
            if here == there {
                let (location, other) = (one.location.to_owned(), other.location.to_owned());
                return Err(ReplicaError::Same { location, other });
            }
            if here.is_absolute() && here.starts_with(there) {
                return inside(one, other);
            }
            if there.is_absolute() && there.starts_with(here) {
                return inside(other, one);
            }
        }
    }
    Ok(())
}

/// A place that is to be a replica.
#[derive(Clone)]
struct Planned {
    location: String,
    id: String,
    /// The state of the row of that id; without a row, the marker names a replica that the database forgot.
    state: Option<ReplicaState>,
    /// The place is empty and gets a marker with an id that no other has.
    is_new: bool,
}

impl Planned {
    fn adds_one(&self) -> bool {
        !matches!(self.state, Some(ReplicaState::Active | ReplicaState::Draining))
    }
}

/// Makes places replicas: new ones, or those that carry our marker. Gives their ids.
///
/// # Errors
/// None of them is one then.
async fn take_in(
    metadata: &Metadata,
    places: &dyn Places,
    locations: &[String],
    write_quorum: Option<usize>,
    now_ms: i64,
) -> Result<Vec<String>, ReplicaError> {
    let rows = read_rows(metadata).await?;
    let named: Vec<Whose> = locations.iter().map(|location| Whose { location, id: None }).collect();
    keep_apart(places, 0, &named).await?;
    let mut planned = Vec::new();
    for location in locations {
        planned.push(plan(places, &rows, &planned, location).await?);
    }
    let in_use = rows.iter().filter_map(Whose::of);
    let wanted = planned.iter().map(|one| Whose { location: &one.location, id: Some(&one.id) });
    let known: Vec<Whose> = in_use.chain(wanted).collect();
    // What lies as it does already is only warned of, at the start.
    keep_apart(places, known.len() - planned.len(), &known).await?;
    check_with(&rows, &planned, write_quorum)?;

    let reserved = planned.clone();
    let reserving = metadata.write(move |tx| {
        for one in reserved.iter().filter(|one| one.is_new) {
            replicas::reserve(tx, &one.id, now_ms)?;
        }
        Ok::<_, CoreError>(())
    });
    reserving.await?;
    let taken = make(metadata, places, &planned, write_quorum, now_ms).await;
    if taken.is_err() {
        release(metadata, places, &planned).await;
    }
    taken?;
    Ok(planned.into_iter().map(|one| one.id).collect())
}

/// Whose a place is, or is to be.
async fn plan(
    places: &dyn Places,
    rows: &[ReplicaRow],
    planned: &[Planned],
    location: &str,
) -> Result<Planned, ReplicaError> {
    let location = location.to_owned();
    let failed = |source| ReplicaError::Store { location: location.clone(), source };
    let marker = places.marker(&location).await.map_err(failed)?;
    if marker.as_ref().is_some_and(|marker| marker.cluster != places.cluster()) {
        return Err(ReplicaError::OtherInstallation { location });
    }
    if let Some(row) = rows.iter().find(|row| row.location.as_ref() == Some(&location)) {
        // An empty disk in the place of a lost one.
        if marker.is_none() && row.state == ReplicaState::Active {
            return Ok(Planned { location, id: row.id.clone(), state: Some(row.state), is_new: false });
        }
        return Err(ReplicaError::InUse { location, id: row.id.clone() });
    }
    let Some(marker) = marker else {
        let taken = |id: &str| {
            rows.iter().any(|row| row.id == id) || planned.iter().any(|one: &Planned| one.id == id)
        };
        let free = (rows.len()..).map(numbered_replica).find(|id| !taken(id.as_str()));
        let id = free.expect("numbers have no end").as_str().to_owned();
        return Ok(Planned { location, id, state: Some(ReplicaState::Reserved), is_new: true });
    };
    let id = marker.replica;
    if let Some(other) = planned.iter().find(|one| one.id == id) {
        return Err(ReplicaError::Twice { location, id, other: other.location.clone() });
    }
    let row = rows.iter().find(|row| row.id == id);
    if let Some(other) = row.and_then(|row| row.location.as_ref()) {
        let there = places.open(other, &ReplicaId::new(&id)).map_err(failed)?;
        if there.probe().await.is_ok() {
            return Err(ReplicaError::Twice { location, id, other: other.clone() });
        }
    }
    Ok(Planned { location, id, state: row.map(|row| row.state), is_new: false })
}

/// Makes what was planned the roots of replicas, and then replicas.
async fn make(
    metadata: &Metadata,
    places: &dyn Places,
    planned: &[Planned],
    write_quorum: Option<usize>,
    now_ms: i64,
) -> Result<(), ReplicaError> {
    for one in planned {
        // Also where the marker lies already: it may have been cut short before its folders were there.
        let made = places.initialize(&one.location, &ReplicaId::new(&one.id)).await;
        made.map_err(|source| ReplicaError::Store { location: one.location.clone(), source })?;
    }
    let planned = planned.to_vec();
    let taken = metadata.write(move |tx| {
        // The inner result is the answer; the outer one what undoes the transaction.
        let rows = replicas::all(tx)?;
        for one in &planned {
            let is_as_planned = rows.iter().find(|row| row.id == one.id).map(|row| row.state) == one.state;
            let at = |row: &ReplicaRow| row.location.as_ref() == Some(&one.location) && row.id != one.id;
            if !is_as_planned || rows.iter().any(at) {
                return Ok(Err(ReplicaError::Meanwhile));
            }
        }
        if let Err(error) = check_with(&rows, &planned, write_quorum) {
            return Ok(Err(error));
        }
        for one in &planned {
            let lies_there =
                |row: &ReplicaRow| row.id == one.id && row.location.as_ref() == Some(&one.location);
            match one.state {
                None => replicas::insert(tx, &one.id, &one.location, true, now_ms)?,
                Some(ReplicaState::Active | ReplicaState::Draining) if !rows.iter().any(lies_there) => {
                    replicas::relocate(tx, &one.id, &one.location, now_ms)?;
                }
                Some(_) => replicas::revive(tx, &one.id, &one.location, now_ms)?,
            }
        }
        Ok::<_, CoreError>(Ok(()))
    });
    taken.await?
}

/// Takes the ids back that no marker carries. What cannot be told, or not be written, stays reserved: ids are many.
async fn release(metadata: &Metadata, places: &dyn Places, planned: &[Planned]) {
    for one in planned.iter().filter(|one| one.is_new) {
        match places.marker(&one.location).await {
            Ok(marker) if marker.as_ref().is_none_or(|found| found.replica != one.id) => {}
            _ => continue,
        }
        let id = one.id.clone();
        let released = metadata.write(move |tx| replicas::release(tx, &id));
        if let Err(error) = released.await {
            tracing::debug!(replica.id = %one.id, error = %error, "an id stays reserved");
        }
    }
}

fn check_configured(count: usize, write_quorum: Option<usize>) -> Result<(), ReplicaError> {
    let checked = Replicated::quorum_of(count, write_quorum).map(drop);
    checked.map_err(|why| ReplicaError::Quorum { count: Counted::Configured(count), why, instead: "" })
}

/// Whether the replicas can be written with that quorum when what is planned has come to them.
fn check_with(
    rows: &[ReplicaRow],
    planned: &[Planned],
    write_quorum: Option<usize>,
) -> Result<(), ReplicaError> {
    let active = rows.iter().filter(|row| row.state == ReplicaState::Active).count();
    let count = active + planned.iter().filter(|one| one.adds_one()).count();
    let Err(why) = Replicated::quorum_of(count, write_quorum) else { return Ok(()) };
    let instead = match why {
        QuorumError::Unstated => ", or add two places at once",
        _ => ", or remove another replica first",
    };
    Err(ReplicaError::Quorum { count: Counted::With(count), why, instead })
}

async fn read_rows(metadata: &Metadata) -> Result<Vec<ReplicaRow>, CoreError> {
    metadata.read(|tx| Ok(replicas::all(tx)?)).await
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
    let set = Replicated::new(written, write_quorum).and_then(|set| set.with_drained(drained));
    set.map_err(|why| {
        let written = loaded.iter().filter(|one| one.state != ReplicaState::Draining);
        let names = written.map(|one| format!("{} ({})", one.id, one.location)).collect();
        ReplicaError::Quorum { count: Counted::InUse(names), why, instead: "" }
    })
}

impl Upkeep {
    /// Adds replicas: an empty place, also in the place of a lost one, a removed replica that comes back, or one
    /// that has moved. They are written from now on, and filled in the background. Gives their ids.
    ///
    /// # Errors
    /// Nothing is added then.
    pub async fn add_replicas(&self, wanted: &[String]) -> Result<Vec<String>, ReplicaError> {
        let places = self.places.as_ref();
        let locations = resolve(places, wanted)?;
        let (metadata, now_ms) = (&self.registry.inner.metadata, self.registry.now_ms());
        let ids = take_in(metadata, places, &locations, self.config.write_quorum, now_ms).await?;
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
            let is_meant = |row: &&ReplicaRow| row.id == id && row.state != ReplicaState::Reserved;
            let Some(row) = rows.iter().find(is_meant) else {
                return Ok(Err(ReplicaError::Unknown(id.clone())));
            };
            if row.state == ReplicaState::Removed || row.state == to {
                return Ok(Err(ReplicaError::State { id: id.clone(), state: row.state }));
            }
            let stays = |row: &&ReplicaRow| row.state == ReplicaState::Active && row.id != id;
            let others: Vec<&ReplicaRow> = rows.iter().filter(stays).collect();
            if let Err(why) = Replicated::quorum_of(others.len(), write_quorum) {
                let count = Counted::Left(others.len());
                let instead = ", or add another replica first";
                return Ok(Err(ReplicaError::Quorum { count, why, instead }));
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
                        Ok::<_, Error>(
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
