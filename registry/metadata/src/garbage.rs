//! What nothing names any more: objects to delete, and the remains of deleted repositories.
//!
//! Everything here works in batches, so that no transaction grows with what was stored.

use registry_sql::{Tx, params};

use crate::candidates;
use crate::error::{Error, bytes, parse};
use crate::model::RepositoryUid;

/// Notes an object that no key row and no upload names.
pub fn condemn(tx: &Tx<'_>, file_id: &[u8; 16], now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO garbage_objects (file_id, condemned_at) VALUES ($1, $2) ON CONFLICT (file_id) DO NOTHING",
        params![file_id.to_vec(), now_ms],
    )?;
    Ok(())
}

/// Up to `limit` condemned objects in the order of their ids, after `after`.
pub fn condemned_after(tx: &Tx<'_>, after: &[u8], limit: u32) -> Result<Vec<[u8; 16]>, Error> {
    let rows = tx.query(
        "SELECT file_id FROM garbage_objects WHERE file_id > $1 ORDER BY file_id LIMIT $2",
        params![after.to_vec(), i64::from(limit)],
    )?;
    rows.iter().map(|row| bytes(row, 0, "garbage_objects")).collect()
}

/// Forgets an object that the store has deleted, with the repairs it was owed. Replicas of `left_on` could not be
/// asked: they delete their copies later.
pub fn forget(tx: &Tx<'_>, file_id: &[u8; 16], left_on: &[String], now_ms: i64) -> Result<(), Error> {
    for replica in left_on {
        tx.execute(
            "INSERT INTO removals (replica, file_id, queued_at) VALUES ($1, $2, $3) \
             ON CONFLICT (replica, file_id) DO NOTHING",
            params![replica.as_str(), file_id.to_vec(), now_ms],
        )?;
    }
    tx.execute("DELETE FROM garbage_objects WHERE file_id = $1", params![file_id.to_vec()])?;
    tx.execute("DELETE FROM repairs WHERE file_id = $1", params![file_id.to_vec()])?;
    tx.execute("DELETE FROM findings WHERE file_id = $1", params![file_id.to_vec()])?;
    Ok(())
}

/// Up to `limit` objects that went while a replica was away, in the order of their ids.
pub fn removals(tx: &Tx<'_>, replica: &str, limit: u32) -> Result<Vec<[u8; 16]>, Error> {
    let rows = tx.query(
        "SELECT file_id FROM removals WHERE replica = $1 ORDER BY file_id LIMIT $2",
        params![replica, i64::from(limit)],
    )?;
    rows.iter().map(|row| bytes(row, 0, "removals")).collect()
}

/// Notes that a replica holds an object no more.
pub fn removed(tx: &Tx<'_>, replica: &str, file_id: &[u8; 16]) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM removals WHERE replica = $1 AND file_id = $2",
        params![replica, file_id.to_vec()],
    )?;
    Ok(())
}

/// How many objects a replica is still to delete, counted up to `most`.
pub fn count_removals(tx: &Tx<'_>, replica: &str, most: u32) -> Result<u64, Error> {
    let row = tx.query_one(
        "SELECT COUNT(*) FROM (SELECT 1 FROM removals WHERE replica = $1 LIMIT $2) AS counted",
        params![replica, i64::from(most)],
    )?;
    Ok(row.get::<i64>(0)?.unsigned_abs())
}

/// Forgets up to `limit` removals of a replica that is gone. Gives how many.
pub fn drop_removals(tx: &Tx<'_>, replica: &str, limit: u32) -> Result<u64, Error> {
    Ok(tx.execute(
        "DELETE FROM removals WHERE replica = $1 AND file_id IN \
         (SELECT file_id FROM removals WHERE replica = $1 ORDER BY file_id LIMIT $2)",
        params![replica, i64::from(limit)],
    )?)
}

/// One repository whose rows are still to be removed.
pub fn deleted_repository(tx: &Tx<'_>) -> Result<Option<RepositoryUid>, Error> {
    let row = tx.query_optional("SELECT uid FROM deleted_repositories ORDER BY uid LIMIT 1", params![])?;
    row.map(|row| Ok(RepositoryUid::new(row.get::<String>(0)?))).transpose()
}

/// Removes about `limit` rows of a deleted repository; what they named are candidates of the collector from then
/// on. True once nothing of it is left.
pub fn purge_repository(tx: &Tx<'_>, uid: &RepositoryUid, limit: u32, now_ms: i64) -> Result<bool, Error> {
    const NOTHING_ELSE: [&str; 3] = [
        "DELETE FROM tags WHERE repository_uid = $1 AND tag IN \
         (SELECT tag FROM tags WHERE repository_uid = $1 ORDER BY tag LIMIT $2)",
        "DELETE FROM referrers WHERE repository_uid = $1 AND digest IN \
         (SELECT digest FROM referrers WHERE repository_uid = $1 ORDER BY subject, digest LIMIT $2)",
        "DELETE FROM lifecycle_preview_images WHERE repository_uid = $1 AND digest IN \
         (SELECT digest FROM lifecycle_preview_images WHERE repository_uid = $1 ORDER BY digest LIMIT $2)",
    ];
    // Each with what deletes it up to the last one.
    const NAMING: [(&str, &str); 3] = [
        (
            "SELECT digest FROM manifests WHERE repository_uid = $1 ORDER BY digest LIMIT $2",
            "DELETE FROM manifests WHERE repository_uid = $1 AND digest <= $2",
        ),
        (
            "SELECT digest FROM retired_manifests WHERE repository_uid = $1 ORDER BY digest LIMIT $2",
            "DELETE FROM retired_manifests WHERE repository_uid = $1 AND digest <= $2",
        ),
        (
            "SELECT digest FROM blob_links WHERE repository_uid = $1 ORDER BY digest LIMIT $2",
            "DELETE FROM blob_links WHERE repository_uid = $1 AND digest <= $2",
        ),
    ];
    // A manifest names a bounded number of descriptors, so these go one manifest at a time.
    let row = tx.query_optional(
        "SELECT manifest FROM manifest_contents WHERE repository_uid = $1 ORDER BY manifest LIMIT 1",
        params![uid.as_str()],
    )?;
    if let Some(row) = row {
        let manifest = parse(&row, 0, "manifest_contents")?;
        candidates::note_contents(tx, uid, &manifest, now_ms)?;
        tx.execute(
            "DELETE FROM manifest_contents WHERE repository_uid = $1 AND manifest = $2",
            params![uid.as_str(), manifest.as_str()],
        )?;
        return Ok(false);
    }
    for batch in NOTHING_ELSE {
        if tx.execute(batch, params![uid.as_str(), i64::from(limit)])? > 0 {
            return Ok(false);
        }
    }
    for (first, up_to) in NAMING {
        let digests = tx.query(first, params![uid.as_str(), i64::from(limit)])?;
        let Some(last) = digests.last() else { continue };
        for row in &digests {
            candidates::note_digest(tx, &parse(row, 0, "deleted_repositories")?, now_ms)?;
        }
        tx.execute(up_to, params![uid.as_str(), last.get::<String>(0)?])?;
        return Ok(false);
    }
    tx.execute("DELETE FROM deleted_repositories WHERE uid = $1", params![uid.as_str()])?;
    Ok(true)
}
