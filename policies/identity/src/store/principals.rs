//! Users, groups and roles. Names are unique without regard to case within each kind.
//!
//! A uid is never used twice: whoever re-creates a name gets another one, and nothing that was made for
//! the old one works for the new.

use registry_sql::{Error, Row, Tx, params};
use registry_types::AccountId;

use super::Owner;

/// A user to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewUser {
    /// `AIDA…`
    pub(crate) uid: String,
    pub(crate) name: String,
    /// `/`, or `/team/`.
    pub(crate) path: String,
    /// ARN of the managed policy that bounds the user.
    pub(crate) boundary: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) owner: Owner,
    /// The other account it belongs to; none for the one that owns everything here.
    pub(crate) foreign: Option<AccountId>,
}

/// A group to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewGroup {
    /// `AGPA…`
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) owner: Owner,
    /// As of a user.
    pub(crate) foreign: Option<AccountId>,
}

/// A role to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewRole {
    /// `AROA…`
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) description: String,
    pub(crate) trust_policy: String,
    pub(crate) max_session_s: i64,
    pub(crate) boundary: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) owner: Owner,
    /// As of a user.
    pub(crate) foreign: Option<AccountId>,
}

/// What a name points at.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) uid: String,
    pub(crate) owner: String,
}

pub(crate) fn insert_user(tx: &Tx<'_>, user: &NewUser, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_users (uid, name, name_key, path, created_ms, generation, boundary, tags, owner) \
         VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8)",
        params![
            user.uid.as_str(),
            user.name.as_str(),
            name_key_in(user.foreign.as_ref(), &user.name),
            user.path.as_str(),
            now_ms,
            user.boundary.clone(),
            tags_text(&user.tags),
            user.owner.as_str()
        ],
    )?;
    Ok(())
}

pub(crate) fn insert_group(tx: &Tx<'_>, group: &NewGroup, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_groups (uid, name, name_key, path, created_ms, owner) VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            group.uid.as_str(),
            group.name.as_str(),
            name_key_in(group.foreign.as_ref(), &group.name),
            group.path.as_str(),
            now_ms,
            group.owner.as_str()
        ],
    )?;
    Ok(())
}

pub(crate) fn insert_role(tx: &Tx<'_>, role: &NewRole, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_roles (uid, name, name_key, path, description, trust_policy, max_session_s, \
         created_ms, generation, boundary, tags, owner) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11)",
        params![
            role.uid.as_str(),
            role.name.as_str(),
            name_key_in(role.foreign.as_ref(), &role.name),
            role.path.as_str(),
            role.description.as_str(),
            role.trust_policy.as_str(),
            role.max_session_s,
            now_ms,
            role.boundary.clone(),
            tags_text(&role.tags),
            role.owner.as_str()
        ],
    )?;
    Ok(())
}

pub(crate) fn insert_membership(
    tx: &Tx<'_>,
    user_uid: &str,
    group_uid: &str,
    owner: Owner,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_memberships (user_uid, group_uid, owner) VALUES ($1, $2, $3) \
         ON CONFLICT (user_uid, group_uid) DO NOTHING",
        params![user_uid, group_uid, owner.as_str()],
    )?;
    Ok(())
}

pub(crate) fn find_user(tx: &Tx<'_>, name: &str) -> Result<Option<Found>, Error> {
    let row = tx.query_optional(
        "SELECT uid, owner FROM identity_users WHERE name_key = $1",
        params![name_key(name)],
    )?;
    row.map(found).transpose()
}

/// Deletes a user with its keys, memberships and policies.
pub(crate) fn delete_user(tx: &Tx<'_>, uid: &str) -> Result<(), Error> {
    super::keys::delete_of_user(tx, uid)?;
    tx.execute("DELETE FROM identity_memberships WHERE user_uid = $1", params![uid])?;
    tx.execute("DELETE FROM identity_users WHERE uid = $1", params![uid])?;
    delete_policies_of(tx, uid)
}

/// Deletes a group with its memberships and policies.
pub(crate) fn delete_group(tx: &Tx<'_>, uid: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_memberships WHERE group_uid = $1", params![uid])?;
    tx.execute("DELETE FROM identity_groups WHERE uid = $1", params![uid])?;
    delete_policies_of(tx, uid)
}

/// Deletes a role with its policies.
pub(crate) fn delete_role(tx: &Tx<'_>, uid: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_roles WHERE uid = $1", params![uid])?;
    delete_policies_of(tx, uid)
}

fn delete_policies_of(tx: &Tx<'_>, uid: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_inline_policies WHERE principal_uid = $1", params![uid])?;
    tx.execute("DELETE FROM identity_attachments WHERE principal_uid = $1", params![uid])?;
    Ok(())
}

/// Ends every session and token that was made with this user's or role's credentials.
pub(crate) fn raise_generation(tx: &Tx<'_>, uid: &str) -> Result<(), Error> {
    tx.execute("UPDATE identity_users SET generation = generation + 1 WHERE uid = $1", params![uid])?;
    tx.execute("UPDATE identity_roles SET generation = generation + 1 WHERE uid = $1", params![uid])?;
    Ok(())
}

fn found(row: Row) -> Result<Found, Error> {
    Ok(Found { uid: row.get(0)?, owner: row.get(1)? })
}

/// Names differ by more than case.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

/// The key of a name in an account. No name holds a slash, so no name of one account meets another's.
pub(crate) fn name_key_in(foreign: Option<&AccountId>, name: &str) -> String {
    match foreign {
        None => name_key(name),
        Some(account) => format!("{account}/{}", name_key(name)),
    }
}

/// Tags as they lie in the database: a JSON object.
pub(crate) fn tags_text(tags: &[(String, String)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        tags.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    serde_json::Value::Object(map).to_string()
}
