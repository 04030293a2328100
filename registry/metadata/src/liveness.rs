//! Which blobs are still needed, decided from rows and never from a stored count.
//!
//! A link lives while a manifest of its repository names the blob, or while it is fresh. A key lives while
//! anything at all names its digest. Every deletion asks again in its own statement; what to ask about stands in
//! [`crate::candidates`].

use registry_sql::{Tx, params};
use registry_types::Digest;

use crate::error::{Error, bytes, parse, stored};
use crate::garbage::condemn;
use crate::model::{Domain, RepositoryUid};
use crate::{blobs, candidates, quotas};

/// A link as the collector takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkKey {
    pub repository: RepositoryUid,
    pub digest: Digest,
}

/// A key as the collector takes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    pub domain: Domain,
    pub digest: Digest,
    pub file_id: [u8; 16],
}

/// Removes a link that no manifest of its repository needs and that was not noted since `before_ms`.
pub fn delete_stale_link(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    before_ms: i64,
    now_ms: i64,
) -> Result<bool, Error> {
    let Some(link) = blobs::link(tx, repository, digest)? else { return Ok(false) };
    let deleted = tx.execute(
        "DELETE FROM blob_links WHERE repository_uid = $1 AND digest = $2 AND noted_at < $3 AND NOT EXISTS \
         (SELECT 1 FROM manifest_contents c WHERE c.repository_uid = $1 AND c.digest = $2)",
        params![repository.as_str(), digest.as_str(), before_ms],
    )?;
    if deleted == 1 {
        quotas::add(tx, repository, -stored(link.size), 0)?;
        candidates::note_digest(tx, digest, now_ms)?;
    }
    Ok(deleted == 1)
}

/// Whether a manifest of the repository, or a deleted one that the collector has not let go of, names a blob.
pub(crate) fn is_link_needed(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
) -> Result<bool, Error> {
    let named = tx.query_optional(
        "SELECT 1 FROM manifest_contents WHERE repository_uid = $1 AND digest = $2 LIMIT 1",
        params![repository.as_str(), digest.as_str()],
    )?;
    Ok(named.is_some())
}

/// Notes that somebody relies on a blob without sending it again.
pub fn note_link(tx: &Tx<'_>, repository: &RepositoryUid, digest: &Digest, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE blob_links SET noted_at = $3 WHERE repository_uid = $1 AND digest = $2 AND noted_at < $3",
        params![repository.as_str(), digest.as_str(), now_ms],
    )?;
    Ok(())
}

/// Point read of a key.
pub fn object_key_of(tx: &Tx<'_>, domain: &Domain, digest: &Digest) -> Result<Option<ObjectKey>, Error> {
    let row = tx.query_optional(
        "SELECT domain, digest, file_id FROM blob_keys WHERE domain = $1 AND digest = $2",
        params![domain.as_str(), digest.as_str()],
    )?;
    row.as_ref().map(|row| object_key(row, "blob_keys")).transpose()
}

/// Up to `limit` keys that were condemned, in the order of domain and digest, after `after`.
pub fn condemned_after(tx: &Tx<'_>, after: Option<&ObjectKey>, limit: u32) -> Result<Vec<ObjectKey>, Error> {
    let (domain, digest) = after.map_or(("", ""), |after| (after.domain.as_str(), after.digest.as_str()));
    let rows = tx.query(
        "SELECT domain, digest, file_id FROM condemned_keys WHERE (domain, digest) > ($1, $2) \
         ORDER BY domain, digest LIMIT $3",
        params![domain, digest, i64::from(limit)],
    )?;
    rows.iter().map(|row| object_key(row, "condemned_keys")).collect()
}

/// Whether anything names the digest: a link, a manifest of that digest, a manifest that names it, or a deleted one
/// that the collector has not let go of.
pub fn is_live(tx: &Tx<'_>, digest: &Digest) -> Result<bool, Error> {
    let digest = params![digest.as_str()];
    let named = [
        "SELECT 1 FROM blob_links WHERE digest = $1 LIMIT 1",
        "SELECT 1 FROM manifests WHERE digest = $1 LIMIT 1",
        "SELECT 1 FROM retired_manifests WHERE digest = $1 LIMIT 1",
        "SELECT 1 FROM manifest_contents WHERE digest = $1 LIMIT 1",
    ];
    for query in named {
        if tx.query_optional(query, digest)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Phase one: notes a key that nothing names. False when something does by now.
pub fn condemn_key(tx: &Tx<'_>, key: &ObjectKey, now_ms: i64) -> Result<bool, Error> {
    if is_live(tx, &key.digest)? {
        return Ok(false);
    }
    tx.execute(
        // A condemnation of an object that was replaced since is no good for the one in its place.
        "INSERT INTO condemned_keys (domain, digest, file_id, condemned_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (domain, digest) DO UPDATE SET file_id = excluded.file_id, \
         condemned_at = excluded.condemned_at WHERE condemned_keys.file_id <> excluded.file_id",
        params![key.domain.as_str(), key.digest.as_str(), key.file_id.to_vec(), now_ms],
    )?;
    Ok(true)
}

/// Phase two: deletes a condemned key and condemns its object, unless something names the digest by now or the key
/// is another object's. Either way this condemnation ends; one of the object in its place goes on. True when the key
/// was deleted.
pub fn delete_condemned_key(tx: &Tx<'_>, key: &ObjectKey, now_ms: i64) -> Result<bool, Error> {
    let of_key = params![key.domain.as_str(), key.digest.as_str(), key.file_id.to_vec()];
    let was_condemned =
        tx.execute("DELETE FROM condemned_keys WHERE domain = $1 AND digest = $2 AND file_id = $3", of_key)?;
    if was_condemned == 0 || is_live(tx, &key.digest)? {
        return Ok(false);
    }
    let deleted =
        tx.execute("DELETE FROM blob_keys WHERE domain = $1 AND digest = $2 AND file_id = $3", of_key)?;
    if deleted == 1 {
        condemn(tx, &key.file_id, now_ms)?;
    }
    Ok(deleted == 1)
}

pub(crate) fn link_key(row: &registry_sql::Row) -> Result<LinkKey, Error> {
    Ok(LinkKey {
        repository: RepositoryUid::new(row.get::<String>(0)?),
        digest: parse(row, 1, "blob_links")?,
    })
}

pub(crate) fn object_key(row: &registry_sql::Row, table: &'static str) -> Result<ObjectKey, Error> {
    Ok(ObjectKey {
        domain: Domain::new(row.get::<String>(0)?),
        digest: parse(row, 1, table)?,
        file_id: bytes(row, 2, table)?,
    })
}
