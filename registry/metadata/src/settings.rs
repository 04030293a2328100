//! Settings of the registry as a whole, by name.

use std::sync::Arc;

use registry_sql::{Tx, params};

use crate::error::Error;

/// Point read: the value and its version.
pub fn get(tx: &Tx<'_>, name: &str) -> Result<Option<(Arc<str>, i64)>, Error> {
    let row =
        tx.query_optional("SELECT value, version FROM registry_settings WHERE name = $1", params![name])?;
    row.map(|row| Ok((Arc::from(row.get::<String>(0)?), row.get(1)?))).transpose()
}

/// Sets a value. Its version rises; one that was removed begins anew, above every version there ever was.
pub fn put(tx: &Tx<'_>, name: &str, value: &str, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO registry_settings (name, value, version) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = registry_settings.version + 1",
        params![name, value, now_ms],
    )?;
    Ok(())
}

/// False when it was not set.
pub fn delete(tx: &Tx<'_>, name: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM registry_settings WHERE name = $1", params![name])? == 1)
}
