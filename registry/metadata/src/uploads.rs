//! Upload sessions and their leases.
//!
//! A lease is a counter: taking one raises it, and everything that moves an upload names the lease it
//! holds, so that a server that stalled past its lease changes nothing when it wakes up.

use registry_sql::{Row, Tx, params};

use crate::error::{Error, bytes, parse};
use crate::model::{Domain, RepositoryUid, UploadRow, UploadUid};

const TABLE: &str = "uploads";

/// A new session; the uid must be new.
pub fn insert(tx: &Tx<'_>, upload: &UploadRow) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO uploads (uid, repository_uid, domain, principal, algorithm, lease, lease_expires_at, \
         committed_offset, file_id, sealed_state, sealed_epoch, sealed_lease, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        params![
            upload.uid.as_str(),
            upload.repository.as_str(),
            upload.domain.as_str(),
            upload.principal.as_str(),
            upload.algorithm.as_str(),
            upload.lease,
            upload.lease_expires_at_ms,
            upload.offset,
            upload.file_id.map(|id| id.to_vec()),
            upload.sealed_state.clone(),
            i64::from(upload.sealed_epoch),
            upload.sealed_lease,
            upload.updated_at_ms
        ],
    )?;
    Ok(())
}

/// Point read.
pub fn by_uid(tx: &Tx<'_>, uid: &UploadUid) -> Result<Option<UploadRow>, Error> {
    let row = tx.query_optional(
        "SELECT uid, repository_uid, domain, principal, algorithm, lease, lease_expires_at, committed_offset, \
         file_id, sealed_state, sealed_epoch, sealed_lease, updated_at FROM uploads WHERE uid = $1",
        params![uid.as_str()],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// Takes the lease if nobody holds it and nothing moved since the row was read as `seen`; registers
/// `file_id`, if given, in place of the row's. Gives the new lease, or `None` when another request was faster.
pub fn take_lease(
    tx: &Tx<'_>,
    seen: &UploadRow,
    file_id: Option<&[u8; 16]>,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<Option<i64>, Error> {
    let row = tx.query_optional(
        "UPDATE uploads SET lease = lease + 1, lease_expires_at = $1, file_id = COALESCE($2, file_id) \
         WHERE uid = $3 AND lease = $4 AND committed_offset = $5 AND lease_expires_at <= $6 RETURNING lease",
        params![
            expires_at_ms,
            file_id.map(|id| id.to_vec()),
            seen.uid.as_str(),
            seen.lease,
            seen.offset,
            now_ms
        ],
    )?;
    Ok(row.map(|row| row.get::<i64>(0)).transpose()?)
}

/// Moves the end of a held lease. False when it is no longer held.
pub fn renew_lease(tx: &Tx<'_>, uid: &UploadUid, lease: i64, expires_at_ms: i64) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE uploads SET lease_expires_at = $1 WHERE uid = $2 AND lease = $3",
        params![expires_at_ms, uid.as_str(), lease],
    )?;
    Ok(changed == 1)
}

/// Ends all leases.
pub fn end_leases(tx: &Tx<'_>, now_ms: i64) -> Result<(), Error> {
    tx.execute("UPDATE uploads SET lease_expires_at = 0 WHERE lease_expires_at > $1", params![now_ms])?;
    Ok(())
}

/// What a request that held the lease leaves behind for the next one.
pub struct Progress<'a> {
    pub lease: i64,
    pub offset_before: i64,
    pub offset: i64,
    pub sealed_state: &'a [u8],
    pub sealed_epoch: u32,
}

/// Saves progress and gives the lease back. False when the lease was lost: nothing changes then.
pub fn save(tx: &Tx<'_>, uid: &UploadUid, progress: &Progress<'_>, now_ms: i64) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE uploads SET committed_offset = $1, sealed_state = $2, sealed_lease = $3, lease_expires_at = 0, \
         updated_at = $4, sealed_epoch = $7 WHERE uid = $5 AND lease = $3 AND committed_offset = $6",
        params![
            progress.offset,
            progress.sealed_state,
            progress.lease,
            now_ms,
            uid.as_str(),
            progress.offset_before,
            i64::from(progress.sealed_epoch)
        ],
    )?;
    Ok(changed == 1)
}

/// Removes a session. With `lease`, only while that lease is the current one. False when it was not removed.
pub fn delete(tx: &Tx<'_>, uid: &UploadUid, lease: i64) -> Result<bool, Error> {
    let deleted =
        tx.execute("DELETE FROM uploads WHERE uid = $1 AND lease = $2", params![uid.as_str(), lease])?;
    Ok(deleted == 1)
}

/// Up to `limit` sessions that nobody holds and that did not move since `before_ms`, oldest first.
pub fn expired(tx: &Tx<'_>, before_ms: i64, now_ms: i64, limit: u32) -> Result<Vec<UploadRow>, Error> {
    let rows = tx.query(
        "SELECT uid, repository_uid, domain, principal, algorithm, lease, lease_expires_at, committed_offset, \
         file_id, sealed_state, sealed_epoch, sealed_lease, updated_at FROM uploads \
         WHERE updated_at < $1 AND lease_expires_at <= $2 ORDER BY updated_at, uid LIMIT $3",
        params![before_ms, now_ms, i64::from(limit)],
    )?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<UploadRow, Error> {
    let file_id = match row.get::<Option<Vec<u8>>>(8)? {
        Some(_) => Some(bytes::<16>(row, 8, TABLE)?),
        None => None,
    };
    Ok(UploadRow {
        uid: UploadUid::new(row.get::<String>(0)?),
        repository: RepositoryUid::new(row.get::<String>(1)?),
        domain: Domain::new(row.get::<String>(2)?),
        principal: row.get(3)?,
        algorithm: parse(row, 4, TABLE)?,
        lease: row.get(5)?,
        lease_expires_at_ms: row.get(6)?,
        offset: row.get(7)?,
        file_id,
        sealed_state: row.get(9)?,
        sealed_epoch: row.get(10)?,
        sealed_lease: row.get(11)?,
        updated_at_ms: row.get(12)?,
    })
}
