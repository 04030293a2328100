//! Managed policies, inline policies, attachments, and the resource policies that files own.

use registry_sql::{Error, Row, Tx, params};
use registry_types::AccountId;

use super::entities::{limit_of, tags_of};
use super::{Owner, principals};

/// A managed policy to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewManagedPolicy {
    pub(crate) arn: String,
    /// `ANPA…`
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) document: String,
    pub(crate) owner: Owner,
    /// The other account it belongs to; none for the one that owns everything here.
    pub(crate) foreign: Option<AccountId>,
}

pub(crate) fn insert_managed(tx: &Tx<'_>, policy: &NewManagedPolicy, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_managed_policies \
         (arn, uid, name, name_key, path, document, created_ms, updated_ms, owner) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
        params![
            policy.arn.as_str(),
            policy.uid.as_str(),
            policy.name.as_str(),
            principals::name_key_in(policy.foreign.as_ref(), &policy.name),
            policy.path.as_str(),
            policy.document.as_str(),
            now_ms,
            policy.owner.as_str()
        ],
    )?;
    Ok(())
}

pub(crate) fn attach(tx: &Tx<'_>, principal_uid: &str, policy_arn: &str, owner: Owner) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_attachments (principal_uid, policy_arn, owner) VALUES ($1, $2, $3) \
         ON CONFLICT (principal_uid, policy_arn) DO NOTHING",
        params![principal_uid, policy_arn, owner.as_str()],
    )?;
    Ok(())
}

/// Detaches a policy. False when it was not attached.
pub(crate) fn detach(tx: &Tx<'_>, principal_uid: &str, policy_arn: &str) -> Result<bool, Error> {
    let changed = tx.execute(
        "DELETE FROM identity_attachments WHERE principal_uid = $1 AND policy_arn = $2",
        params![principal_uid, policy_arn],
    )?;
    Ok(changed > 0)
}

pub(crate) fn put_inline(
    tx: &Tx<'_>,
    principal_uid: &str,
    name: &str,
    document: &str,
    owner: Owner,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_inline_policies (principal_uid, name, document, owner) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (principal_uid, name) DO UPDATE SET document = excluded.document, owner = excluded.owner",
        params![principal_uid, name, document, owner.as_str()],
    )?;
    Ok(())
}

/// Adds a policy of files to a resource, named by its whole ARN.
pub(crate) fn insert_resource_policy(
    tx: &Tx<'_>,
    resource: &str,
    name: &str,
    document: &str,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_resource_policies (resource, name, document) VALUES ($1, $2, $3)",
        params![resource, name, document],
    )?;
    Ok(())
}

/// A managed policy that the account has.
#[derive(Clone, Debug)]
pub(crate) struct ManagedPolicy {
    pub(crate) uid: String,
    pub(crate) arn: String,
    pub(crate) name: String,
    /// The name, folded: the order of lists.
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) description: String,
    /// The one in effect.
    pub(crate) document: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) owner: Owner,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) default_version: i64,
    /// The highest that was ever given.
    pub(crate) last_version: i64,
}

/// A version of a managed policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyVersion {
    pub(crate) version: i64,
    pub(crate) document: String,
    pub(crate) created_ms: i64,
}

macro_rules! select_managed {
    ($rest:literal) => {
        concat!(
            "SELECT uid, arn, name, name_key, path, description, document, created_ms, updated_ms, owner, tags, \
             default_version, last_version FROM identity_managed_policies ",
            $rest
        )
    };
}

/// By its whole ARN.
pub(crate) fn find(tx: &Tx<'_>, arn: &str) -> Result<Option<ManagedPolicy>, Error> {
    let row = tx.query_optional(select_managed!("WHERE arn = $1"), params![arn])?;
    row.as_ref().map(managed_policy).transpose()
}

pub(crate) fn find_by_name(tx: &Tx<'_>, name: &str) -> Result<Option<ManagedPolicy>, Error> {
    let row =
        tx.query_optional(select_managed!("WHERE name_key = $1"), params![principals::name_key(name)])?;
    row.as_ref().map(managed_policy).transpose()
}

/// In the order of their keys, behind one; those of other accounts left out.
pub(crate) fn list(tx: &Tx<'_>, after: &str, limit: usize) -> Result<Vec<ManagedPolicy>, Error> {
    let sql = select_managed!("WHERE name_key > $1 AND name_key NOT LIKE '%/%' ORDER BY name_key LIMIT $2");
    tx.query(sql, params![after, limit_of(limit)])?.iter().map(managed_policy).collect()
}

/// Whether there is a managed policy of this ARN, shipped or stored.
pub(crate) fn managed_policy_exists(tx: &Tx<'_>, arn: &str) -> Result<bool, Error> {
    if policies::managed::by_arn(arn).is_some() {
        return Ok(true);
    }
    let sql = "SELECT arn FROM identity_managed_policies WHERE arn = $1";
    Ok(tx.query_optional(sql, params![arn])?.is_some())
}

/// What is said of a policy beside its document.
pub(crate) fn describe(
    tx: &Tx<'_>,
    arn: &str,
    description: &str,
    tags: &[(String, String)],
) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_managed_policies SET description = $2, tags = $3 WHERE arn = $1",
        params![arn, description, principals::tags_text(tags)],
    )?;
    Ok(())
}

pub(crate) fn delete_managed(tx: &Tx<'_>, policy: &ManagedPolicy) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_policy_versions WHERE policy_uid = $1", params![policy.uid.as_str()])?;
    tx.execute("DELETE FROM identity_managed_policies WHERE uid = $1", params![policy.uid.as_str()])?;
    Ok(())
}

