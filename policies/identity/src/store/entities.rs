//! Users, groups and roles one by one, as the IAM API reads and changes them.
//!
//! Only those of the account that owns everything here: the names of other accounts have a slash in their keys.

use registry_sql::{Error, Row, Tx, params};

use super::Owner;
use super::principals::{name_key, raise_generation, tags_text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntityKind {
    User,
    Group,
    Role,
}

/// A user, group or role.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    pub(crate) uid: String,
    pub(crate) name: String,
    /// The name, folded: the order of lists.
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) created_ms: i64,
    pub(crate) owner: Owner,
    pub(crate) boundary: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    /// These four of a role.
    pub(crate) description: String,
    pub(crate) trust_policy: String,
    pub(crate) max_session_s: i64,
    pub(crate) last_used_ms: Option<i64>,
}

macro_rules! select {
    ($kind:expr, $rest:literal) => {
        match $kind {
            EntityKind::User => concat!(
                "SELECT uid, name, name_key, path, created_ms, owner, boundary, tags, '', '', 0, \
                 CAST(NULL AS BIGINT) FROM identity_users ",
                $rest
            ),
            EntityKind::Group => concat!(
                "SELECT uid, name, name_key, path, created_ms, owner, NULL, '{}', '', '', 0, \
                 CAST(NULL AS BIGINT) FROM identity_groups ",
                $rest
            ),
            EntityKind::Role => concat!(
                "SELECT uid, name, name_key, path, created_ms, owner, boundary, tags, description, trust_policy, \
                 max_session_s, last_used_ms FROM identity_roles ",
                $rest
            ),
        }
    };
}

pub(crate) fn find(tx: &Tx<'_>, kind: EntityKind, name: &str) -> Result<Option<Entity>, Error> {
    let row = tx.query_optional(select!(kind, "WHERE name_key = $1"), params![name_key(name)])?;
    row.as_ref().map(entity).transpose()
}

pub(crate) fn by_uid(tx: &Tx<'_>, kind: EntityKind, uid: &str) -> Result<Option<Entity>, Error> {
    let sql = select!(kind, "WHERE uid = $1 AND name_key NOT LIKE '%/%'");
    tx.query_optional(sql, params![uid])?.as_ref().map(entity).transpose()
}

/// In the order of their keys, behind one.
pub(crate) fn list(tx: &Tx<'_>, kind: EntityKind, after: &str, limit: usize) -> Result<Vec<Entity>, Error> {
    let sql = select!(kind, "WHERE name_key > $1 AND name_key NOT LIKE '%/%' ORDER BY name_key LIMIT $2");
    tx.query(sql, params![after, limit_of(limit)])?.iter().map(entity).collect()
}

/// The user of an access key.
pub(crate) fn of_key(tx: &Tx<'_>, access_key_id: &str) -> Result<Option<Entity>, Error> {
    let row = tx.query_optional(
        "SELECT user_uid FROM identity_access_keys WHERE access_key_id = $1",
        params![access_key_id],
    )?;
    let Some(row) = row else { return Ok(None) };
    by_uid(tx, EntityKind::User, &row.get::<String>(0)?)
}

/// The users of a group, in the order of their keys.
pub(crate) fn members(tx: &Tx<'_>, group_uid: &str, after: &str, limit: usize) -> Result<Vec<Entity>, Error> {
    let sql = select!(
        EntityKind::User,
        "WHERE uid IN (SELECT user_uid FROM identity_memberships WHERE group_uid = $1) AND name_key > $2 \
         ORDER BY name_key LIMIT $3"
    );
    tx.query(sql, params![group_uid, after, limit_of(limit)])?.iter().map(entity).collect()
}

/// The groups of a user, in the order of their keys. There are few.
pub(crate) fn groups_of(tx: &Tx<'_>, user_uid: &str) -> Result<Vec<Entity>, Error> {
    let sql = select!(
        EntityKind::Group,
        "WHERE uid IN (SELECT group_uid FROM identity_memberships WHERE user_uid = $1) ORDER BY name_key"
    );
    tx.query(sql, params![user_uid])?.iter().map(entity).collect()
}

pub(crate) fn has_members(tx: &Tx<'_>, group_uid: &str) -> Result<bool, Error> {
    let sql = "SELECT user_uid FROM identity_memberships WHERE group_uid = $1 LIMIT 1";
    Ok(tx.query_optional(sql, params![group_uid])?.is_some())
}

