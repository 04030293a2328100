//! Key rows and links: which object is a blob, and where it may be seen.
//!
//! A link is the only thing that makes a blob visible in a repository.

use registry_sql::{Row, Tx, params};
use registry_types::Digest;

use crate::error::{Error, bytes, length, parse, stored};
use crate::model::{Domain, KeyRow, Link, RepositoryUid};
use crate::{candidates, quotas};

const KEYS: &str = "blob_keys";

/// The epoch that new data keys of the domain are wrapped under; 1 for a domain not seen before.
pub fn active_epoch(tx: &Tx<'_>, domain: &Domain) -> Result<u32, Error> {
    let row =
        tx.query_optional("SELECT active FROM key_epochs WHERE domain = $1", params![domain.as_str()])?;
    Ok(row.map(|row| row.get::<u32>(0)).transpose()?.unwrap_or(1))
}

/// Point read of a key row, whoever may see the blob.
pub fn key(tx: &Tx<'_>, domain: &Domain, digest: &Digest) -> Result<Option<KeyRow>, Error> {
    let row = tx.query_optional(
        "SELECT file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce, wrapped \
         FROM blob_keys WHERE domain = $1 AND digest = $2",
        params![domain.as_str(), digest.as_str()],
    )?;
    row.as_ref().map(key_from_row).transpose()
}

/// Point read of the key row of a blob that is linked in the repository.
pub fn visible_key(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    domain: &Domain,
    digest: &Digest,
) -> Result<Option<KeyRow>, Error> {
    let row = tx.query_optional(
        "SELECT k.file_id, k.dek_id, k.total_len, k.object_len, k.footer_sha256, k.epoch, k.wrap_nonce, \
         k.wrapped FROM blob_links l JOIN blob_keys k ON k.domain = $2 AND k.digest = l.digest \
         WHERE l.repository_uid = $1 AND l.digest = $3",
        params![repository.as_str(), domain.as_str(), digest.as_str()],
    )?;
    row.as_ref().map(key_from_row).transpose()
}

/// Makes `key` the blob's object. Gives the file id of the object it replaces, if that is another one.
pub fn put_key(
    tx: &Tx<'_>,
    domain: &Domain,
    digest: &Digest,
    key: &KeyRow,
    now_ms: i64,
) -> Result<Option<[u8; 16]>, Error> {
    let previous = tx.query_optional(
        "SELECT file_id FROM blob_keys WHERE domain = $1 AND digest = $2",
        params![domain.as_str(), digest.as_str()],
    )?;
    tx.execute(
        "INSERT INTO blob_keys (domain, digest, file_id, dek_id, total_len, object_len, footer_sha256, epoch, \
         wrap_nonce, wrapped, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (domain, digest) DO UPDATE SET file_id = excluded.file_id, dek_id = excluded.dek_id, \
         total_len = excluded.total_len, object_len = excluded.object_len, \
         footer_sha256 = excluded.footer_sha256, epoch = excluded.epoch, wrap_nonce = excluded.wrap_nonce, \
         wrapped = excluded.wrapped, created_at = excluded.created_at",
        params![
            domain.as_str(),
            digest.as_str(),
            key.file_id.to_vec(),
            key.dek_id.to_vec(),
            stored(key.total_len),
            stored(key.object_len),
            key.footer_sha256.to_vec(),
            i64::from(key.epoch),
            key.wrap_nonce.to_vec(),
            key.wrapped.to_vec(),
            now_ms
        ],
    )?;
    let previous = previous.as_ref().map(|row| bytes::<16>(row, 0, KEYS)).transpose()?;
    Ok(previous.filter(|file_id| *file_id != key.file_id))
}

/// Point read of a link.
pub fn link(tx: &Tx<'_>, repository: &RepositoryUid, digest: &Digest) -> Result<Option<Link>, Error> {
    let row = tx.query_optional(
        "SELECT size, linked_at, noted_at FROM blob_links WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest.as_str()],
    )?;
    row.map(|row| {
        Ok(Link { size: length(&row, 0, "blob_links")?, linked_at_ms: row.get(1)?, noted_at_ms: row.get(2)? })
    })
    .transpose()
}

/// Those of eight blobs that are linked, with their sizes.
pub fn sizes(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digests: [&Digest; 8],
) -> Result<Vec<(Digest, u64)>, Error> {
    let [a, b, c, d, e, f, g, h] = digests.map(Digest::as_str);
    let rows = tx.query(
        "SELECT digest, size FROM blob_links \
         WHERE repository_uid = $1 AND digest IN ($2, $3, $4, $5, $6, $7, $8, $9)",
        params![repository.as_str(), a, b, c, d, e, f, g, h],
    )?;
    rows.iter().map(|row| Ok((parse(row, 0, "blob_links")?, length(row, 1, "blob_links")?))).collect()
}