/// Keeps a version, and that its number was given.
pub(crate) fn insert_version(tx: &Tx<'_>, policy_uid: &str, version: &PolicyVersion) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_policy_versions (policy_uid, version, document, created_ms) \
         VALUES ($1, $2, $3, $4)",
        params![policy_uid, version.version, version.document.as_str(), version.created_ms],
    )?;
    tx.execute(
        "UPDATE identity_managed_policies SET last_version = $2 WHERE uid = $1",
        params![policy_uid, version.version],
    )?;
    Ok(())
}

/// Puts a version into effect.
pub(crate) fn set_default_version(
    tx: &Tx<'_>,
    policy_uid: &str,
    version: &PolicyVersion,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_managed_policies SET default_version = $2, document = $3, updated_ms = $4 \
         WHERE uid = $1",
        params![policy_uid, version.version, version.document.as_str(), now_ms],
    )?;
    Ok(())
}

/// Every version of a policy, the newest first. Policies of files keep no others: their one is made of what they say.
pub(crate) fn versions(tx: &Tx<'_>, policy: &ManagedPolicy) -> Result<Vec<PolicyVersion>, Error> {
    let rows = tx.query(
        "SELECT version, document, created_ms FROM identity_policy_versions WHERE policy_uid = $1 \
         ORDER BY version DESC",
        params![policy.uid.as_str()],
    )?;
    if rows.is_empty() {
        return Ok(vec![PolicyVersion {
            version: policy.default_version,
            document: policy.document.clone(),
            created_ms: policy.updated_ms,
        }]);
    }
    let version = |row: &Row| {
        Ok(PolicyVersion { version: row.get(0)?, document: row.get(1)?, created_ms: row.get(2)? })
    };
    rows.iter().map(version).collect()
}

pub(crate) fn delete_version(tx: &Tx<'_>, policy_uid: &str, version: i64) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM identity_policy_versions WHERE policy_uid = $1 AND version = $2",
        params![policy_uid, version],
    )?;
    Ok(())
}

/// To how many principals a policy is attached, and how many it bounds.
pub(crate) fn uses(tx: &Tx<'_>, arn: &str) -> Result<(i64, i64), Error> {
    let count = |sql| tx.query_one(sql, params![arn])?.get::<i64>(0);
    let attached = count("SELECT COUNT(*) FROM identity_attachments WHERE policy_arn = $1")?;
    let users = count("SELECT COUNT(*) FROM identity_users WHERE boundary = $1")?;
    let roles = count("SELECT COUNT(*) FROM identity_roles WHERE boundary = $1")?;
    Ok((attached, users + roles))
}

/// Uids of the principals that a policy is attached to, in order, behind one.
pub(crate) fn attached_principals(
    tx: &Tx<'_>,
    arn: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, Error> {
    let sql = "SELECT principal_uid FROM identity_attachments WHERE policy_arn = $1 AND principal_uid > $2 \
               ORDER BY principal_uid LIMIT $3";
    tx.query(sql, params![arn, after, limit_of(limit)])?.iter().map(|row| row.get(0)).collect()
}

/// Uids of the principals that a policy bounds, in order, behind one.
pub(crate) fn bounded_principals(
    tx: &Tx<'_>,
    arn: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, Error> {
    let mut uids: Vec<String> = Vec::new();
    for sql in [
        "SELECT uid FROM identity_users WHERE boundary = $1 AND uid > $2 ORDER BY uid LIMIT $3",
        "SELECT uid FROM identity_roles WHERE boundary = $1 AND uid > $2 ORDER BY uid LIMIT $3",
    ] {
        for row in tx.query(sql, params![arn, after, limit_of(limit)])? {
            uids.push(row.get(0)?);
        }
    }
    uids.sort();
    uids.truncate(limit);
    Ok(uids)
}

/// ARNs of the managed policies of a principal, in order. There are few.
pub(crate) fn attached_to(tx: &Tx<'_>, principal_uid: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT policy_arn FROM identity_attachments WHERE principal_uid = $1 ORDER BY policy_arn";
    tx.query(sql, params![principal_uid])?.iter().map(|row| row.get(0)).collect()
}

/// The inline policies of a principal by name: (name, document). There are few.
pub(crate) fn inline_of(tx: &Tx<'_>, principal_uid: &str) -> Result<Vec<(String, String)>, Error> {
    let sql = "SELECT name, document FROM identity_inline_policies WHERE principal_uid = $1 ORDER BY name";
    tx.query(sql, params![principal_uid])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Deletes an inline policy. False when there is none.
pub(crate) fn delete_inline(tx: &Tx<'_>, principal_uid: &str, name: &str) -> Result<bool, Error> {
    let deleted = tx.execute(
        "DELETE FROM identity_inline_policies WHERE principal_uid = $1 AND name = $2",
        params![principal_uid, name],
    )?;
    Ok(deleted > 0)
}

/// How many the account has.
pub(crate) fn count(tx: &Tx<'_>) -> Result<i64, Error> {
    let sql = "SELECT COUNT(*) FROM identity_managed_policies WHERE name_key NOT LIKE '%/%'";
    tx.query_one(sql, &[])?.get(0)
}

fn managed_policy(row: &Row) -> Result<ManagedPolicy, Error> {
    Ok(ManagedPolicy {
        uid: row.get(0)?,
        arn: row.get(1)?,
        name: row.get(2)?,
        key: row.get(3)?,
        path: row.get(4)?,
        description: row.get(5)?,
        document: row.get(6)?,
        created_ms: row.get(7)?,
        updated_ms: row.get(8)?,
        owner: Owner::parse(&row.get::<String>(9)?),
        tags: tags_of(&row.get::<String>(10)?),
        default_version: row.get(11)?,
        last_version: row.get(12)?,
    })
}
