//! Manifests and what they name.
//!
//! A manifest's row makes it visible; the rows of what it names pin content and make nothing visible.

use registry_sql::{Row, Tx, Value, params};
use registry_types::{Digest, MediaType, Tag};

use crate::error::{Error, length, parse, parse_optional, stored};
use crate::model::{Content, ContentKind, Manifest, RepositoryUid};
use crate::{candidates, quotas};

const TABLE: &str = "manifests";

const ONE_CONTENT: &str = "INSERT INTO manifest_contents (repository_uid, manifest, position, kind, digest, \
    media_type, size) VALUES ($1, $2, $3, $4, $5, $6, $7)";
/// A long list would take too many round trips one by one.
const EIGHT_CONTENTS: &str = "INSERT INTO manifest_contents (repository_uid, manifest, position, kind, digest, \
    media_type, size) VALUES \
    ($1, $2, $3, $4, $5, $6, $7), ($1, $2, $8, $9, $10, $11, $12), \
    ($1, $2, $13, $14, $15, $16, $17), ($1, $2, $18, $19, $20, $21, $22), \
    ($1, $2, $23, $24, $25, $26, $27), ($1, $2, $28, $29, $30, $31, $32), \
    ($1, $2, $33, $34, $35, $36, $37), ($1, $2, $38, $39, $40, $41, $42)";

/// Point read by digest.
pub fn by_digest(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
) -> Result<Option<Manifest>, Error> {
    let row = tx.query_optional(
        "SELECT digest, media_type, size, artifact_type, config_media_type, subject, image_size, pushed_at, \
         last_pulled_at FROM manifests WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest.as_str()],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// Those of eight manifests that are there: the size of each and that of its image.
pub fn sizes(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digests: [&Digest; 8],
) -> Result<Vec<(Digest, u64, u64)>, Error> {
    let [a, b, c, d, e, f, g, h] = digests.map(Digest::as_str);
    let rows = tx.query(
        "SELECT digest, size, image_size FROM manifests \
         WHERE repository_uid = $1 AND digest IN ($2, $3, $4, $5, $6, $7, $8, $9)",
        params![repository.as_str(), a, b, c, d, e, f, g, h],
    )?;
    rows.iter()
        .map(|row| Ok((parse(row, 0, TABLE)?, length(row, 1, TABLE)?, length(row, 2, TABLE)?)))
        .collect()
}

/// Point read through a tag.
pub fn by_tag(tx: &Tx<'_>, repository: &RepositoryUid, tag: &Tag) -> Result<Option<Manifest>, Error> {
    let row = tx.query_optional(
        "SELECT m.digest, m.media_type, m.size, m.artifact_type, m.config_media_type, m.subject, \
         m.image_size, m.pushed_at, m.last_pulled_at FROM tags t \
         JOIN manifests m ON m.repository_uid = t.repository_uid AND m.digest = t.digest \
         WHERE t.repository_uid = $1 AND t.tag = $2",
        params![repository.as_str(), tag.as_str()],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// False when the repository has this manifest already; its push time stays then.
pub fn insert(tx: &Tx<'_>, repository: &RepositoryUid, manifest: &Manifest) -> Result<bool, Error> {
    let inserted = tx.execute(
        "INSERT INTO manifests (repository_uid, digest, media_type, size, artifact_type, config_media_type, \
         subject, image_size, pushed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (repository_uid, digest) DO NOTHING",
        params![
            repository.as_str(),
            manifest.digest.as_str(),
            manifest.media_type.as_str(),
            stored(manifest.size),
            manifest.artifact_type.clone(),
            manifest.config_media_type.clone(),
            manifest.subject.as_ref().map(|subject| subject.as_str().to_owned()),
            stored(manifest.image_size),
            manifest.pushed_at_ms
        ],
    )?;
    if inserted == 1 {
        quotas::add(tx, repository, stored(manifest.size), 1)?;
        release(tx, repository, &manifest.digest, manifest.pushed_at_ms)?;
    }
    Ok(inserted == 1)
}

/// Notes that a manifest's image is larger than it seemed. False when it is not.
pub fn widen(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    image_size: u64,
) -> Result<bool, Error> {
    let widened = tx.execute(
        "UPDATE manifests SET image_size = $3 WHERE repository_uid = $1 AND digest = $2 AND image_size < $3",
        params![repository.as_str(), digest.as_str(), stored(image_size)],
    )?;
    Ok(widened == 1)
}

/// Makes a manifest one of another media type, among the referrers of its subject too.
pub fn set_media_type(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    manifest: &Manifest,
    media_type: &MediaType,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE manifests SET media_type = $3 WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), manifest.digest.as_str(), media_type.as_str()],
    )?;
    if let Some(subject) = &manifest.subject {
        tx.execute(
            "UPDATE referrers SET media_type = $4 WHERE repository_uid = $1 AND subject = $2 AND digest = $3",
            params![repository.as_str(), subject.as_str(), manifest.digest.as_str(), media_type.as_str()],
        )?;
    }
    Ok(())
}

/// Notes that a task or a deployment is about to run a manifest. False when there is none.
pub fn note_resolved(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    now_ms: i64,
) -> Result<bool, Error> {
    let noted = tx.execute(
        "UPDATE manifests SET resolved_at = $3 WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest.as_str(), now_ms],
    )?;
    Ok(noted == 1)
}

/// When a task or a deployment last asked for the manifest.
pub fn resolved_at(tx: &Tx<'_>, repository: &RepositoryUid, digest: &Digest) -> Result<Option<i64>, Error> {
    let row = tx.query_optional(
        "SELECT resolved_at FROM manifests WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest.as_str()],
    )?;
    match row {
        Some(row) => Ok(row.get(0)?),
        None => Ok(None),
    }
}

/// Notes that the bytes of a manifest were read.
pub fn note_pull(tx: &Tx<'_>, repository: &RepositoryUid, digest: &Digest, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE manifests SET last_pulled_at = $3 WHERE repository_uid = $1 AND digest = $2 \
         AND (last_pulled_at IS NULL OR last_pulled_at < $3)",
        params![repository.as_str(), digest.as_str(), now_ms],
    )?;
    Ok(())
}

