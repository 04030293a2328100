//! Tags: names that point at manifests of the same repository.

use registry_sql::{Row, Tx, params};
use registry_types::{Digest, Tag};

use crate::error::{Error, parse};
use crate::model::{RepositoryUid, TagRow};

/// Many names of tags in the memory of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagNames {
    text: String,
    /// Where each name ends.
    ends: Vec<usize>,
}

impl TagNames {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    /// Leaves the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }
}

/// Point read.
pub fn by_name(tx: &Tx<'_>, repository: &RepositoryUid, tag: &Tag) -> Result<Option<TagRow>, Error> {
    let row = tx.query_optional(
        "SELECT tag, digest, created_at, updated_at FROM tags WHERE repository_uid = $1 AND tag = $2",
        params![repository.as_str(), tag.as_str()],
    )?;
    row.as_ref().map(from_row).transpose()
}

/// Creates the tag or moves it. Whether it may move is the caller's decision.
pub fn put(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    tag: &Tag,
    digest: &Digest,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO tags (repository_uid, tag, digest, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
         ON CONFLICT (repository_uid, tag) DO UPDATE SET digest = excluded.digest, \
         updated_at = excluded.updated_at, upstream_checked_at = NULL",
        params![repository.as_str(), tag.as_str(), digest.as_str(), now_ms],
    )?;
    Ok(())
}

/// False when there was no such tag.
pub fn delete(tx: &Tx<'_>, repository: &RepositoryUid, tag: &Tag) -> Result<bool, Error> {
    let deleted = tx.execute(
        "DELETE FROM tags WHERE repository_uid = $1 AND tag = $2",
        params![repository.as_str(), tag.as_str()],
    )?;
    Ok(deleted == 1)
}

/// Up to `limit` tags in byte order, after `after` (which need not exist).
pub fn list_after(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    after: &str,
    limit: u32,
) -> Result<TagNames, Error> {
    let mut names = TagNames::default();
    tx.texts(
        "SELECT tag FROM tags WHERE repository_uid = $1 AND tag > $2 ORDER BY tag LIMIT $3",
        params![repository.as_str(), after, i64::from(limit)],
        |name| names.push(name),
    )?;
    Ok(names)
}

/// Up to `limit` tags that point at a manifest, in byte order.
pub fn of_digest(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    limit: u32,
) -> Result<Vec<Tag>, Error> {
    let rows = tx.query(
        "SELECT tag FROM tags WHERE repository_uid = $1 AND digest = $2 ORDER BY tag LIMIT $3",
        params![repository.as_str(), digest.as_str(), i64::from(limit)],
    )?;
    rows.iter().map(|row| parse(row, 0, "tags")).collect()
}

/// Whether more than `count` tags point at a manifest.
pub fn are_more_than(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
    count: u32,
) -> Result<bool, Error> {
    let next = tx.query_optional(
        "SELECT 1 FROM tags WHERE repository_uid = $1 AND digest = $2 ORDER BY tag LIMIT 1 OFFSET $3",
        params![repository.as_str(), digest.as_str(), i64::from(count)],
    )?;
    Ok(next.is_some())
}

/// Up to `limit` tags of the manifests after `after` up to `last`, in the order of digests and tags.
pub fn of_digests(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    after: &str,
    last: &Digest,
    limit: u32,
) -> Result<Vec<(Digest, Tag)>, Error> {
    let rows = tx.query(
        "SELECT digest, tag FROM tags WHERE repository_uid = $1 AND digest > $2 AND digest <= $3 \
         ORDER BY digest, tag LIMIT $4",
        params![repository.as_str(), after, last.as_str(), i64::from(limit)],
    )?;
    rows.iter().map(|row| Ok((parse(row, 0, "tags")?, parse(row, 1, "tags")?))).collect()
}

fn from_row(row: &Row) -> Result<TagRow, Error> {
    Ok(TagRow {
        tag: parse(row, 0, "tags")?,
        digest: parse(row, 1, "tags")?,
        created_at_ms: row.get(2)?,
        updated_at_ms: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::TagNames;

    #[test]
    fn names_are_kept_apart() {
        let mut names = TagNames::default();
        ["v1", "", "v1.2"].into_iter().for_each(|name| names.push(name));
        assert_eq!(names.iter().collect::<Vec<_>>(), ["v1", "", "v1.2"]);
        names.truncate(1);
        names.push("b");
        assert_eq!((names.len(), names.iter().last()), (2, Some("b")));
        names.truncate(0);
        assert!(names.is_empty() && names.iter().next().is_none());
    }
}
