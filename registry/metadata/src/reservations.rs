//! Objects registered before anybody needs them, so that a small one costs no transaction of its own for it.
//!
//! There are as many rows as servers keep at hand, and those of servers that were killed; one that is not taken by its
//! end is garbage.

use registry_sql::{Tx, params};

use crate::error::{Error, bytes};
use crate::garbage;

/// Registers an object that nothing names yet.
pub fn insert(tx: &Tx<'_>, file_id: &[u8; 16], expires_at_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO reserved_objects (file_id, expires_at) VALUES ($1, $2)",
        params![file_id.to_vec(), expires_at_ms],
    )?;
    Ok(())
}

/// Ends a reservation, because a key or an upload takes the object. False when it was over.
pub fn take(tx: &Tx<'_>, file_id: &[u8; 16]) -> Result<bool, Error> {
    let taken = tx.execute("DELETE FROM reserved_objects WHERE file_id = $1", params![file_id.to_vec()])?;
    Ok(taken == 1)
}

/// Ends a reservation whose object nobody wants any more.
pub fn give_up(tx: &Tx<'_>, file_id: &[u8; 16], now_ms: i64) -> Result<(), Error> {
    if take(tx, file_id)? {
        garbage::condemn(tx, file_id, now_ms)?;
    }
    Ok(())
}

/// Up to `limit` objects whose reservation is over.
pub fn expired(tx: &Tx<'_>, now_ms: i64, limit: u32) -> Result<Vec<[u8; 16]>, Error> {
    let rows = tx.query(
        "SELECT file_id FROM reserved_objects WHERE expires_at <= $1 ORDER BY file_id LIMIT $2",
        params![now_ms, i64::from(limit)],
    )?;
    rows.iter().map(|row| bytes(row, 0, "reserved_objects")).collect()
}
