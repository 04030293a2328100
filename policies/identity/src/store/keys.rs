//! Access keys of users, and the keys that tokens are made with. Secrets come and go sealed.

use registry_sql::{Error, Tx, params};

use super::Owner;

/// An access key to be stored; `secret` is sealed for this row (see [`aad`]).
#[derive(Clone, Debug)]
pub(crate) struct NewAccessKey {
    pub(crate) access_key_id: String,
    pub(crate) user_uid: String,
    pub(crate) secret: Vec<u8>,
    pub(crate) owner: Owner,
}

/// The column that access key secrets are sealed for.
pub(crate) const SECRET_COLUMN: &str = "identity_access_keys.secret";

/// The first version of a row.
pub(crate) const FIRST_VERSION: i64 = 1;

/// What a sealed secret is bound to: primary key, owner's uid, row version.
pub(crate) fn aad<'a>(access_key_id: &'a str, user_uid: &'a str, version: &'a [u8; 8]) -> [&'a [u8]; 3] {
    [access_key_id.as_bytes(), user_uid.as_bytes(), version]
}

pub(crate) fn insert(tx: &Tx<'_>, key: &NewAccessKey, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_access_keys \
         (access_key_id, user_uid, active, secret, row_version, generation, created_ms, owner) \
         VALUES ($1, $2, 1, $3, $4, 1, $5, $6)",
        params![
            key.access_key_id.as_str(),
            key.user_uid.as_str(),
            key.secret.as_slice(),
            FIRST_VERSION,
            now_ms,
            key.owner.as_str()
        ],
    )?;
    Ok(())
}

/// Enables or disables a key. Disabling ends what was made with it, for good. False when there is no such key.
pub(crate) fn set_active(tx: &Tx<'_>, access_key_id: &str, active: bool) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE identity_access_keys SET active = $2, generation = generation + 1 WHERE access_key_id = $1",
        params![access_key_id, i64::from(active)],
    )?;
    Ok(changed > 0)
}

/// Deletes a key. False when there is none.
pub(crate) fn delete(tx: &Tx<'_>, access_key_id: &str) -> Result<bool, Error> {
    let changed =
        tx.execute("DELETE FROM identity_access_keys WHERE access_key_id = $1", params![access_key_id])?;
    Ok(changed > 0)
}

/// An access key, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct AccessKeyRow {
    pub(crate) access_key_id: String,
    pub(crate) active: bool,
    pub(crate) created_ms: i64,
    pub(crate) owner: Owner,
}

/// The keys of a user by their ids. There are few.
pub(crate) fn of_user(tx: &Tx<'_>, user_uid: &str) -> Result<Vec<AccessKeyRow>, Error> {
    let rows = tx.query(
        "SELECT access_key_id, active, created_ms, owner FROM identity_access_keys WHERE user_uid = $1 \
         ORDER BY access_key_id",
        params![user_uid],
    )?;
    rows.iter()
        .map(|row| {
            Ok(AccessKeyRow {
                access_key_id: row.get(0)?,
                active: row.get(1)?,
                created_ms: row.get(2)?,
                owner: Owner::parse(&row.get::<String>(3)?),
            })
        })
        .collect()
}

/// When a key was last used, and for which service, as far as servers have written it down.
pub(crate) fn last_use(tx: &Tx<'_>, access_key_id: &str) -> Result<Option<(i64, String)>, Error> {
    let row = tx.query_optional(
        "SELECT last_used_ms, last_used_service FROM identity_access_keys \
         WHERE access_key_id = $1 AND last_used_ms IS NOT NULL",
        params![access_key_id],
    )?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// Writes down when a key was used, unless a later use stands there.
pub(crate) fn note_use(tx: &Tx<'_>, access_key_id: &str, at_ms: i64, service: &str) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_access_keys SET last_used_ms = $2, last_used_service = $3 \
         WHERE access_key_id = $1 AND (last_used_ms IS NULL OR last_used_ms < $2)",
        params![access_key_id, at_ms, service],
    )?;
    Ok(())
}

/// Deletes every key of a user.
pub(crate) fn delete_of_user(tx: &Tx<'_>, user_uid: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_access_keys WHERE user_uid = $1", params![user_uid])?;
    Ok(())
}

/// The column that token keys are sealed for.
pub(crate) const TOKEN_KEY_COLUMN: &str = "identity_token_keys.secret";

/// The number and birth of the newest token key.
pub(crate) fn newest_token_key(tx: &Tx<'_>) -> Result<Option<(i64, i64)>, Error> {
    let row =
        tx.query_optional("SELECT id, created_ms FROM identity_token_keys ORDER BY id DESC LIMIT 1", &[])?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// Adds a token key and forgets all but it and the one before.
pub(crate) fn insert_token_key(tx: &Tx<'_>, id: i64, secret: &[u8], now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_token_keys (id, created_ms, secret) VALUES ($1, $2, $3)",
        params![id, now_ms, secret],
    )?;
    tx.execute("DELETE FROM identity_token_keys WHERE id < $1", params![id - 1])?;
    Ok(())
}