/// Takes a user out of a group. False when it was not in it.
pub(crate) fn leave(tx: &Tx<'_>, user_uid: &str, group_uid: &str) -> Result<bool, Error> {
    let left = tx.execute(
        "DELETE FROM identity_memberships WHERE user_uid = $1 AND group_uid = $2",
        params![user_uid, group_uid],
    )?;
    Ok(left > 0)
}

/// Gives another name or path. Sessions know their user by its ARN, which somebody else may have next: they end.
pub(crate) fn rename(tx: &Tx<'_>, kind: EntityKind, uid: &str, name: &str, path: &str) -> Result<(), Error> {
    let sql = match kind {
        EntityKind::User => "UPDATE identity_users SET name = $2, name_key = $3, path = $4 WHERE uid = $1",
        EntityKind::Group => "UPDATE identity_groups SET name = $2, name_key = $3, path = $4 WHERE uid = $1",
        EntityKind::Role => "UPDATE identity_roles SET name = $2, name_key = $3, path = $4 WHERE uid = $1",
    };
    tx.execute(sql, params![uid, name, name_key(name), path])?;
    raise_generation(tx, uid)
}

/// Of a user or role.
pub(crate) fn set_boundary(tx: &Tx<'_>, uid: &str, boundary: Option<&str>) -> Result<(), Error> {
    let boundary = boundary.map(str::to_owned);
    tx.execute("UPDATE identity_users SET boundary = $2 WHERE uid = $1", params![uid, boundary.clone()])?;
    tx.execute("UPDATE identity_roles SET boundary = $2 WHERE uid = $1", params![uid, boundary])?;
    Ok(())
}

/// Of a user or role.
pub(crate) fn set_tags(tx: &Tx<'_>, uid: &str, tags: &[(String, String)]) -> Result<(), Error> {
    tx.execute("UPDATE identity_users SET tags = $2 WHERE uid = $1", params![uid, tags_text(tags)])?;
    tx.execute("UPDATE identity_roles SET tags = $2 WHERE uid = $1", params![uid, tags_text(tags)])?;
    Ok(())
}

pub(crate) fn set_role(tx: &Tx<'_>, uid: &str, description: &str, max_session_s: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_roles SET description = $2, max_session_s = $3 WHERE uid = $1",
        params![uid, description, max_session_s],
    )?;
    Ok(())
}

/// Another trust policy ends the sessions that the one before let in.
pub(crate) fn set_trust(tx: &Tx<'_>, uid: &str, document: &str) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_roles SET trust_policy = $2, generation = generation + 1 WHERE uid = $1",
        params![uid, document],
    )?;
    Ok(())
}

/// Writes down when sessions of a role were used, unless a later use stands there.
pub(crate) fn note_use(tx: &Tx<'_>, role_uid: &str, at_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_roles SET last_used_ms = $2 \
         WHERE uid = $1 AND (last_used_ms IS NULL OR last_used_ms < $2)",
        params![role_uid, at_ms],
    )?;
    Ok(())
}

/// How many there are, those of other accounts not counted.
pub(crate) fn count(tx: &Tx<'_>, kind: EntityKind) -> Result<i64, Error> {
    let sql = match kind {
        EntityKind::User => "SELECT COUNT(*) FROM identity_users WHERE name_key NOT LIKE '%/%'",
        EntityKind::Group => "SELECT COUNT(*) FROM identity_groups WHERE name_key NOT LIKE '%/%'",
        EntityKind::Role => "SELECT COUNT(*) FROM identity_roles WHERE name_key NOT LIKE '%/%'",
    };
    tx.query_one(sql, &[])?.get(0)
}

pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Tags as they lie in the database.
pub(crate) fn tags_of(text: &str) -> Vec<(String, String)> {
    let tags: std::collections::BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    tags.into_iter().collect()
}

fn entity(row: &Row) -> Result<Entity, Error> {
    Ok(Entity {
        uid: row.get(0)?,
        name: row.get(1)?,
        key: row.get(2)?,
        path: row.get(3)?,
        created_ms: row.get(4)?,
        owner: Owner::parse(&row.get::<String>(5)?),
        boundary: row.get(6)?,
        tags: tags_of(&row.get::<String>(7)?),
        description: row.get(8)?,
        trust_policy: row.get(9)?,
        max_session_s: row.get(10)?,
        last_used_ms: row.get(11)?,
    })
}
