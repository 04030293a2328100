//! Rules by which repositories are filled from other registries, and what is known of tags that came that way.

use registry_sql::{Row, Tx, params};
use registry_types::{Digest, Tag};

use crate::error::{Error, length, parse};
use crate::model::RepositoryUid;

const TABLE: &str = "pull_through_rules";

/// One rule. Its credentials are sealed for it by whoever writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// Of repositories here; empty for all.
    pub prefix: String,
    pub upstream_url: String,
    /// ECR's word for the kind of upstream.
    pub upstream_registry: Option<String>,
    /// Of repositories there; empty for none.
    pub upstream_prefix: String,
    pub sealed_credentials: Option<Vec<u8>>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

/// A tag, and when it was last compared with the upstream it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTag {
    pub digest: Digest,
    /// `None` for one that was pushed here.
    pub checked_at_ms: Option<i64>,
}

/// Every rule, in the order of their prefixes; there are at most as many as `insert` was told.
pub fn all(tx: &Tx<'_>) -> Result<Vec<RuleRow>, Error> {
    let rows = tx.query(
        "SELECT prefix, upstream_url, upstream_registry, upstream_prefix, sealed_credentials, created_at, \
         updated_at FROM pull_through_rules ORDER BY prefix",
        params![],
    )?;
    rows.iter().map(from_row).collect()
}

/// Point read.
pub fn by_prefix(tx: &Tx<'_>, prefix: &str) -> Result<Option<RuleRow>, Error> {
    let row = tx.query_optional(
        "SELECT prefix, upstream_url, upstream_registry, upstream_prefix, sealed_credentials, created_at, \
         updated_at FROM pull_through_rules WHERE prefix = $1",
        params![prefix],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// False when the prefix has a rule already.
pub fn insert(tx: &Tx<'_>, rule: &RuleRow) -> Result<bool, Error> {
    let inserted = tx.execute(
        "INSERT INTO pull_through_rules (prefix, upstream_url, upstream_registry, upstream_prefix, \
         sealed_credentials, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (prefix) DO NOTHING",
        params![
            rule.prefix.as_str(),
            rule.upstream_url.as_str(),
            rule.upstream_registry.as_deref(),
            rule.upstream_prefix.as_str(),
            rule.sealed_credentials.clone(),
            rule.created_at_ms,
            rule.updated_at_ms
        ],
    )?;
    Ok(inserted == 1)
}

/// Sets or removes the credentials of a rule.
pub fn set_credentials(
    tx: &Tx<'_>,
    prefix: &str,
    sealed_credentials: Option<&[u8]>,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE pull_through_rules SET sealed_credentials = $2, updated_at = $3 WHERE prefix = $1",
        params![prefix, sealed_credentials.map(<[u8]>::to_vec), now_ms],
    )?;
    Ok(())
}

pub fn delete(tx: &Tx<'_>, prefix: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM pull_through_rules WHERE prefix = $1", params![prefix])?;
    Ok(())
}

/// Point read.
pub fn tag(tx: &Tx<'_>, repository: &RepositoryUid, tag: &Tag) -> Result<Option<UpstreamTag>, Error> {
    let row = tx.query_optional(
        "SELECT digest, upstream_checked_at FROM tags WHERE repository_uid = $1 AND tag = $2",
        params![repository.as_str(), tag.as_str()],
    )?;
    row.map(|row| Ok(UpstreamTag { digest: parse(&row, 0, "tags")?, checked_at_ms: row.get(1)? })).transpose()
}

/// Notes that a tag which points at `digest` is as its upstream has it; another one is left as it is.
pub fn note_checked(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    tag: &Tag,
    digest: &Digest,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE tags SET upstream_checked_at = $4 WHERE repository_uid = $1 AND tag = $2 AND digest = $3",
        params![repository.as_str(), tag.as_str(), digest.as_str(), now_ms],
    )?;
    Ok(())
}

/// Notes that a tag is nobody's but the repository's; false when it was already.
pub fn forget_checked(tx: &Tx<'_>, repository: &RepositoryUid, tag: &Tag) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE tags SET upstream_checked_at = NULL \
         WHERE repository_uid = $1 AND tag = $2 AND upstream_checked_at IS NOT NULL",
        params![repository.as_str(), tag.as_str()],
    )?;
    Ok(changed > 0)
}

/// The size that a manifest of the repository states for content it names; `None` when none names it.
pub fn stated_size(tx: &Tx<'_>, repository: &RepositoryUid, content: &Digest) -> Result<Option<u64>, Error> {
    let row = tx.query_optional(
        // Naming the kind makes SQLite search by the digest: by the primary key it would go through everything that the
        // repository's manifests name.
        "SELECT c.size FROM manifest_contents c \
         JOIN manifests m ON m.repository_uid = c.repository_uid AND m.digest = c.manifest \
         WHERE c.repository_uid = $1 AND c.digest = $2 AND c.kind >= '' LIMIT 1",
        params![repository.as_str(), content.as_str()],
    )?;
    row.map(|row| length(&row, 0, "manifest_contents")).transpose()
}

fn from_row(row: &Row) -> Result<RuleRow, Error> {
    let sealed_credentials: Option<Vec<u8>> = row.get(4)?;
    if sealed_credentials.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::Corrupt { table: TABLE });
    }
    Ok(RuleRow {
        prefix: row.get(0)?,
        upstream_url: row.get(1)?,
        upstream_registry: row.get(2)?,
        upstream_prefix: row.get(3)?,
        sealed_credentials,
        created_at_ms: row.get(5)?,
        updated_at_ms: row.get(6)?,
    })
}
