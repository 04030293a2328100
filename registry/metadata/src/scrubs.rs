//! Scrub: how far the walk over all content is, and what it found.

use registry_sql::{Row, Tx, params};

use crate::error::{Error, bytes, length, stored};
use crate::replicas::fraction;

const WALK: &str = "scrubs";
const FINDINGS: &str = "findings";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubState {
    Running,
    /// Stopped by an operator; goes on where it stands.
    Paused,
    Finished,
}

impl ScrubState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Paused, Self::Finished].into_iter().find(|state| state.as_str() == text)
    }
}

/// What one stretch of a walk, or the whole walk, looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub objects: u64,
    pub copies: u64,
    pub copy_bytes: u64,
    pub damaged: u64,
    pub missing: u64,
    /// Objects that no row names.
    pub unknown: u64,
    /// Copies whose replica could not be asked.
    pub unchecked: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// Number of the walk, from 1.
    pub walk: u64,
    pub state: ScrubState,
    pub position: Vec<u8>,
    pub started_at_ms: i64,
    pub finished_at_ms: Option<i64>,
    pub tally: Tally,
    pub lease_until_ms: i64,
}

impl Scrub {
    /// How much of everything is done, from 0 to 1: file ids are random, so the place tells.
    pub fn fraction(&self) -> f64 {
        if self.state == ScrubState::Finished { 1.0 } else { fraction(&self.position) }
    }
}

/// The walk, if there ever was one.
pub fn get(tx: &Tx<'_>) -> Result<Option<Scrub>, Error> {
    let row = tx.query_optional(
        "SELECT walk, state, position, started_at, finished_at, objects, copies, copy_bytes, damaged, \
         missing, unknown, unchecked, lease_until FROM scrubs WHERE id = 1",
        params![],
    )?;
    row.as_ref().map(walk_from_row).transpose()
}

/// Begins the next walk from the start.
pub fn begin(tx: &Tx<'_>, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO scrubs (id, walk, state, position, started_at, finished_at, objects, copies, copy_bytes, \
         damaged, missing, unknown, unchecked, lease_until) \
         VALUES (1, 1, 'running', $1, $2, NULL, 0, 0, 0, 0, 0, 0, 0, 0) \
         ON CONFLICT (id) DO UPDATE SET walk = scrubs.walk + 1, state = 'running', \
         position = excluded.position, started_at = excluded.started_at, finished_at = NULL, objects = 0, \
         copies = 0, copy_bytes = 0, damaged = 0, missing = 0, unknown = 0, unchecked = 0, lease_until = 0",
        params![Vec::<u8>::new(), now_ms],
    )?;
    Ok(())
}

pub fn set_state(tx: &Tx<'_>, state: ScrubState) -> Result<(), Error> {
    tx.execute("UPDATE scrubs SET state = $1, lease_until = 0 WHERE id = 1", params![state.as_str()])?;
    Ok(())
}

/// Takes the walk for this server until `until_ms`. `None` when nothing runs or another server has it.
pub fn take(tx: &Tx<'_>, now_ms: i64, until_ms: i64) -> Result<Option<Scrub>, Error> {
    let Some(scrub) = get(tx)? else { return Ok(None) };
    if scrub.state != ScrubState::Running || scrub.lease_until_ms > now_ms {
        return Ok(None);
    }
    tx.execute("UPDATE scrubs SET lease_until = $1 WHERE id = 1", params![until_ms])?;
    Ok(Some(scrub))
}

/// Keeps the walk for the server that took it, until `until_ms`, unless it moved on or was stopped since.
pub fn renew(tx: &Tx<'_>, taken: &Scrub, until_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE scrubs SET lease_until = $1 \
         WHERE id = 1 AND walk = $2 AND position = $3 AND state = 'running'",
        params![until_ms, stored(taken.walk), taken.position.clone()],
    )?;
    Ok(())
}

