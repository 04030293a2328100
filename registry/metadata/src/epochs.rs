//! Epochs of key domains, and the rows that are still wrapped under an old one.
//!
//! Once an epoch is not the active one no row comes to it any more: every insert of a wrapped row asks for the
//! active epoch in its own transaction. So a walk that finds none left has found none for good.

use registry_sql::{Row, Tx, params};
use registry_types::Digest;

use crate::blobs::key_from_row;
use crate::error::{Error, parse};
use crate::model::{Domain, KeyRow, UploadUid};

const TABLE: &str = "key_secrets";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochState {
    /// New data keys are wrapped under it.
    Active,
    /// Rows may still be wrapped under it.
    Retiring,
    /// Nothing is wrapped under it; its secret is being destroyed.
    Destroying,
    Destroyed,
}

impl EpochState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::Retiring, Self::Destroying, Self::Destroyed];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub domain: Domain,
    pub epoch: u32,
    pub state: EpochState,
    pub created_at_ms: i64,
    pub changed_at_ms: i64,
    /// Of the active epoch: rows of the domain up to here are wrapped under it; `None` when all are.
    pub rewrapped_after: Option<Place>,
}

/// A place in the order of a domain's key rows, which is that of their digests: the rows lie in it, so that a walk
/// touches each page once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Before every row.
    pub fn start() -> Self {
        Self(String::new())
    }

    /// The start for all but a digest: releases that went by the age of rows noted that before it.
    fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::start(), |digest: Digest| Self(digest.to_string()))
    }
}

/// A key row where a walk finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedKey {
    pub digest: Digest,
    pub key: KeyRow,
}

impl PlacedKey {
    pub fn place(&self) -> Place {
        Place(self.digest.to_string())
    }
}

/// Every epoch there ever was, in the order of domains.
pub fn all(tx: &Tx<'_>) -> Result<Vec<Epoch>, Error> {
    let rows = tx.query(
        "SELECT domain, epoch, state, created_at, changed_at, rewrapped_after FROM key_secrets \
         ORDER BY domain, epoch",
        params![],
    )?;
    rows.iter().map(from_row).collect()
}

/// Notes the epoch that a domain has worked with before epochs were kept.
pub fn note(tx: &Tx<'_>, domain: &Domain, epoch: u32, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO key_secrets (domain, epoch, state, created_at, changed_at, rewrapped_after) \
         VALUES ($1, $2, 'active', $3, $3, NULL) ON CONFLICT (domain, epoch) DO NOTHING",
        params![domain.as_str(), i64::from(epoch), now_ms],
    )?;
    tx.execute(
        "INSERT INTO key_epochs (domain, active) VALUES ($1, $2) ON CONFLICT (domain) DO NOTHING",
        params![domain.as_str(), i64::from(epoch)],
    )?;
    Ok(())
}

/// Whether there is such a domain.
pub fn is_known(tx: &Tx<'_>, domain: &Domain) -> Result<bool, Error> {
    let row = tx.query_optional("SELECT 1 FROM key_epochs WHERE domain = $1", params![domain.as_str()])?;
    Ok(row.is_some())
}

/// Makes `epoch + 1` the active one. False when another was faster.
pub fn roll(tx: &Tx<'_>, domain: &Domain, epoch: u32, now_ms: i64) -> Result<bool, Error> {
    let moved = tx.execute(
        "UPDATE key_epochs SET active = $3 WHERE domain = $1 AND active = $2",
        params![domain.as_str(), i64::from(epoch), i64::from(epoch) + 1],
    )?;
    if moved == 0 {
        return Ok(false);
    }
    set_state(tx, domain, epoch, EpochState::Retiring, now_ms)?;
    tx.execute(
        "INSERT INTO key_secrets (domain, epoch, state, created_at, changed_at, rewrapped_after) \
         VALUES ($1, $2, 'active', $3, $3, '')",
        params![domain.as_str(), i64::from(epoch) + 1, now_ms],
    )?;
    Ok(true)
}

pub fn set_state(
    tx: &Tx<'_>,
    domain: &Domain,
    epoch: u32,
    state: EpochState,
    now_ms: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE key_secrets SET state = $3, changed_at = $4 WHERE domain = $1 AND epoch = $2",
        params![domain.as_str(), i64::from(epoch), state.as_str(), now_ms],
    )?;
    Ok(())
}

