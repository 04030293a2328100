//! Everything that decides about requests, read in one transaction for the snapshot in memory.

use registry_sql::{Error, Tx};

use super::providers::ProviderRow;

/// The tables as they are at one security generation.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) security_generation: i64,
    pub(crate) file_generation: i64,
    pub(crate) users: Vec<UserRow>,
    pub(crate) groups: Vec<GroupRow>,
    pub(crate) roles: Vec<RoleRow>,
    /// (user uid, group uid)
    pub(crate) memberships: Vec<(String, String)>,
    pub(crate) access_keys: Vec<AccessKeyRow>,
    /// (ARN, document)
    pub(crate) managed: Vec<(String, String)>,
    /// (principal uid, name, document)
    pub(crate) inline: Vec<(String, String, String)>,
    /// (principal uid, policy ARN)
    pub(crate) attachments: Vec<(String, String)>,
    /// (resource, name, document)
    pub(crate) resource: Vec<(String, String, String)>,
    pub(crate) providers: Vec<ProviderRow>,
    pub(crate) revoked_sessions: Vec<String>,
    pub(crate) token_keys: Vec<TokenKeyRow>,
}

#[derive(Debug)]
pub(crate) struct UserRow {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) generation: i64,
    pub(crate) boundary: Option<String>,
    pub(crate) tags: String,
    pub(crate) owner: String,
    /// Its name, folded, and in front of it the account and a slash if that is another one.
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct GroupRow {
    pub(crate) uid: String,
    pub(crate) name: String,
}

#[derive(Debug)]
pub(crate) struct RoleRow {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) trust_policy: String,
    pub(crate) max_session_s: i64,
    pub(crate) generation: i64,
    pub(crate) boundary: Option<String>,
    pub(crate) tags: String,
    /// As of a user.
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct AccessKeyRow {
    pub(crate) access_key_id: String,
    pub(crate) user_uid: String,
    pub(crate) active: bool,
    pub(crate) secret: Vec<u8>,
    pub(crate) row_version: i64,
    pub(crate) generation: i64,
}

#[derive(Debug)]
pub(crate) struct TokenKeyRow {
    pub(crate) id: i64,
    pub(crate) created_ms: i64,
    pub(crate) secret: Vec<u8>,
}

/// Reads all of it.
pub(crate) fn tables(tx: &Tx<'_>) -> Result<Tables, Error> {
    Ok(Tables {
        security_generation: super::security_generation(tx)?,
        file_generation: tx
            .query_one("SELECT COALESCE(MAX(generation), 0) FROM identity_file_generations", &[])?
            .get(0)?,
        users: users(tx)?,
        groups: groups(tx)?,
        roles: roles(tx)?,
        memberships: pairs(tx, "SELECT user_uid, group_uid FROM identity_memberships")?,
        access_keys: access_keys(tx)?,
        managed: pairs(tx, "SELECT arn, document FROM identity_managed_policies")?,
        inline: triples(
            tx,
            "SELECT principal_uid, name, document FROM identity_inline_policies ORDER BY principal_uid, name",
        )?,
        attachments: pairs(
            tx,
            "SELECT principal_uid, policy_arn FROM identity_attachments ORDER BY principal_uid, policy_arn",
        )?,
        resource: triples(
            tx,
            "SELECT resource, name, document FROM identity_resource_policies ORDER BY resource, name",
        )?,
        providers: super::providers::all(tx)?,
        revoked_sessions: tx
            .query("SELECT session_uid FROM identity_revoked_sessions", &[])?
            .iter()
            .map(|row| row.get(0))
            .collect::<Result<_, _>>()?,
        token_keys: token_keys(tx)?,
    })
}

fn users(tx: &Tx<'_>) -> Result<Vec<UserRow>, Error> {
    let rows = tx.query(
        "SELECT uid, name, path, generation, boundary, tags, owner, name_key FROM identity_users",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            Ok(UserRow {
                uid: row.get(0)?,
                name: row.get(1)?,
                path: row.get(2)?,
                generation: row.get(3)?,
                boundary: row.get(4)?,
                tags: row.get(5)?,
                owner: row.get(6)?,
                key: row.get(7)?,
            })
        })
        .collect()
}

fn groups(tx: &Tx<'_>) -> Result<Vec<GroupRow>, Error> {
    let rows = tx.query("SELECT uid, name FROM identity_groups", &[])?;
    rows.iter().map(|row| Ok(GroupRow { uid: row.get(0)?, name: row.get(1)? })).collect()
}

fn roles(tx: &Tx<'_>) -> Result<Vec<RoleRow>, Error> {
    let rows = tx.query(
        "SELECT uid, name, path, trust_policy, max_session_s, generation, boundary, tags, name_key FROM identity_roles",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            Ok(RoleRow {
                uid: row.get(0)?,
                name: row.get(1)?,
                path: row.get(2)?,
                trust_policy: row.get(3)?,
                max_session_s: row.get(4)?,
                generation: row.get(5)?,
                boundary: row.get(6)?,
                tags: row.get(7)?,
                key: row.get(8)?,
            })
        })
        .collect()
}

fn access_keys(tx: &Tx<'_>) -> Result<Vec<AccessKeyRow>, Error> {
    let rows = tx.query(
        "SELECT access_key_id, user_uid, active, secret, row_version, generation FROM identity_access_keys",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            Ok(AccessKeyRow {
                access_key_id: row.get(0)?,
                user_uid: row.get(1)?,
                active: row.get(2)?,
                secret: row.get(3)?,
                row_version: row.get(4)?,
                generation: row.get(5)?,
            })
        })
        .collect()
}

fn token_keys(tx: &Tx<'_>) -> Result<Vec<TokenKeyRow>, Error> {
    let rows = tx.query("SELECT id, created_ms, secret FROM identity_token_keys ORDER BY id", &[])?;
    rows.iter()
        .map(|row| Ok(TokenKeyRow { id: row.get(0)?, created_ms: row.get(1)?, secret: row.get(2)? }))
        .collect()
}

fn pairs(tx: &Tx<'_>, sql: &'static str) -> Result<Vec<(String, String)>, Error> {
    tx.query(sql, &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

fn triples(tx: &Tx<'_>, sql: &'static str) -> Result<Vec<(String, String, String)>, Error> {
    tx.query(sql, &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
}
