//! Sessions that were ended before their time. Sessions themselves lie in no table.

use registry_sql::{Error, Tx, params};

/// Ends a session and everything made with it. `expires_ms` is when all of that would have ended anyway.
pub(crate) fn revoke(tx: &Tx<'_>, session_uid: &str, expires_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_revoked_sessions (session_uid, expires_ms) VALUES ($1, $2) \
         ON CONFLICT (session_uid) DO NOTHING",
        params![session_uid, expires_ms],
    )?;
    Ok(())
}

/// Forgets revocations of sessions that have expired since.
pub(crate) fn forget_expired(tx: &Tx<'_>, now_ms: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_revoked_sessions WHERE expires_ms < $1", params![now_ms])?;
    Ok(())
}
