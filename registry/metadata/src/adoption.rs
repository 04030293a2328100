//! Whether what was restored has been adopted: until then nothing is deleted and no key destroyed.
//!
//! A restored database may be older than the content, or than a better backup that turns up. Invariant:
//! whoever deletes content or destroys keys for good asks [`pending`] first.

use registry_sql::{Tx, params};

use crate::error::Error;

/// A restore that waits to be adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub at_ms: i64,
    /// What it was restored from, in the words of whoever restored it.
    pub source: String,
}

/// The restore that is not adopted yet, if there is one.
pub fn pending(tx: &Tx<'_>) -> Result<Option<Restored>, Error> {
    let row = tx.query_optional("SELECT restored_at, source FROM adoption WHERE id = 1", params![])?;
    row.map(|row| Ok(Restored { at_ms: row.get(0)?, source: row.get(1)? })).transpose()
}

/// Notes a restore: from now on everything is kept.
pub fn note_restored(tx: &Tx<'_>, restored: &Restored) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO adoption (id, restored_at, source) VALUES (1, $1, $2) \
         ON CONFLICT (id) DO UPDATE SET restored_at = $1, source = $2",
        params![restored.at_ms, &restored.source],
    )?;
    Ok(())
}

/// Forgets where content lay: what was restored lies where it was restored to, whole.
pub fn forget_replicas(tx: &Tx<'_>) -> Result<(), Error> {
    tx.execute("DELETE FROM replicas", params![])?;
    tx.execute("DELETE FROM repairs", params![])?;
    tx.execute("DELETE FROM removals", params![])?;
    Ok(())
}

/// The operator is content with what was restored. False when nothing waited for it.
pub fn adopt(tx: &Tx<'_>) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM adoption WHERE id = 1", params![])? > 0)
}
