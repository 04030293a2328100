//! Who refers to a manifest: read by subject, whether the subject exists or not.
//!
//! Annotations are content, so they are stored sealed; this room never sees them open. A page is first
//! planned from lengths, then its annotations are read, so that no page holds more than was planned.

use registry_sql::{Row, Tx, params};
use registry_types::{Digest, MediaType};

use crate::error::{Error, length, parse, stored};
use crate::model::{ReferrerKey, RepositoryUid};

const TABLE: &str = "referrers";

/// A manifest's place in its subject's list. One that exists stays as it is.
pub fn insert(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    subject: &Digest,
    referrer: &ReferrerKey,
    annotations_sealed: Option<&[u8]>,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO referrers (repository_uid, subject, digest, media_type, size, artifact_type, \
         annotations_len, annotations_sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (repository_uid, subject, digest) DO NOTHING",
        params![
            repository.as_str(),
            subject.as_str(),
            referrer.digest.as_str(),
            referrer.media_type.as_str(),
            stored(referrer.size),
            referrer.artifact_type.as_str(),
            stored(referrer.annotations_len),
            annotations_sealed.map(<[u8]>::to_vec)
        ],
    )?;
    Ok(())
}

/// Up to `limit` referrers in the order of their digests, after `after`.
pub fn list_after(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    subject: &Digest,
    after: &str,
    limit: u32,
) -> Result<Vec<ReferrerKey>, Error> {
    let rows = tx.query(
        "SELECT digest, media_type, size, artifact_type, annotations_len FROM referrers \
         WHERE repository_uid = $1 AND subject = $2 AND digest > $3 ORDER BY digest LIMIT $4",
        params![repository.as_str(), subject.as_str(), after, i64::from(limit)],
    )?;
    rows.iter().map(from_row).collect()
}

/// The same, of one artifact type.
pub fn list_of_type_after(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    subject: &Digest,
    artifact_type: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<ReferrerKey>, Error> {
    let rows = tx.query(
        "SELECT digest, media_type, size, artifact_type, annotations_len FROM referrers \
         WHERE repository_uid = $1 AND subject = $2 AND artifact_type = $3 AND digest > $4 \
         ORDER BY digest LIMIT $5",
        params![repository.as_str(), subject.as_str(), artifact_type, after, i64::from(limit)],
    )?;
    rows.iter().map(from_row).collect()
}

/// Point read of the sealed annotations.
pub fn annotations(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    subject: &Digest,
    digest: &Digest,
) -> Result<Option<Vec<u8>>, Error> {
    let row = tx.query_optional(
        "SELECT annotations_sealed FROM referrers WHERE repository_uid = $1 AND subject = $2 AND digest = $3",
        params![repository.as_str(), subject.as_str(), digest.as_str()],
    )?;
    match row {
        Some(row) => Ok(row.get(0)?),
        None => Ok(None),
    }
}

fn from_row(row: &Row) -> Result<ReferrerKey, Error> {
    Ok(ReferrerKey {
        digest: parse(row, 0, TABLE)?,
        media_type: MediaType::from_content_type(&row.get::<String>(1)?),
        size: length(row, 2, TABLE)?,
        artifact_type: row.get(3)?,
        annotations_len: length(row, 4, TABLE)?,
    })
}
