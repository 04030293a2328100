//! Lifecycle policies of repositories, when each is due, and previews of what one would do.
//!
//! A policy that is due is taken by one server at a time. Its version rises with every change, so that whoever
//! applies one can tell in its transactions whether it still holds.

use registry_sql::{Row, Tx, params};
use registry_types::{Digest, Tag};

use crate::error::{Error, length, parse, stored};
use crate::model::RepositoryUid;

const PREVIEWS: &str = "lifecycle_previews";
const IMAGES: &str = "lifecycle_preview_images";

/// A repository's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    pub repository: RepositoryUid,
    pub text: String,
    /// Rises with every change within one uid.
    pub version: i64,
    /// When it was last applied to all images.
    pub evaluated_at_ms: Option<i64>,
}

/// Where a preview stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewState {
    InProgress,
    Complete,
    Failed,
    /// Its images are forgotten.
    Expired,
}

impl PreviewState {
    fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::InProgress, Self::Complete, Self::Failed, Self::Expired]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A preview of what a policy would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewRow {
    pub repository: RepositoryUid,
    pub text: String,
    pub state: PreviewState,
    pub started_at_ms: i64,
    /// How many images would go.
    pub images: u64,
}

/// An image that a previewed policy would expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewImage {
    pub digest: Digest,
    pub rule_priority: i64,
    pub pushed_at_ms: i64,
    pub tags: Vec<Tag>,
}

/// The policy of a repository.
pub fn policy(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<Option<PolicyRow>, Error> {
    let row = tx.query_optional(
        "SELECT repository_uid, text, version, evaluated_at FROM lifecycle_policies WHERE repository_uid = $1",
        params![repository.as_str()],
    )?;
    row.as_ref().map(policy_from_row).transpose()
}

/// Sets the policy of a repository; it is first applied at `due_at_ms`. `version` is higher than any before.
pub fn put_policy(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    text: &str,
    version: i64,
    due_at_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO lifecycle_policies (repository_uid, text, version, due_at, lease_until) \
         VALUES ($1, $2, $3, $4, 0) ON CONFLICT (repository_uid) DO UPDATE SET text = excluded.text, \
         version = CASE WHEN excluded.version > lifecycle_policies.version THEN excluded.version \
         ELSE lifecycle_policies.version + 1 END, due_at = excluded.due_at, lease_until = 0",
        params![repository.as_str(), text, version, due_at_ms],
    )?;
    Ok(())
}

/// False when there was none.
pub fn delete_policy(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<bool, Error> {
    let deleted =
        tx.execute("DELETE FROM lifecycle_policies WHERE repository_uid = $1", params![repository.as_str()])?;
    Ok(deleted == 1)
}

/// Whether a policy is due, a preview waits, or an old preview is to be forgotten, and no server is at it.
pub fn is_due(tx: &Tx<'_>, now_ms: i64, old_ms: i64) -> Result<bool, Error> {
    let due = tx.query_optional(
        "SELECT 1 FROM lifecycle_policies WHERE due_at <= $1 AND lease_until <= $1 LIMIT 1",
        params![now_ms],
    )?;
    let waiting = tx.query_optional(
        "SELECT 1 FROM lifecycle_previews WHERE state = 'in_progress' AND lease_until <= $1 LIMIT 1",
        params![now_ms],
    )?;
    Ok(due.is_some() || waiting.is_some() || old_preview(tx, old_ms)?.is_some())
}

/// Takes the policy that has been due for longest, until `until_ms`. `None` when nothing is due that no server has.
pub fn take_policy(tx: &Tx<'_>, now_ms: i64, until_ms: i64) -> Result<Option<PolicyRow>, Error> {
    let row = tx.query_optional(
        "SELECT repository_uid, text, version, evaluated_at FROM lifecycle_policies \
         WHERE due_at <= $1 AND lease_until <= $1 ORDER BY due_at, repository_uid LIMIT 1",
        params![now_ms],
    )?;
    let Some(row) = row else { return Ok(None) };
    let policy = policy_from_row(&row)?;
    tx.execute(
        "UPDATE lifecycle_policies SET lease_until = $2 WHERE repository_uid = $1",
        params![policy.repository.as_str(), until_ms],
    )?;
    Ok(Some(policy))
}

/// Whether a policy is still as it was taken; holds it until `until_ms` then.
pub fn hold_policy(tx: &Tx<'_>, policy: &PolicyRow, until_ms: i64) -> Result<bool, Error> {
    let held = tx.execute(
        "UPDATE lifecycle_policies SET lease_until = $3 WHERE repository_uid = $1 AND version = $2",
        params![policy.repository.as_str(), policy.version, until_ms],
    )?;
    Ok(held == 1)
}

/// Whether a policy is still as it was taken.
pub fn is_current(tx: &Tx<'_>, policy: &PolicyRow) -> Result<bool, Error> {
    let row = tx.query_optional(
        "SELECT version FROM lifecycle_policies WHERE repository_uid = $1",
        params![policy.repository.as_str()],
    )?;
    Ok(row.map(|row| row.get::<i64>(0)).transpose()? == Some(policy.version))
}

/// Notes that a policy was applied, and when it is next.
pub fn finish_policy(tx: &Tx<'_>, policy: &PolicyRow, now_ms: i64, due_at_ms: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE lifecycle_policies SET evaluated_at = $3, due_at = $4, lease_until = 0 \
         WHERE repository_uid = $1 AND version = $2",
        params![policy.repository.as_str(), policy.version, now_ms, due_at_ms],
    )?;
    Ok(())
}

