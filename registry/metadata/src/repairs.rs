//! The queue of repairs: which replica lacks, or holds badly, which object.
//!
//! Taking a repair moves its next date, so that two servers do not work on one at the same time, and one
//! that dies leaves nothing behind.

use registry_sql::{Tx, params};
use registry_types::Digest;

use crate::error::{Error, bytes, parse};
use crate::model::Domain;

const TABLE: &str = "repairs";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    pub file_id: [u8; 16],
    pub replica: String,
    pub domain: Domain,
    pub digest: Digest,
    /// Attempts that failed.
    pub attempts: u32,
}

/// Notes that a replica lacks an acknowledged object, or holds it badly.
pub fn put(
    tx: &Tx<'_>,
    file_id: &[u8; 16],
    replica: &str,
    domain: &Domain,
    digest: &Digest,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO repairs (file_id, replica, domain, digest, created_at, due_at) \
         VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (file_id, replica) DO NOTHING",
        params![file_id.to_vec(), replica, domain.as_str(), digest.as_str(), now_ms],
    )?;
    Ok(())
}

/// Takes up to `limit` repairs of a replica that are due, until `until_ms`.
pub fn take(
    tx: &Tx<'_>,
    replica: &str,
    now_ms: i64,
    until_ms: i64,
    limit: u32,
) -> Result<Vec<Repair>, Error> {
    let rows = tx.query(
        "SELECT file_id, domain, digest, attempts FROM repairs WHERE replica = $1 AND due_at <= $2 \
         ORDER BY due_at, file_id LIMIT $3",
        params![replica, now_ms, i64::from(limit)],
    )?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let repair = Repair {
            file_id: bytes(row, 0, TABLE)?,
            replica: replica.to_owned(),
            domain: Domain::new(row.get::<String>(1)?),
            digest: parse(row, 2, TABLE)?,
            attempts: row.get(3)?,
        };
        tx.execute(
            "UPDATE repairs SET due_at = $3 WHERE file_id = $1 AND replica = $2",
            params![repair.file_id.to_vec(), replica, until_ms],
        )?;
        taken.push(repair);
    }
    Ok(taken)
}

/// Keeps repairs that were taken, until `until_ms`, but for those that were done or put off since.
pub fn renew(tx: &Tx<'_>, taken: &[Repair], until_ms: i64) -> Result<(), Error> {
    for repair in taken {
        tx.execute(
            "UPDATE repairs SET due_at = $3 WHERE file_id = $1 AND replica = $2 AND attempts = $4",
            params![repair.file_id.to_vec(), repair.replica.as_str(), until_ms, i64::from(repair.attempts)],
        )?;
    }
    Ok(())
}

/// Whether a replica has a repair that is due.
pub fn is_due(tx: &Tx<'_>, replica: &str, now_ms: i64) -> Result<bool, Error> {
    let row = tx.query_optional(
        "SELECT 1 FROM repairs WHERE replica = $1 AND due_at <= $2 LIMIT 1",
        params![replica, now_ms],
    )?;
    Ok(row.is_some())
}

/// Whether a repair of this copy is queued.
pub fn is_queued(tx: &Tx<'_>, file_id: &[u8; 16], replica: &str) -> Result<bool, Error> {
    let row = tx.query_optional(
        "SELECT 1 FROM repairs WHERE file_id = $1 AND replica = $2",
        params![file_id.to_vec(), replica],
    )?;
    Ok(row.is_some())
}

/// Ends a repair: the copy is good, or nothing names the object any more.
pub fn done(tx: &Tx<'_>, file_id: &[u8; 16], replica: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM repairs WHERE file_id = $1 AND replica = $2",
        params![file_id.to_vec(), replica],
    )?;
    Ok(())
}

/// Puts a repair off that did not work.
pub fn put_off(tx: &Tx<'_>, repair: &Repair, problem: &str, due_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE repairs SET attempts = $3, due_at = $4, problem = $5 WHERE file_id = $1 AND replica = $2",
        params![
            repair.file_id.to_vec(),
            repair.replica.as_str(),
            i64::from(repair.attempts) + 1,
            due_ms,
            problem
        ],
    )?;
    Ok(())
}

/// Makes up to `limit` repairs due at once. Gives how many.
pub fn hurry(tx: &Tx<'_>, now_ms: i64, limit: u32) -> Result<u64, Error> {
    Ok(tx.execute(
        "UPDATE repairs SET due_at = $1 WHERE (file_id, replica) IN \
         (SELECT file_id, replica FROM repairs WHERE due_at > $1 LIMIT $2)",
        params![now_ms, i64::from(limit)],
    )?)
}

/// How many repairs a replica is owed, counted up to `most`.
pub fn count(tx: &Tx<'_>, replica: &str, most: u32) -> Result<u64, Error> {
    let row = tx.query_one(
        "SELECT COUNT(*) FROM (SELECT 1 FROM repairs WHERE replica = $1 LIMIT $2) AS counted",
        params![replica, i64::from(most)],
    )?;
    Ok(row.get::<i64>(0)?.unsigned_abs())
}

/// What stopped a repair of this replica that did not work, the one that is due next.
pub fn problem(tx: &Tx<'_>, replica: &str) -> Result<Option<String>, Error> {
    let row = tx.query_optional(
        "SELECT problem FROM repairs WHERE replica = $1 AND attempts > 0 ORDER BY due_at, file_id LIMIT 1",
        params![replica],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// Removes up to `limit` repairs of a replica that is used no more. Gives how many.
pub fn drop_of(tx: &Tx<'_>, replica: &str, limit: u32) -> Result<u64, Error> {
    Ok(tx.execute(
        "DELETE FROM repairs WHERE (file_id, replica) IN \
         (SELECT file_id, replica FROM repairs WHERE replica = $1 LIMIT $2)",
        params![replica, i64::from(limit)],
    )?)
}
