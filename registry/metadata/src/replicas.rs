//! The replicas of the content: which there are, where they lie, and which may be written.
//!
//! Every server reads these few rows again each second, so that a change reaches all of them.

use registry_sql::{Row, Tx, params};

use crate::error::Error;

const TABLE: &str = "replicas";
const COLUMNS_OF_ALL: &str =
    "SELECT id, location, state, backfill_after, added_at, changed_at FROM replicas ORDER BY number";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// Written and read.
    Active,
    /// Read only: about to go.
    Draining,
    /// Not used any more.
    Removed,
    /// An id that was given to a place which is being made a replica. It may lie in a marker already, so that no
    /// other place gets it.
    Reserved,
}

impl ReplicaState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Removed => "removed",
            Self::Reserved => "reserved",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::Draining, Self::Removed, Self::Reserved];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    pub id: String,
    /// A path or URL; `None` once it is removed, and before it is one.
    pub location: Option<String>,
    /// Where one that was removed lay, unless another replica lies there since.
    pub left: Option<String>,
    pub state: ReplicaState,
    /// A replica that was added gets its repairs in the order of file ids; `None` when all are queued.
    pub backfill_after: Option<Vec<u8>>,
    pub added_at_ms: i64,
    pub changed_at_ms: i64,
}

/// Every replica there ever was, oldest first.
pub fn all(tx: &Tx<'_>) -> Result<Vec<ReplicaRow>, Error> {
    tx.query(COLUMNS_OF_ALL, params![])?.iter().map(from_row).collect()
}

/// The ids of the replicas that are written.
pub fn active_ids(tx: &Tx<'_>) -> Result<Vec<String>, Error> {
    let rows = tx.query("SELECT id FROM replicas WHERE state = 'active'", params![])?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// A new replica. With `backfill`, repairs for everything that is stored are queued bit by bit.
pub fn insert(tx: &Tx<'_>, id: &str, location: &str, backfill: bool, now_ms: i64) -> Result<(), Error> {
    forget_who_left(tx, location)?;
    tx.execute(
        "INSERT INTO replicas (id, number, location, state, backfill_after, added_at, changed_at) \
         SELECT $1, COALESCE(MAX(number), -1) + 1, $2, 'active', $3, $4, $4 FROM replicas",
        params![id, location, backfill.then(Vec::new), now_ms],
    )?;
    Ok(())
}

/// Gives an id to a place that is being made a replica.
pub fn reserve(tx: &Tx<'_>, id: &str, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO replicas (id, number, state, added_at, changed_at) \
         SELECT $1, COALESCE(MAX(number), -1) + 1, 'reserved', $2, $2 FROM replicas",
        params![id, now_ms],
    )?;
    Ok(())
}

/// Takes an id back that no marker names.
pub fn release(tx: &Tx<'_>, id: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM replicas WHERE id = $1 AND state = 'reserved'", params![id])?;
    Ok(())
}

/// Moves a replica to another state. Of a removed one it stays known where it lay.
pub fn set_state(tx: &Tx<'_>, id: &str, state: ReplicaState, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE replicas SET state = $2, changed_at = $3 WHERE id = $1",
        params![id, state.as_str(), now_ms],
    )?;
    if state == ReplicaState::Removed {
        tx.execute("UPDATE replicas SET backfill_after = NULL WHERE id = $1", params![id])?;
    }
    Ok(())
}

/// Puts a replica into use (again) at a location, to be filled.
pub fn revive(tx: &Tx<'_>, id: &str, location: &str, now_ms: i64) -> Result<(), Error> {
    forget_who_left(tx, location)?;
    tx.execute(
        "UPDATE replicas SET state = 'active', location = $2, backfill_after = $3, changed_at = $4 WHERE id = $1",
        params![id, location, Vec::<u8>::new(), now_ms],
    )?;
    Ok(())
}

/// The same replica lies elsewhere now.
pub fn relocate(tx: &Tx<'_>, id: &str, location: &str, now_ms: i64) -> Result<(), Error> {
    forget_who_left(tx, location)?;
    tx.execute(
        "UPDATE replicas SET location = $2, changed_at = $3 WHERE id = $1",
        params![id, location, now_ms],
    )?;
    Ok(())
}

/// A place that gets a replica is no removed one's any more.
fn forget_who_left(tx: &Tx<'_>, location: &str) -> Result<(), Error> {
    tx.execute(
        "UPDATE replicas SET location = NULL WHERE location = $1 AND state = 'removed'",
        params![location],
    )?;
    Ok(())
}

/// Moves the backfill of a replica on; `None` when everything is queued.
pub fn set_backfill(tx: &Tx<'_>, id: &str, after: Option<&[u8]>) -> Result<(), Error> {
    tx.execute(
        "UPDATE replicas SET backfill_after = $2 WHERE id = $1 AND backfill_after IS NOT NULL",
        params![id, after.map(<[u8]>::to_vec)],
    )?;
    Ok(())
}

fn from_row(row: &Row) -> Result<ReplicaRow, Error> {
    let state = ReplicaState::parse(&row.get::<String>(2)?).ok_or(Error::Corrupt { table: TABLE })?;
    let location: Option<String> = row.get(1)?;
    let (location, left) = match state {
        ReplicaState::Removed => (None, location),
        _ => (location, None),
    };
    Ok(ReplicaRow {
        id: row.get(0)?,
        location,
        left,
        state,
        backfill_after: row.get(3)?,
        added_at_ms: row.get(4)?,
        changed_at_ms: row.get(5)?,
    })
}

/// The order of file ids, which are random: how much of the whole lies before one, from 0 to 1.
pub fn fraction(position: &[u8]) -> f64 {
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(position) {
        *to = *from;
    }
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}
