//! What the collector is to look at: noted in the transaction that may have made it unneeded, so that a collection
//! costs what there is to collect, whatever is stored.
//!
//! A candidate is a suspicion and no more: whoever takes one from its queue asks what is true. A link is one from
//! its making until a manifest names its blob, and again once such a manifest is let go of; a digest is one when
//! something that named it has gone. Walks over everything find what an older release did not note.

use registry_sql::{Tx, params};
use registry_types::Digest;

use crate::error::{Error, parse};
use crate::liveness::{self, LinkKey, ObjectKey};
use crate::model::{Content, Domain, RepositoryUid};

/// Notes that something which named a digest has gone.
pub(crate) fn note_digest(tx: &Tx<'_>, digest: &Digest, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        // An update rather than nothing: whoever takes the candidate at this moment gets in its way and runs again.
        "INSERT INTO unnamed_digests (digest, noted_at) VALUES ($1, $2) \
         ON CONFLICT (digest) DO UPDATE SET noted_at = excluded.noted_at",
        params![digest.as_str(), now_ms],
    )?;
    Ok(())
}

/// Notes what a manifest names that is about to be let go of: its links, and digests that have no link.
pub(crate) fn note_contents(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    manifest: &Digest,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE blob_links SET is_candidate = 1 WHERE repository_uid = $1 AND digest IN \
         (SELECT digest FROM manifest_contents WHERE repository_uid = $1 AND manifest = $2)",
        params![repository.as_str(), manifest.as_str()],
    )?;
    tx.execute(
        "INSERT INTO unnamed_digests (digest, noted_at) SELECT DISTINCT c.digest, CAST($3 AS BIGINT) \
         FROM manifest_contents c WHERE c.repository_uid = $1 AND c.manifest = $2 \
         AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.repository_uid = $1 AND l.digest = c.digest) \
         ON CONFLICT (digest) DO UPDATE SET noted_at = excluded.noted_at",
        params![repository.as_str(), manifest.as_str(), now_ms],
    )?;
    Ok(())
}

/// Links of what a manifest names are no candidates any more.
pub(crate) fn forget_contents(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    contents: &[Content],
) -> Result<(), Error> {
    // By eights, the last filled up with its first. Asked like this, neither engine goes through all candidates.
    for some in contents.chunks(8) {
        let [a, b, c, d, e, f, g, h] =
            std::array::from_fn(|at| some.get(at).unwrap_or(&some[0]).digest.as_str());
        tx.execute(
            "UPDATE blob_links SET is_candidate = 0 WHERE repository_uid = $1 AND is_candidate <> 0 \
             AND digest IN ($2, $3, $4, $5, $6, $7, $8, $9)",
            params![repository.as_str(), a, b, c, d, e, f, g, h],
        )?;
    }
    Ok(())
}

/// Up to `limit` links that may be unneeded and were not noted since `before_ms`, oldest first.
pub fn links(tx: &Tx<'_>, before_ms: i64, limit: u32) -> Result<Vec<LinkKey>, Error> {
    let rows = tx.query(
        "SELECT repository_uid, digest FROM blob_links WHERE is_candidate = 1 AND noted_at < $1 \
         ORDER BY noted_at, repository_uid, digest LIMIT $2",
        params![before_ms, i64::from(limit)],
    )?;
    rows.iter().map(liveness::link_key).collect()
}

/// Takes a link from the queue: removes it when no manifest of its repository needs it and nobody noted it since
/// `before_ms`; one that is needed is no candidate any more. True when it was removed.
pub fn settle_link(tx: &Tx<'_>, link: &LinkKey, before_ms: i64, now_ms: i64) -> Result<bool, Error> {
    if liveness::delete_stale_link(tx, &link.repository, &link.digest, before_ms, now_ms)? {
        return Ok(true);
    }
    tx.execute(
        "UPDATE blob_links SET is_candidate = 0 WHERE repository_uid = $1 AND digest = $2 AND EXISTS \
         (SELECT 1 FROM manifest_contents c WHERE c.repository_uid = $1 AND c.digest = $2)",
        params![link.repository.as_str(), link.digest.as_str()],
    )?;
    Ok(false)
}

/// Up to `limit` digests that perhaps nothing names, oldest first.
pub fn digests(tx: &Tx<'_>, limit: u32) -> Result<Vec<Digest>, Error> {
    let rows = tx.query(
        "SELECT digest FROM unnamed_digests ORDER BY noted_at, digest LIMIT $1",
        params![i64::from(limit)],
    )?;
    rows.iter().map(|row| parse(row, 0, "unnamed_digests")).collect()
}

/// Takes a digest from the queue and condemns its keys when nothing names it. True when it condemned one.
pub fn settle_digest(tx: &Tx<'_>, digest: &Digest, now_ms: i64) -> Result<bool, Error> {
    tx.execute("DELETE FROM unnamed_digests WHERE digest = $1", params![digest.as_str()])?;
    let mut condemned = false;
    // Few domains, each asked by the full key.
    let domains = tx.query("SELECT domain FROM key_epochs ORDER BY domain", params![])?;
    for domain in &domains {
        let domain = Domain::new(domain.get::<String>(0)?);
        if let Some(key) = liveness::object_key_of(tx, &domain, digest)? {
            condemned |= liveness::condemn_key(tx, &key, now_ms)?;
        }
    }
    Ok(condemned)
}