/// Moves the walk on to `position` (`None`: to its end) and gives it back. False when another server was
/// faster, or the walk began anew.
pub fn advance(
    tx: &Tx<'_>,
    from: &Scrub,
    position: Option<&[u8]>,
    tally: &Tally,
    now_ms: i64,
) -> Result<bool, Error> {
    let number = |count: u64| stored(count);
    let changed = tx.execute(
        "UPDATE scrubs SET position = $1, objects = objects + $2, copies = copies + $3, \
         copy_bytes = copy_bytes + $4, damaged = damaged + $5, missing = missing + $6, \
         unknown = unknown + $7, unchecked = unchecked + $8, lease_until = 0 \
         WHERE id = 1 AND walk = $9 AND position = $10 AND state <> 'finished'",
        params![
            position.unwrap_or(&from.position).to_vec(),
            number(tally.objects),
            number(tally.copies),
            number(tally.copy_bytes),
            number(tally.damaged),
            number(tally.missing),
            number(tally.unknown),
            number(tally.unchecked),
            number(from.walk),
            from.position.clone()
        ],
    )?;
    if changed == 1 && position.is_none() {
        tx.execute("UPDATE scrubs SET state = 'finished', finished_at = $1 WHERE id = 1", params![now_ms])?;
    }
    Ok(changed == 1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    Damaged,
    Missing,
    /// An object that no row names.
    Unknown,
}

impl FindingKind {
    pub const ALL: [Self; 3] = [Self::Damaged, Self::Missing, Self::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file_id: [u8; 16],
    pub replica: String,
    pub kind: FindingKind,
    pub detail: String,
    /// Bytes of the copy, or of what it should be.
    pub size: u64,
    pub found_at_ms: i64,
    pub repaired_at_ms: Option<i64>,
}

/// Notes a finding; a newer one of the same copy takes its place.
pub fn put_finding(tx: &Tx<'_>, finding: &Finding) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO findings (file_id, replica, kind, detail, size, found_at, repaired_at) \
         VALUES ($1, $2, $3, $4, $5, $6, NULL) ON CONFLICT (file_id, replica) DO UPDATE SET \
         kind = excluded.kind, detail = excluded.detail, size = excluded.size, \
         found_at = excluded.found_at, repaired_at = NULL",
        params![
            finding.file_id.to_vec(),
            finding.replica.as_str(),
            finding.kind.as_str(),
            finding.detail.as_str(),
            stored(finding.size),
            finding.found_at_ms
        ],
    )?;
    Ok(())
}

/// Notes that the copy is good again. False when nothing was known to be wrong with it.
pub fn repaired(tx: &Tx<'_>, file_id: &[u8; 16], replica: &str, now_ms: i64) -> Result<bool, Error> {
    let settled = tx.execute(
        "UPDATE findings SET repaired_at = $3 \
         WHERE file_id = $1 AND replica = $2 AND kind <> 'unknown' AND repaired_at IS NULL",
        params![file_id.to_vec(), replica, now_ms],
    )?;
    Ok(settled > 0)
}

pub fn delete_finding(tx: &Tx<'_>, file_id: &[u8; 16], replica: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM findings WHERE file_id = $1 AND replica = $2",
        params![file_id.to_vec(), replica],
    )?;
    Ok(())
}

/// Up to `limit` findings of a kind, in the order of file id and replica, after `after`.
pub fn findings_after(
    tx: &Tx<'_>,
    kind: FindingKind,
    after: Option<(&[u8], &str)>,
    limit: u32,
) -> Result<Vec<Finding>, Error> {
    let (file_id, replica) = after.unwrap_or((&[], ""));
    let rows = tx.query(
        "SELECT file_id, replica, kind, detail, size, found_at, repaired_at FROM findings \
         WHERE kind = $1 AND (file_id, replica) > ($2, $3) ORDER BY file_id, replica LIMIT $4",
        params![kind.as_str(), file_id.to_vec(), replica, i64::from(limit)],
    )?;
    rows.iter().map(finding_from_row).collect()
}

/// How many findings of a kind are not repaired, counted up to `most`.
pub fn count_open(tx: &Tx<'_>, kind: FindingKind, most: u32) -> Result<u64, Error> {
    let row = tx.query_one(
        "SELECT COUNT(*) FROM \
         (SELECT 1 FROM findings WHERE kind = $1 AND repaired_at IS NULL LIMIT $2) AS counted",
        params![kind.as_str(), i64::from(most)],
    )?;
    Ok(row.get::<i64>(0)?.unsigned_abs())
}

/// Removes up to `limit` findings that were repaired before `before_ms`. Gives how many.
pub fn forget_repaired(tx: &Tx<'_>, before_ms: i64, limit: u32) -> Result<u64, Error> {
    Ok(tx.execute(
        "DELETE FROM findings WHERE (file_id, replica) IN \
         (SELECT file_id, replica FROM findings WHERE repaired_at < $1 LIMIT $2)",
        params![before_ms, i64::from(limit)],
    )?)
}

fn walk_from_row(row: &Row) -> Result<Scrub, Error> {
    let state = ScrubState::parse(&row.get::<String>(1)?).ok_or(Error::Corrupt { table: WALK })?;
    let number = |index| length(row, index, WALK);
    Ok(Scrub {
        walk: number(0)?,
        state,
        position: row.get(2)?,
        started_at_ms: row.get(3)?,
        finished_at_ms: row.get(4)?,
        tally: Tally {
            objects: number(5)?,
            copies: number(6)?,
            copy_bytes: number(7)?,
            damaged: number(8)?,
            missing: number(9)?,
            unknown: number(10)?,
            unchecked: number(11)?,
        },
        lease_until_ms: row.get(12)?,
    })
}

fn finding_from_row(row: &Row) -> Result<Finding, Error> {
    let kind = FindingKind::parse(&row.get::<String>(2)?).ok_or(Error::Corrupt { table: FINDINGS })?;
    Ok(Finding {
        file_id: bytes(row, 0, FINDINGS)?,
        replica: row.get(1)?,
        kind,
        detail: row.get(3)?,
        size: length(row, 4, FINDINGS)?,
        found_at_ms: row.get(5)?,
        repaired_at_ms: row.get(6)?,
    })
}
