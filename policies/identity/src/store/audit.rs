//! Chains of the audit log: where each stands, its anchors, and records that are not known to be in the log.

use registry_sql::{Error, Tx, params};

/// The column that the keys of a chain are sealed for.
pub(crate) const KEYS_COLUMN: &str = "identity_audit_chains.keys";

/// The last checkpoint of a chain, and what continues it.
#[derive(Clone)]
pub(crate) struct ChainRow {
    pub(crate) chain: String,
    pub(crate) number: i64,
    /// As JSON.
    pub(crate) checkpoint: String,
    /// Where its line begins in the file, at the time of writing.
    pub(crate) offset: i64,
    /// The key that the lines after it began with, and the seed of the next signature: sealed for chain and number.
    pub(crate) keys: Vec<u8>,
}

/// What a chain's keys are bound to.
pub(crate) fn aad<'a>(chain: &'a str, number: &'a [u8; 8]) -> [&'a [u8]; 2] {
    [chain.as_bytes(), number]
}

pub(crate) fn chain(tx: &Tx<'_>, chain: &str) -> Result<Option<ChainRow>, Error> {
    let row = tx.query_optional(
        "SELECT number, checkpoint, file_offset, keys FROM identity_audit_chains WHERE chain = $1",
        params![chain],
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ChainRow {
        chain: chain.to_owned(),
        number: row.get(0)?,
        checkpoint: row.get(1)?,
        offset: row.get(2)?,
        keys: row.get(3)?,
    }))
}

/// Replaces what the chain had; the keys of before are gone.
pub(crate) fn put_chain(tx: &Tx<'_>, row: &ChainRow) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_audit_chains (chain, number, checkpoint, file_offset, keys) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (chain) DO UPDATE SET number = excluded.number, checkpoint = excluded.checkpoint, \
         file_offset = excluded.file_offset, keys = excluded.keys",
        params![row.chain.as_str(), row.number, row.checkpoint.as_str(), row.offset, row.keys.as_slice()],
    )?;
    Ok(())
}

/// Keeps a checkpoint that a file begins with, so that files can be verified when those before are gone.
pub(crate) fn put_anchor(tx: &Tx<'_>, row: &ChainRow) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_audit_anchors (chain, number, checkpoint) VALUES ($1, $2, $3) \
         ON CONFLICT (chain, number) DO NOTHING",
        params![row.chain.as_str(), row.number, row.checkpoint.as_str()],
    )?;
    Ok(())
}

/// The anchor of this number, as JSON.
pub(crate) fn anchor(tx: &Tx<'_>, chain: &str, number: i64) -> Result<Option<String>, Error> {
    let row = tx.query_optional(
        "SELECT checkpoint FROM identity_audit_anchors WHERE chain = $1 AND number = $2",
        params![chain, number],
    )?;
    row.map(|row| row.get(0)).transpose()
}

/// Numbers and JSON of the anchors after `after`, in order.
pub(crate) fn anchors(tx: &Tx<'_>, chain: &str, after: i64, limit: i64) -> Result<Vec<(i64, String)>, Error> {
    let rows = tx.query(
        "SELECT number, checkpoint FROM identity_audit_anchors WHERE chain = $1 AND number > $2 \
         ORDER BY number LIMIT $3",
        params![chain, after, limit],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// A record that commits together with the change it is about.
pub(crate) fn put_record(tx: &Tx<'_>, chain: &str, number: i64, line: &str) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_audit_outbox (chain, number, line) VALUES ($1, $2, $3) \
         ON CONFLICT (chain, number) DO NOTHING",
        params![chain, number, line],
    )?;
    Ok(())
}

/// Records after `after`, in order: their numbers and lines.
pub(crate) fn records(tx: &Tx<'_>, chain: &str, after: i64, limit: i64) -> Result<Vec<(i64, String)>, Error> {
    let rows = tx.query(
        "SELECT number, line FROM identity_audit_outbox WHERE chain = $1 AND number > $2 \
         ORDER BY number LIMIT $3",
        params![chain, after, limit],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The highest number of a record, 0 when there is none.
pub(crate) fn last_record(tx: &Tx<'_>, chain: &str) -> Result<i64, Error> {
    let row = tx.query_optional(
        "SELECT number FROM identity_audit_outbox WHERE chain = $1 ORDER BY number DESC LIMIT 1",
        params![chain],
    )?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Forgets records that are in the log, durably.
pub(crate) fn forget_records(tx: &Tx<'_>, chain: &str, numbers: &[i64]) -> Result<(), Error> {
    for number in numbers {
        tx.execute(
            "DELETE FROM identity_audit_outbox WHERE chain = $1 AND number = $2",
            params![chain, *number],
        )?;
    }
    Ok(())
}