/// Forgets the policy and the preview of a repository that goes; the preview's images go with its other rows.
pub fn end(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<(), Error> {
    delete_policy(tx, repository)?;
    tx.execute("DELETE FROM lifecycle_previews WHERE repository_uid = $1", params![repository.as_str()])?;
    Ok(())
}

/// The preview of a repository.
pub fn preview(tx: &Tx<'_>, repository: &RepositoryUid) -> Result<Option<PreviewRow>, Error> {
    let row = tx.query_optional(
        "SELECT repository_uid, text, state, started_at, images FROM lifecycle_previews \
         WHERE repository_uid = $1",
        params![repository.as_str()],
    )?;
    row.as_ref().map(preview_from_row).transpose()
}

/// Asks for a preview; it takes the place of the one before.
pub fn begin_preview(tx: &Tx<'_>, repository: &RepositoryUid, text: &str, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO lifecycle_previews (repository_uid, text, state, started_at, lease_until, images) \
         VALUES ($1, $2, 'in_progress', $3, 0, 0) ON CONFLICT (repository_uid) DO UPDATE SET \
         text = excluded.text, state = excluded.state, started_at = excluded.started_at, lease_until = 0, \
         images = 0",
        params![repository.as_str(), text, now_ms],
    )?;
    Ok(())
}

/// Takes the preview that has waited for longest, until `until_ms`.
pub fn take_preview(tx: &Tx<'_>, now_ms: i64, until_ms: i64) -> Result<Option<PreviewRow>, Error> {
    let row = tx.query_optional(
        "SELECT repository_uid, text, state, started_at, images FROM lifecycle_previews \
         WHERE state = 'in_progress' AND lease_until <= $1 ORDER BY started_at, repository_uid LIMIT 1",
        params![now_ms],
    )?;
    let Some(row) = row else { return Ok(None) };
    let preview = preview_from_row(&row)?;
    tx.execute(
        "UPDATE lifecycle_previews SET lease_until = $2 WHERE repository_uid = $1",
        params![preview.repository.as_str(), until_ms],
    )?;
    Ok(Some(preview))
}

/// A preview that ended before `before_ms` and whose images are still kept.
pub fn old_preview(tx: &Tx<'_>, before_ms: i64) -> Result<Option<PreviewRow>, Error> {
    let row = tx.query_optional(
        "SELECT repository_uid, text, state, started_at, images FROM lifecycle_previews \
         WHERE state = 'complete' AND started_at < $1 ORDER BY started_at, repository_uid LIMIT 1",
        params![before_ms],
    )?;
    row.as_ref().map(preview_from_row).transpose()
}

