//! Instance profiles: a name under which a role is handed to hosts.

use registry_sql::{Error, Row, Tx, params};

use super::entities::{limit_of, tags_of};
use super::principals::{name_key, tags_text};

#[derive(Clone, Debug)]
pub(crate) struct InstanceProfile {
    /// `AIPA…`
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) created_ms: i64,
    /// The one role it may hold.
    pub(crate) role_uid: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
}

impl InstanceProfile {
    /// The name, folded: the order of lists.
    pub(crate) fn key(&self) -> String {
        name_key(&self.name)
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT uid, name, path, created_ms, role_uid, tags FROM identity_instance_profiles ", $rest)
    };
}

pub(crate) fn insert(tx: &Tx<'_>, profile: &InstanceProfile) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_instance_profiles (uid, name, name_key, path, created_ms, role_uid, tags) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            profile.uid.as_str(),
            profile.name.as_str(),
            profile.key(),
            profile.path.as_str(),
            profile.created_ms,
            profile.role_uid.clone(),
            tags_text(&profile.tags)
        ],
    )?;
    Ok(())
}

pub(crate) fn find(tx: &Tx<'_>, name: &str) -> Result<Option<InstanceProfile>, Error> {
    let row = tx.query_optional(select!("WHERE name_key = $1"), params![name_key(name)])?;
    row.as_ref().map(profile).transpose()
}

/// In the order of their keys, behind one.
pub(crate) fn list(tx: &Tx<'_>, after: &str, limit: usize) -> Result<Vec<InstanceProfile>, Error> {
    let sql = select!("WHERE name_key > $1 ORDER BY name_key LIMIT $2");
    tx.query(sql, params![after, limit_of(limit)])?.iter().map(profile).collect()
}

/// Those that hold a role, in the order of their keys.
pub(crate) fn of_role(
    tx: &Tx<'_>,
    role_uid: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<InstanceProfile>, Error> {
    let sql = select!("WHERE role_uid = $1 AND name_key > $2 ORDER BY name_key LIMIT $3");
    tx.query(sql, params![role_uid, after, limit_of(limit)])?.iter().map(profile).collect()
}

pub(crate) fn set_role(tx: &Tx<'_>, uid: &str, role_uid: Option<&str>) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_instance_profiles SET role_uid = $2 WHERE uid = $1",
        params![uid, role_uid.map(str::to_owned)],
    )?;
    Ok(())
}

pub(crate) fn set_tags(tx: &Tx<'_>, uid: &str, tags: &[(String, String)]) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_instance_profiles SET tags = $2 WHERE uid = $1",
        params![uid, tags_text(tags)],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, uid: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_instance_profiles WHERE uid = $1", params![uid])?;
    Ok(())
}

pub(crate) fn count(tx: &Tx<'_>) -> Result<i64, Error> {
    tx.query_one("SELECT COUNT(*) FROM identity_instance_profiles", &[])?.get(0)
}

fn profile(row: &Row) -> Result<InstanceProfile, Error> {
    Ok(InstanceProfile {
        uid: row.get(0)?,
        name: row.get(1)?,
        path: row.get(2)?,
        created_ms: row.get(3)?,
        role_uid: row.get(4)?,
        tags: tags_of(&row.get::<String>(5)?),
    })
}