/// Notes what a new manifest names, in its order.
pub fn insert_contents(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    manifest: &Digest,
    contents: &[Content],
) -> Result<(), Error> {
    let mut position = 0i64;
    let mut insert = |sql, contents: &[Content]| {
        let mut values = vec![Value::from(repository.as_str()), Value::from(manifest.as_str())];
        for content in contents {
            values.extend([
                Value::from(position),
                Value::from(content.kind.as_str()),
                Value::from(content.digest.as_str()),
                Value::from(content.media_type.as_str()),
                Value::from(stored(content.size)),
            ]);
            position += 1;
        }
        tx.execute(sql, &values)
    };
    let (by_eight, rest) = contents.as_chunks::<8>();
    for contents in by_eight {
        insert(EIGHT_CONTENTS, contents)?;
    }
    for content in rest {
        insert(ONE_CONTENT, std::slice::from_ref(content))?;
    }
    candidates::forget_contents(tx, repository, contents)
}

/// What a manifest names, in its order.
pub fn contents(tx: &Tx<'_>, repository: &RepositoryUid, manifest: &Digest) -> Result<Vec<Content>, Error> {
    let rows = tx.query(
        "SELECT kind, digest, media_type, size FROM manifest_contents \
         WHERE repository_uid = $1 AND manifest = $2 ORDER BY position",
        params![repository.as_str(), manifest.as_str()],
    )?;
    rows.iter().map(content_from_row).collect()
}

/// Up to `limit` indexes of the repository that name `child`, in the order of their digests.
pub fn parents(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    child: &Digest,
    limit: u32,
) -> Result<Vec<Digest>, Error> {
    let rows = tx.query(
        "SELECT DISTINCT c.manifest FROM manifest_contents c \
         JOIN manifests m ON m.repository_uid = c.repository_uid AND m.digest = c.manifest \
         WHERE c.repository_uid = $1 AND c.digest = $2 AND c.kind = 'child' ORDER BY c.manifest LIMIT $3",
        params![repository.as_str(), child.as_str(), i64::from(limit)],
    )?;
    rows.iter().map(|row| parse(row, 0, "manifest_contents")).collect()
}