/// Ends a preview, unless a newer one took its place.
pub fn finish_preview(
    tx: &Tx<'_>,
    preview: &PreviewRow,
    state: PreviewState,
    images: u64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE lifecycle_previews SET state = $3, images = $4, lease_until = 0 \
         WHERE repository_uid = $1 AND started_at = $2",
        params![preview.repository.as_str(), preview.started_at_ms, state.as_str(), stored(images)],
    )?;
    Ok(())
}

/// Removes up to `limit` images of a repository's preview. True while there may be more.
pub fn clear_preview(tx: &Tx<'_>, repository: &RepositoryUid, limit: u32) -> Result<bool, Error> {
    let deleted = tx.execute(
        "DELETE FROM lifecycle_preview_images WHERE repository_uid = $1 AND digest IN \
         (SELECT digest FROM lifecycle_preview_images WHERE repository_uid = $1 ORDER BY digest LIMIT $2)",
        params![repository.as_str(), i64::from(limit)],
    )?;
    Ok(deleted > 0)
}

/// Notes that a previewed policy would expire an image.
pub fn put_preview_image(tx: &Tx<'_>, repository: &RepositoryUid, image: &PreviewImage) -> Result<(), Error> {
    let tags: Vec<&str> = image.tags.iter().map(Tag::as_str).collect();
    let tags = serde_json::to_string(&tags).expect("a list of strings is JSON");
    tx.execute(
        "INSERT INTO lifecycle_preview_images (repository_uid, digest, rule_priority, pushed_at, tags) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repository_uid, digest) DO UPDATE SET \
         rule_priority = excluded.rule_priority, pushed_at = excluded.pushed_at, tags = excluded.tags",
        params![repository.as_str(), image.digest.as_str(), image.rule_priority, image.pushed_at_ms, tags],
    )?;
    Ok(())
}

/// Up to `limit` images of a preview in the order of their digests, after `after`.
pub fn preview_images_after(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    after: &str,
    limit: u32,
) -> Result<Vec<PreviewImage>, Error> {
    let rows = tx.query(
        "SELECT digest, rule_priority, pushed_at, tags FROM lifecycle_preview_images \
         WHERE repository_uid = $1 AND digest > $2 ORDER BY digest LIMIT $3",
        params![repository.as_str(), after, i64::from(limit)],
    )?;
    rows.iter().map(image_from_row).collect()
}

/// Point read: an image of a preview.
pub fn preview_image(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    digest: &Digest,
) -> Result<Option<PreviewImage>, Error> {
    let row = tx.query_optional(
        "SELECT digest, rule_priority, pushed_at, tags FROM lifecycle_preview_images \
         WHERE repository_uid = $1 AND digest = $2",
        params![repository.as_str(), digest.as_str()],
    )?;
    row.as_ref().map(image_from_row).transpose()
}

fn policy_from_row(row: &Row) -> Result<PolicyRow, Error> {
    Ok(PolicyRow {
        repository: RepositoryUid::new(row.get::<String>(0)?),
        text: row.get(1)?,
        version: row.get(2)?,
        evaluated_at_ms: row.get(3)?,
    })
}

fn preview_from_row(row: &Row) -> Result<PreviewRow, Error> {
    Ok(PreviewRow {
        repository: RepositoryUid::new(row.get::<String>(0)?),
        text: row.get(1)?,
        state: PreviewState::parse(&row.get::<String>(2)?).ok_or(Error::Corrupt { table: PREVIEWS })?,
        started_at_ms: row.get(3)?,
        images: length(row, 4, PREVIEWS)?,
    })
}

fn image_from_row(row: &Row) -> Result<PreviewImage, Error> {
    let corrupt = || Error::Corrupt { table: IMAGES };
    let tags: Vec<String> = serde_json::from_str(&row.get::<String>(3)?).map_err(|_| corrupt())?;
    let tags: Result<Vec<Tag>, _> = tags.iter().map(|tag| tag.parse()).collect();
    Ok(PreviewImage {
        digest: parse(row, 0, IMAGES)?,
        rule_priority: row.get(1)?,
        pushed_at_ms: row.get(2)?,
        tags: tags.map_err(|_| corrupt())?,
    })
}
