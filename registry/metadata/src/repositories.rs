//! Repositories by name and uid, and their settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use registry_sql::{Row, Tx, params};
use registry_types::RepositoryName;

use crate::error::{Error, parse};
use crate::model::{
    Domain, EncryptionType, ImmutabilityExclusion, Repository, RepositoryPolicy, RepositoryUid, TagMutability,
};
use crate::{lifecycle, quotas};

const TABLE: &str = "repositories";

/// Point read by name.
pub fn by_name(tx: &Tx<'_>, name: &RepositoryName) -> Result<Option<Repository>, Error> {
    let row = tx.query_optional(
        "SELECT uid, name, created_at, domain, tag_mutability, mutability_filters, policy, policy_version, \
         resource_tags, scan_on_push, encryption_type FROM repositories WHERE name = $1",
        params![name.as_str()],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// Point read by uid: whether this incarnation still exists.
pub fn by_uid(tx: &Tx<'_>, uid: &RepositoryUid) -> Result<Option<Repository>, Error> {
    let row = tx.query_optional(
        "SELECT uid, name, created_at, domain, tag_mutability, mutability_filters, policy, policy_version, \
         resource_tags, scan_on_push, encryption_type FROM repositories WHERE uid = $1",
        params![uid.as_str()],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// False when the name is taken; nothing changes then.
pub fn insert(tx: &Tx<'_>, repository: &Repository) -> Result<bool, Error> {
    let policy = repository.policy.as_ref().map(|policy| policy.text.to_string());
    let policy_version = repository.policy.as_ref().map_or(0, |policy| policy.version);
    let inserted = tx.execute(
        "INSERT INTO repositories (uid, name, created_at, domain, tag_mutability, mutability_filters, policy, \
         policy_version, resource_tags, scan_on_push, encryption_type) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING",
        params![
            repository.uid.as_str(),
            repository.name.as_str(),
            repository.created_at_ms,
            repository.domain.as_str(),
            repository.tag_mutability.as_str(),
            filters_text(&repository.tag_mutability),
            policy,
            policy_version,
            tags_text(&repository.resource_tags),
            i64::from(repository.scan_on_push),
            repository.encryption_type.as_str()
        ],
    )?;
    if inserted == 1 {
        quotas::begin(tx, &repository.uid)?;
    }
    Ok(inserted == 1)
}

/// Removes the row and notes the uid for [`crate::garbage::purge_repository`]. False when it was gone.
pub fn delete(tx: &Tx<'_>, uid: &RepositoryUid, now_ms: i64) -> Result<bool, Error> {
    quotas::end(tx, uid)?;
    lifecycle::end(tx, uid)?;
    let deleted = tx.execute("DELETE FROM repositories WHERE uid = $1", params![uid.as_str()])?;
    if deleted == 1 {
        tx.execute(
            "INSERT INTO deleted_repositories (uid, deleted_at) VALUES ($1, $2) ON CONFLICT (uid) DO NOTHING",
            params![uid.as_str(), now_ms],
        )?;
    }
    Ok(deleted == 1)
}

/// Up to `limit` repositories in the order of their names, after `after`.
pub fn list_after(tx: &Tx<'_>, after: &str, limit: u32) -> Result<Vec<Repository>, Error> {
    let rows = tx.query(
        "SELECT uid, name, created_at, domain, tag_mutability, mutability_filters, policy, policy_version, \
         resource_tags, scan_on_push, encryption_type FROM repositories WHERE name > $1 ORDER BY name LIMIT $2",
        params![after, i64::from(limit)],
    )?;
    rows.iter().map(from_row).collect()
}

/// Replaces or removes the policy; its version rises either way. False when the repository is gone.
pub fn set_policy(tx: &Tx<'_>, uid: &RepositoryUid, text: Option<&str>) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE repositories SET policy = $2, policy_version = policy_version + 1 WHERE uid = $1",
        params![uid.as_str(), text.map(str::to_owned)],
    )?;
    Ok(changed == 1)
}

/// False when the repository is gone.
pub fn set_tag_mutability(
    tx: &Tx<'_>,
    uid: &RepositoryUid,
    mutability: &TagMutability,
) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE repositories SET tag_mutability = $2, mutability_filters = $3 WHERE uid = $1",
        params![uid.as_str(), mutability.as_str(), filters_text(mutability)],
    )?;
    Ok(changed == 1)
}

/// False when the repository is gone.
pub fn set_scan_on_push(tx: &Tx<'_>, uid: &RepositoryUid, scan_on_push: bool) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE repositories SET scan_on_push = $2 WHERE uid = $1",
        params![uid.as_str(), i64::from(scan_on_push)],
    )?;
    Ok(changed == 1)
}

/// False when the repository is gone.
pub fn set_resource_tags(
    tx: &Tx<'_>,
    uid: &RepositoryUid,
    tags: &BTreeMap<String, String>,
) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE repositories SET resource_tags = $2 WHERE uid = $1",
        params![uid.as_str(), tags_text(tags)],
    )?;
    Ok(changed == 1)
}

fn filters_text(mutability: &TagMutability) -> String {
    let patterns: Vec<&str> = mutability.exclusions().iter().map(|filter| filter.0.as_str()).collect();
    serde_json::to_string(&patterns).expect("a list of strings is JSON")
}

fn tags_text(tags: &BTreeMap<String, String>) -> String {
    serde_json::to_string(tags).expect("a map of strings is JSON")
}

fn from_row(row: &Row) -> Result<Repository, Error> {
    let corrupt = || Error::Corrupt { table: TABLE };
    let filters: Vec<String> = serde_json::from_str(&row.get::<String>(5)?).map_err(|_| corrupt())?;
    let filters = filters.into_iter().map(ImmutabilityExclusion).collect();
    let version = row.get::<i64>(7)?;
    let policy =
        row.get::<Option<String>>(6)?.map(|text| RepositoryPolicy { text: Arc::from(text), version });
    Ok(Repository {
        uid: RepositoryUid::new(row.get::<String>(0)?),
        name: parse(row, 1, TABLE)?,
        created_at_ms: row.get(2)?,
        domain: Domain::new(row.get::<String>(3)?),
        tag_mutability: TagMutability::from_parts(&row.get::<String>(4)?, filters).ok_or_else(corrupt)?,
        policy,
        resource_tags: serde_json::from_str(&row.get::<String>(8)?).map_err(|_| corrupt())?,
        scan_on_push: row.get::<i64>(9)? != 0,
        encryption_type: EncryptionType::parse(&row.get::<String>(10)?).ok_or_else(corrupt)?,
    })
}