/// Up to `limit` repositories that hold a blob, in no order that means anything.
pub fn holders(tx: &Tx<'_>, digest: &Digest, limit: u32) -> Result<Vec<RepositoryUid>, Error> {
    let rows = tx.query(
        "SELECT repository_uid FROM blob_links WHERE digest = $1 ORDER BY repository_uid LIMIT $2",
        params![digest.as_str(), i64::from(limit)],
    )?;
    rows.iter().map(|row| Ok(RepositoryUid::new(row.get::<String>(0)?))).collect()
}

/// Makes a blob visible, to the collector a candidate until a manifest names it; a link that exists is noted as
/// fresh. False when there was one.
pub fn put_link(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    size: u64,
    now_ms: i64,
) -> Result<bool, Error> {
    let inserted = tx.execute(
        "INSERT INTO blob_links (repository_uid, digest, size, linked_at, noted_at, is_candidate) \
         VALUES ($1, $2, $3, $4, $4, 1) ON CONFLICT (repository_uid, digest) DO NOTHING",
        params![repository.as_str(), digest.as_str(), stored(size), now_ms],
    )?;
    if inserted == 1 {
        quotas::add(tx, repository, stored(size), 0)?;
    } else {
        tx.execute(
            "UPDATE blob_links SET noted_at = $3 WHERE repository_uid = $1 AND digest = $2 AND noted_at < $3",
            params![repository.as_str(), digest.as_str(), now_ms],
        )?;
    }
    Ok(inserted == 1)
}

/// False when the repository had no such link.
pub fn delete_link(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    now_ms: i64,
) -> Result<bool, Error> {
    let Some(link) = link(tx, repository, digest)? else { return Ok(false) };
    tx.execute(
        "DELETE FROM blob_links WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest.as_str()],
    )?;
    quotas::add(tx, repository, -stored(link.size), 0)?;
    candidates::note_digest(tx, digest, now_ms)?;
    Ok(true)
}

/// A blob with its key row, as the walk by file id finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub domain: Domain,
    pub digest: Digest,
    pub key: KeyRow,
}

/// Up to `limit` blobs in the order of their file ids, after `after`.
pub fn objects_after(tx: &Tx<'_>, after: &[u8], limit: u32) -> Result<Vec<Object>, Error> {
    let rows = tx.query(
        "SELECT file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce, wrapped, domain, \
         digest FROM blob_keys WHERE file_id > $1 ORDER BY file_id LIMIT $2",
        params![after.to_vec(), i64::from(limit)],
    )?;
    rows.iter().map(object_from_row).collect()
}

/// The blob whose object this is.
pub fn object(tx: &Tx<'_>, file_id: &[u8; 16]) -> Result<Option<Object>, Error> {
    let row = tx.query_optional(
        "SELECT file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce, wrapped, domain, \
         digest FROM blob_keys WHERE file_id = $1",
        params![file_id.to_vec()],
    )?;
    row.as_ref().map(object_from_row).transpose()
}

/// Whether any row names the object: a key, an upload, or one that is condemned and not yet deleted everywhere.
pub fn is_registered(tx: &Tx<'_>, file_id: &[u8; 16]) -> Result<bool, Error> {
    let file_id = params![file_id.to_vec()];
    let registers = [
        "SELECT 1 FROM blob_keys WHERE file_id = $1",
        "SELECT 1 FROM uploads WHERE file_id = $1",
        "SELECT 1 FROM reserved_objects WHERE file_id = $1",
        "SELECT 1 FROM garbage_objects WHERE file_id = $1",
        "SELECT 1 FROM removals WHERE file_id = $1 LIMIT 1",
    ];
    for register in registers {
        if !tx.query(register, file_id)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn object_from_row(row: &Row) -> Result<Object, Error> {
    Ok(Object {
        key: key_from_row(row)?,
        domain: Domain::new(row.get::<String>(8)?),
        digest: parse(row, 9, KEYS)?,
    })
}

pub(crate) fn key_from_row(row: &Row) -> Result<KeyRow, Error> {
    Ok(KeyRow {
        file_id: bytes(row, 0, KEYS)?,
        dek_id: bytes(row, 1, KEYS)?,
        total_len: length(row, 2, KEYS)?,
        object_len: length(row, 3, KEYS)?,
        footer_sha256: bytes(row, 4, KEYS)?,
        epoch: u32::try_from(row.get::<i64>(5)?).map_err(|_| Error::Corrupt { table: KEYS })?,
        wrap_nonce: bytes(row, 6, KEYS)?,
        wrapped: bytes(row, 7, KEYS)?,
    })
}