/// How many candidates wait, counted up to `most` each: links, whether their grace is over or not, and digests.
pub fn count(tx: &Tx<'_>, most: u32) -> Result<u64, Error> {
    let links = tx.query_one(
        "SELECT COUNT(*) FROM (SELECT 1 FROM blob_links WHERE is_candidate = 1 LIMIT $1) AS counted",
        params![i64::from(most)],
    )?;
    let digests = tx.query_one(
        "SELECT COUNT(*) FROM (SELECT 1 FROM unnamed_digests LIMIT $1) AS counted",
        params![i64::from(most)],
    )?;
    Ok(links.get::<i64>(0)?.unsigned_abs() + digests.get::<i64>(0)?.unsigned_abs())
}

/// A walk over everything that finds candidates nobody noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    Links,
    Keys,
}

impl Walk {
    pub const ALL: [Self; 2] = [Self::Links, Self::Keys];

    fn as_str(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Keys => "keys",
        }
    }
}

/// Where a walk stands, for all servers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkPosition {
    /// The repository or the key domain of the last row that was seen; empty before the first.
    pub container: String,
    pub digest: String,
    /// When it goes on.
    pub due_at_ms: i64,
}

/// Point read; the beginning, and due, where the walk was never begun.
pub fn walk_position(tx: &Tx<'_>, walk: Walk) -> Result<WalkPosition, Error> {
    let row = tx.query_optional(
        "SELECT container, digest, due_at FROM candidate_walks WHERE name = $1",
        params![walk.as_str()],
    )?;
    let position = row.map(|row| {
        Ok::<_, Error>(WalkPosition { container: row.get(0)?, digest: row.get(1)?, due_at_ms: row.get(2)? })
    });
    Ok(position.transpose()?.unwrap_or_default())
}

/// Moves a walk to where its next page begins.
pub fn set_walk_position(tx: &Tx<'_>, walk: Walk, position: &WalkPosition) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO candidate_walks (name, container, digest, due_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET container = excluded.container, digest = excluded.digest, \
         due_at = excluded.due_at",
        params![walk.as_str(), position.container.as_str(), position.digest.as_str(), position.due_at_ms],
    )?;
    Ok(())
}

/// What one page of a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkPage {
    pub seen: u64,
    pub links: Vec<LinkKey>,
    pub digests: Vec<Digest>,
    /// The last row of a full page.
    pub last: Option<(String, String)>,
}

/// Up to `limit` rows behind a position, and those of them that are needed by nothing and are no candidates.
pub fn walk_page(tx: &Tx<'_>, walk: Walk, after: &WalkPosition, limit: u32) -> Result<WalkPage, Error> {
    match walk {
        Walk::Links => walk_links(tx, after, limit),
        Walk::Keys => walk_keys(tx, after, limit),
    }
}

fn walk_links(tx: &Tx<'_>, after: &WalkPosition, limit: u32) -> Result<WalkPage, Error> {
    let rows = tx.query(
        "SELECT repository_uid, digest, is_candidate FROM blob_links WHERE (repository_uid, digest) > ($1, $2) \
         ORDER BY repository_uid, digest LIMIT $3",
        params![after.container.as_str(), after.digest.as_str(), i64::from(limit)],
    )?;
    let mut page = WalkPage { seen: rows.len() as u64, ..WalkPage::default() };
    for row in &rows {
        let link = liveness::link_key(row)?;
        if row.get::<i64>(2)? == 0 && !liveness::is_link_needed(tx, &link.repository, &link.digest)? {
            page.links.push(link);
        }
    }
    page.last = full(&rows, limit)?;
    Ok(page)
}

fn walk_keys(tx: &Tx<'_>, after: &WalkPosition, limit: u32) -> Result<WalkPage, Error> {
    let rows = tx.query(
        "SELECT domain, digest, file_id FROM blob_keys WHERE (domain, digest) > ($1, $2) \
         ORDER BY domain, digest LIMIT $3",
        params![after.container.as_str(), after.digest.as_str(), i64::from(limit)],
    )?;
    let mut page = WalkPage { seen: rows.len() as u64, ..WalkPage::default() };
    for row in &rows {
        let key = liveness::object_key(row, "blob_keys")?;
        if !liveness::is_live(tx, &key.digest)? && !is_taken(tx, &key)? {
            page.digests.push(key.digest);
        }
    }
    page.last = full(&rows, limit)?;
    Ok(page)
}

/// Whether the collector knows of a key: it waits to be looked at, or is condemned.
fn is_taken(tx: &Tx<'_>, key: &ObjectKey) -> Result<bool, Error> {
    let noted =
        tx.query_optional("SELECT 1 FROM unnamed_digests WHERE digest = $1", params![key.digest.as_str()])?;
    let condemned = tx.query_optional(
        "SELECT 1 FROM condemned_keys WHERE domain = $1 AND digest = $2 AND file_id = $3",
        params![key.domain.as_str(), key.digest.as_str(), key.file_id.to_vec()],
    )?;
    Ok(noted.is_some() || condemned.is_some())
}

fn full(rows: &[registry_sql::Row], limit: u32) -> Result<Option<(String, String)>, Error> {
    let last = rows.last().filter(|_| rows.len() == limit as usize);
    last.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// Puts what a walk found into the queues.
pub fn note_found(tx: &Tx<'_>, page: &WalkPage, now_ms: i64) -> Result<(), Error> {
    for link in &page.links {
        tx.execute(
            "UPDATE blob_links SET is_candidate = 1 WHERE repository_uid = $1 AND digest = $2",
            params![link.repository.as_str(), link.digest.as_str()],
        )?;
    }
    for digest in &page.digests {
        note_digest(tx, digest, now_ms)?;
    }
    Ok(())
}
