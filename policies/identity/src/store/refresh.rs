//! Refresh tokens: stored hashed, good for one exchange; a second use betrays a theft.

use registry_sql::{Error, Tx, params};

/// A refresh token as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) family: String,
    pub(crate) access_key_id: String,
    /// The chain of the credential it was made with, as JSON.
    pub(crate) chain: String,
    pub(crate) used: bool,
    pub(crate) expires_ms: i64,
}

pub(crate) fn insert(tx: &Tx<'_>, token_sha256: &[u8; 32], stored: &Stored) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_refresh_tokens (token_sha256, family, access_key_id, chain, used, expires_ms) \
         VALUES ($1, $2, $3, $4, 0, $5)",
        params![
            token_sha256,
            stored.family.as_str(),
            stored.access_key_id.as_str(),
            stored.chain.as_str(),
            stored.expires_ms
        ],
    )?;
    Ok(())
}

pub(crate) fn get(tx: &Tx<'_>, token_sha256: &[u8; 32]) -> Result<Option<Stored>, Error> {
    let row = tx.query_optional(
        "SELECT family, access_key_id, chain, used, expires_ms FROM identity_refresh_tokens \
         WHERE token_sha256 = $1",
        params![token_sha256],
    )?;
    row.map(|row| {
        Ok(Stored {
            family: row.get(0)?,
            access_key_id: row.get(1)?,
            chain: row.get(2)?,
            used: row.get(3)?,
            expires_ms: row.get(4)?,
        })
    })
    .transpose()
}

/// Marks a token as spent. It stays until it expires, so that a second use is noticed.
pub(crate) fn spend(tx: &Tx<'_>, token_sha256: &[u8; 32]) -> Result<(), Error> {
    tx.execute("UPDATE identity_refresh_tokens SET used = 1 WHERE token_sha256 = $1", params![token_sha256])?;
    Ok(())
}

/// Ends a family of tokens.
pub(crate) fn revoke_family(tx: &Tx<'_>, family: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_refresh_tokens WHERE family = $1", params![family])?;
    Ok(())
}

/// So many are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 500;

/// Forgets expired tokens, some at a time. True when there may be more.
pub(crate) fn forget_expired(tx: &Tx<'_>, now_ms: i64) -> Result<bool, Error> {
    let forgotten = tx.execute(
        "DELETE FROM identity_refresh_tokens WHERE token_sha256 IN \
         (SELECT token_sha256 FROM identity_refresh_tokens WHERE expires_ms < $1 LIMIT $2)",
        params![now_ms, FORGOTTEN_AT_ONCE],
    )?;
    Ok(forgotten >= FORGOTTEN_AT_ONCE as u64)
}