/// Notes how far the rows are wrapped under the active epoch; `None`: all.
pub fn set_rewrapped(tx: &Tx<'_>, domain: &Domain, epoch: u32, after: Option<&Place>) -> Result<(), Error> {
    tx.execute(
        "UPDATE key_secrets SET rewrapped_after = $3 WHERE domain = $1 AND epoch = $2",
        params![domain.as_str(), i64::from(epoch), after.map(|after| after.0.as_str())],
    )?;
    Ok(())
}

/// Up to `limit` key rows of a domain, after `after`.
pub fn keys_after(tx: &Tx<'_>, domain: &Domain, after: &Place, limit: u32) -> Result<Vec<PlacedKey>, Error> {
    let rows = tx.query(
        "SELECT file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce, wrapped, digest \
         FROM blob_keys WHERE domain = $1 AND digest > $2 ORDER BY digest LIMIT $3",
        params![domain.as_str(), after.0.as_str(), i64::from(limit)],
    )?;
    rows.iter().map(|row| Ok(PlacedKey { digest: parse(row, 8, TABLE)?, key: key_from_row(row)? })).collect()
}

/// Puts a key wrapped anew in the place of the same key; nothing where the blob has another by now.
pub fn rewrap(tx: &Tx<'_>, domain: &Domain, old: &PlacedKey, new: &KeyRow) -> Result<(), Error> {
    tx.execute(
        // A data key has an id of its own, so no other object's key is taken for it.
        "UPDATE blob_keys SET epoch = $1, wrap_nonce = $2, wrapped = $3 \
         WHERE domain = $4 AND digest = $5 AND dek_id = $6 AND epoch = $7",
        params![
            i64::from(new.epoch),
            new.wrap_nonce.to_vec(),
            new.wrapped.to_vec(),
            domain.as_str(),
            old.digest.as_str(),
            old.key.dek_id.to_vec(),
            i64::from(old.key.epoch)
        ],
    )?;
    Ok(())
}

/// A suspended upload whose key is wrapped under an old epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldUpload {
    pub uid: UploadUid,
    pub file_id: [u8; 16],
    pub epoch: u32,
    pub sealed_state: Vec<u8>,
    pub sealed_lease: i64,
    pub offset: i64,
}

/// Up to `limit` of them.
pub fn old_uploads(tx: &Tx<'_>, domain: &Domain, active: u32, limit: u32) -> Result<Vec<OldUpload>, Error> {
    let rows = tx.query(
        "SELECT uid, file_id, sealed_epoch, sealed_state, sealed_lease, committed_offset FROM uploads \
         WHERE domain = $1 AND sealed_epoch <> $2 AND sealed_state IS NOT NULL AND file_id IS NOT NULL LIMIT $3",
        params![domain.as_str(), i64::from(active), i64::from(limit)],
    )?;
    rows.iter()
        .map(|row| {
            Ok(OldUpload {
                uid: UploadUid::new(row.get::<String>(0)?),
                file_id: crate::error::bytes(row, 1, "uploads")?,
                epoch: row.get(2)?,
                sealed_state: row.get(3)?,
                sealed_lease: row.get(4)?,
                offset: row.get(5)?,
            })
        })
        .collect()
}

/// Puts an upload's state wrapped anew in the place of the same state.
pub fn rewrap_upload(tx: &Tx<'_>, old: &OldUpload, epoch: u32, sealed_state: &[u8]) -> Result<(), Error> {
    tx.execute(
        "UPDATE uploads SET sealed_epoch = $1, sealed_state = $2 \
         WHERE uid = $3 AND sealed_epoch = $4 AND sealed_lease = $5 AND committed_offset = $6",
        params![
            i64::from(epoch),
            sealed_state,
            old.uid.as_str(),
            i64::from(old.epoch),
            old.sealed_lease,
            old.offset
        ],
    )?;
    Ok(())
}

fn from_row(row: &Row) -> Result<Epoch, Error> {
    let state = EpochState::parse(&row.get::<String>(2)?).ok_or(Error::Corrupt { table: TABLE })?;
    Ok(Epoch {
        domain: Domain::new(row.get::<String>(0)?),
        epoch: row.get(1)?,
        state,
        created_at_ms: row.get(3)?,
        changed_at_ms: row.get(4)?,
        rewrapped_after: row.get::<Option<String>>(5)?.as_deref().map(Place::parse),
    })
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_walk_that_went_by_age_starts_over() {
        let digest = format!("sha256:{}", "a7".repeat(32));
        assert_eq!(Place::parse(&digest), Place(digest.clone()));
        for noted in ["", "1764000000000 ", "-9223372036854775808 ", &format!("1764000000000 {digest}")] {
            assert_eq!(Place::parse(noted), Place::start(), "{noted:?}");
        }
    }
}
