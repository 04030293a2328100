//! What repositories hold, and the bounds on it.
//!
//! Bytes are those of the blobs and manifests that are visible in a repository, however many repositories share
//! them; images are its manifests. Whoever adds or removes a row of either says so here, in the same
//! transaction, so that a bound is decided by one read and never by counting.

use registry_sql::{Row, Tx, params};
use registry_types::RepositoryName;

use crate::error::{Error, length, stored};
use crate::model::{Quota, RepositoryUid, Usage};

const TABLE: &str = "quotas";

/// A repository that was made; it holds nothing.
pub(crate) fn begin(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO repository_usage (repository_uid, bytes, images) VALUES ($1, 0, 0) \
         ON CONFLICT (repository_uid) DO NOTHING",
        params![repository.as_str()],
    )?;
    Ok(())
}

/// A repository that is about to be deleted; its row still stands.
pub(crate) fn end(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<(), Error> {
    let usage = usage(tx, repository)?;
    add(tx, repository, -stored(usage.bytes), -stored(usage.images))?;
    tx.execute("DELETE FROM repository_usage WHERE repository_uid = $1", params![repository.as_str()])?;
    Ok(())
}

/// Counts what was added to a repository, or removed. Deleted repositories count no more.
pub(crate) fn add(tx: &Tx<'_>, repository: &RepositoryUid, bytes: i64, images: i64) -> Result<(), Error> {
    let counted = tx.query_optional(
        "UPDATE repository_usage SET bytes = bytes + $2, images = images + $3 WHERE repository_uid = $1 \
         RETURNING (SELECT name FROM repositories r WHERE r.uid = $1)",
        params![repository.as_str(), bytes, images],
    )?;
    let Some(name) = counted.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten() else {
        return Ok(());
    };
    for [a, b, c, d] in prefixes(&name) {
        tx.execute(
            "UPDATE quotas SET bytes = bytes + $5, images = images + $6 WHERE prefix IN ($1, $2, $3, $4)",
            params![a, b, c, d, bytes, images],
        )?;
    }
    Ok(())
}

/// Every prefix that covers a name, the empty one first, by fours so that each statement has as many; the last four
/// are filled up with the name itself.
fn prefixes(name: &str) -> Vec<[&str; 4]> {
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    let all: Vec<&str> = std::iter::once("").chain(ends.map(|end| &name[..end])).collect();
    all.chunks(4).map(|some| std::array::from_fn(|at| some.get(at).copied().unwrap_or(name))).collect()
}

/// What a repository holds; nothing when it is not there.
pub fn usage(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<Usage, Error> {
    let row = tx.query_optional(
        "SELECT bytes, images FROM repository_usage WHERE repository_uid = $1",
        params![repository.as_str()],
    )?;
    row.map_or(Ok(Usage::default()), |row| usage_from_row(&row, 0))
}

/// Sets the bounds of a prefix, which is empty or a repository's name; what lies below it is added up anew.
pub fn put(tx: &Tx<'_>, prefix: &str, max: Quota) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO quotas (prefix, max_bytes, max_images, bytes, images) \
         SELECT $1, CAST($2 AS BIGINT), CAST($3 AS BIGINT), COALESCE(SUM(u.bytes), 0), COALESCE(SUM(u.images), 0) \
         FROM repository_usage u JOIN repositories r ON r.uid = u.repository_uid \
         WHERE $1 = '' OR r.name = $1 OR substr(r.name, 1, length($1) + 1) = $1 || '/' \
         ON CONFLICT (prefix) DO UPDATE SET max_bytes = excluded.max_bytes, max_images = excluded.max_images, \
         bytes = excluded.bytes, images = excluded.images",
        params![prefix, max.max_bytes.map(stored), max.max_images.map(stored)],
    )?;
    Ok(())
}

/// Point read.
pub fn by_prefix(tx: &Tx<'_>, prefix: &str) -> Result<Option<(String, Quota, Usage)>, Error> {
    let row = tx.query_optional(
        "SELECT prefix, max_bytes, max_images, bytes, images FROM quotas WHERE prefix = $1",
        params![prefix],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// False when the prefix has no bounds.
pub fn delete(tx: &Tx<'_>, prefix: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM quotas WHERE prefix = $1", params![prefix])? == 1)
}

/// Up to `limit` quotas in the order of their prefixes, after `after`; from the first without it.
pub fn list_after(
    tx: &Tx<'_>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, Quota, Usage)>, Error> {
    let rows = tx.query(
        "SELECT prefix, max_bytes, max_images, bytes, images FROM quotas \
         WHERE $1 = 0 OR prefix > $2 ORDER BY prefix LIMIT $3",
        params![i64::from(after.is_some()), after.unwrap_or_default(), i64::from(limit)],
    )?;
    rows.iter().map(from_row).collect()
}

/// Every quota that a repository of this name counts for, the widest first.
pub fn covering(tx: &Tx<'_>, name: &RepositoryName) -> Result<Vec<(String, Quota, Usage)>, Error> {
    let mut covering = Vec::new();
    for [a, b, c, d] in prefixes(name.as_str()) {
        let rows = tx.query(
            "SELECT prefix, max_bytes, max_images, bytes, images FROM quotas \
             WHERE prefix IN ($1, $2, $3, $4) ORDER BY prefix",
            params![a, b, c, d],
        )?;
        covering.extend(rows.iter().map(from_row).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(covering)
}

fn from_row(row: &Row) -> Result<(String, Quota, Usage), Error> {
    let bound = |index| match row.get::<Option<i64>>(index)? {
        Some(bound) => u64::try_from(bound).map(Some).map_err(|_| Error::Corrupt { table: TABLE }),
        None => Ok(None),
    };
    let quota = Quota { max_bytes: bound(1)?, max_images: bound(2)? };
    Ok((row.get(0)?, quota, usage_from_row(row, 3)?))
}

fn usage_from_row(row: &Row, first: usize) -> Result<Usage, Error> {
    Ok(Usage { bytes: length(row, first, TABLE)?, images: length(row, first + 1, TABLE)? })
}