/// Removes the manifest with its tags and referrer row. What it names stays pinned until the collector finds that
/// nothing runs it ([`release`]). False when there was none.
pub fn delete(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    manifest: &Manifest,
    now_ms: i64,
) -> Result<bool, Error> {
    let digest = manifest.digest.as_str();
    let deleted = tx.execute(
        "DELETE FROM manifests WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest],
    )?;
    if deleted == 1 {
        quotas::add(tx, repository, -stored(manifest.size), -1)?;
        tx.execute(
            "INSERT INTO retired_manifests (repository_uid, digest, retired_at) VALUES ($1, $2, $3) \
             ON CONFLICT (repository_uid, digest) DO NOTHING",
            params![repository.as_str(), digest, now_ms],
        )?;
    }
    tx.execute(
        // Asked for first, or SQLite would go through all tags of the repository, which lie in the order of their names.
        "DELETE FROM tags WHERE repository_uid = $1 AND tag IN \
         (SELECT tag FROM tags WHERE repository_uid = $1 AND digest = $2)",
        params![repository.as_str(), digest],
    )?;
    if let Some(subject) = &manifest.subject {
        tx.execute(
            "DELETE FROM referrers WHERE repository_uid = $1 AND subject = $2 AND digest = $3",
            params![repository.as_str(), subject.as_str(), digest],
        )?;
    }
    Ok(deleted == 1)
}

/// A manifest that was deleted and still pins what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    pub repository: RepositoryUid,
    pub digest: Digest,
    pub retired_at_ms: i64,
}

/// Up to `limit` manifests that were deleted, in the order of repository and digest, after `after`.
pub fn retired_after(tx: &Tx<'_>, after: Option<&Retired>, limit: u32) -> Result<Vec<Retired>, Error> {
    let (repository, digest) =
        after.map_or(("", ""), |after| (after.repository.as_str(), after.digest.as_str()));
    let rows = tx.query(
        "SELECT repository_uid, digest, retired_at FROM retired_manifests WHERE (repository_uid, digest) > ($1, $2) \
         ORDER BY repository_uid, digest LIMIT $3",
        params![repository, digest, i64::from(limit)],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Retired {
                repository: RepositoryUid::new(row.get::<String>(0)?),
                digest: parse(row, 1, "retired_manifests")?,
                retired_at_ms: row.get(2)?,
            })
        })
        .collect()
}

/// Whether an index that is still pinned, deleted or not, names the manifest.
pub fn is_named(tx: &Tx<'_>, repository: &RepositoryUid, child: &Digest) -> Result<bool, Error> {
    let named = tx.query_optional(
        "SELECT 1 FROM manifest_contents WHERE repository_uid = $1 AND digest = $2 AND kind = 'child' LIMIT 1",
        params![repository.as_str(), child.as_str()],
    )?;
    Ok(named.is_some())
}

/// Ends what a deleted manifest pins; one that is there again, or never went, is left alone. True when there was
/// such a one.
pub fn release(tx: &Tx<'_>, repository: &RepositoryUid, digest: &Digest, now_ms: i64) -> Result<bool, Error> {
    let of_manifest = params![repository.as_str(), digest.as_str()];
    let retired =
        tx.execute("DELETE FROM retired_manifests WHERE repository_uid = $1 AND digest = $2", of_manifest)?;
    if retired == 1 {
        candidates::note_digest(tx, digest, now_ms)?;
        candidates::note_contents(tx, repository, digest, now_ms)?;
        tx.execute("DELETE FROM manifest_contents WHERE repository_uid = $1 AND manifest = $2", of_manifest)?;
    }
    Ok(retired == 1)
}

/// Up to `limit` manifests in the order of their digests, after `after`.
pub fn list_after(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    after: &str,
    limit: u32,
) -> Result<Vec<Manifest>, Error> {
    let rows = tx.query(
        "SELECT digest, media_type, size, artifact_type, config_media_type, subject, image_size, pushed_at, \
         last_pulled_at FROM manifests WHERE repository_uid = $1 AND digest > $2 ORDER BY digest LIMIT $3",
        params![repository.as_str(), after, i64::from(limit)],
    )?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<Manifest, Error> {
    Ok(Manifest {
        digest: parse(row, 0, TABLE)?,
        media_type: MediaType::from_content_type(&row.get::<String>(1)?),
        size: length(row, 2, TABLE)?,
        artifact_type: row.get(3)?,
        config_media_type: row.get(4)?,
        subject: parse_optional(row, 5, TABLE)?,
        image_size: length(row, 6, TABLE)?,
        pushed_at_ms: row.get(7)?,
        last_pulled_at_ms: row.get(8)?,
    })
}

fn content_from_row(row: &Row) -> Result<Content, Error> {
    const CONTENTS: &str = "manifest_contents";
    Ok(Content {
        kind: ContentKind::parse(&row.get::<String>(0)?).ok_or(Error::Corrupt { table: CONTENTS })?,
        digest: parse(row, 1, CONTENTS)?,
        media_type: MediaType::from_content_type(&row.get::<String>(2)?),
        size: length(row, 3, CONTENTS)?,
    })
}
