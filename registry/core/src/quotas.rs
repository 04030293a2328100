//! Quotas: what the repositories below a prefix may hold together.
//!
//! Enforced in the transaction that makes content visible, so that pushes at the same time never pass a bound
//! together. What was refused leaves nothing behind; what adds nothing is never refused.

use registry_metadata::{Tx, quotas};
use registry_types::RepositoryName;

use crate::error::CoreError;
use crate::registry::{Page, Registry};

pub use registry_metadata::{Quota, Usage};

/// A quota is worth a warning from here on, in hundredths.
const NEARLY: u64 = 90;

/// What the repositories of one prefix may hold and do hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixQuota {
    /// Empty for all repositories, else a name: that repository and those below it.
    pub prefix: String,
    pub quota: Quota,
    pub usage: Usage,
}

/// A quota that is worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearlyFull {
    /// As of [`PrefixQuota`].
    pub prefix: String,
    /// How much of it is used, in hundredths.
    pub hundredths: u64,
}

/// The bound that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Bytes(u64),
    Images(u64),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Images(images) => write!(f, "{images} images"),
        }
    }
}

impl Registry {
    /// Sets the bounds of a prefix. What is there already stays, and may exceed them.
    pub async fn put_quota(&self, prefix: &str, quota: Quota) -> Result<PrefixQuota, CoreError> {
        let prefix = prefix.to_owned();
        self.inner
            .metadata
            .write(move |tx| {
                quotas::put(tx, &prefix, quota)?;
                quotas::by_prefix(tx, &prefix)?
                    .map(from_parts)
                    .ok_or(CoreError::internal("a quota was not written"))
            })
            .await
    }

    /// Removes the bounds of a prefix; false when it had none.
    pub async fn delete_quota(&self, prefix: &str) -> Result<bool, CoreError> {
        let prefix = prefix.to_owned();
        self.inner.metadata.write(move |tx| Ok::<_, CoreError>(quotas::delete(tx, &prefix)?)).await
    }

    /// Quotas in the order of their prefixes, after `after`; from the first without it.
    pub async fn quotas(&self, after: Option<&str>, limit: u32) -> Result<Page<PrefixQuota>, CoreError> {
        let after = after.map(str::to_owned);
        let wanted = limit.saturating_add(1);
        let read = self
            .inner
            .metadata
            .read(move |tx| Ok::<_, CoreError>(quotas::list_after(tx, after.as_deref(), wanted)?));
        let mut items: Vec<PrefixQuota> = read.await?.into_iter().map(from_parts).collect();
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| last.prefix.clone());
        Ok(Page { items, next })
    }

    /// Refuses what would not fit by its declared length, before any of it is sent.
    ///
    /// # Errors
    /// `QuotaExceeded`.
    pub async fn check_room(&self, name: &RepositoryName, bytes: u64) -> Result<(), CoreError> {
        let name = name.clone();
        self.inner.metadata.point(move |tx| check(tx, &name, bytes).map(drop)).await
    }
}

/// What a repository may take in still, by the tightest of its quotas.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    bytes: u64,
    prefix: String,
    max: u64,
}

impl Room {
    /// # Errors
    /// `QuotaExceeded` when there is no room for so many bytes.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), CoreError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(CoreError::QuotaExceeded { prefix: self.prefix.clone(), bound: Bound::Bytes(self.max) })
    }
}

/// The room of a repository; None without a bound.
pub(crate) fn room(tx: &Tx<'_>, name: &RepositoryName) -> Result<Option<Room>, CoreError> {
    let rooms = quotas::covering(tx, name)?.into_iter().filter_map(|(prefix, quota, usage)| {
        let max = quota.max_bytes?;
        Some(Room { bytes: max.saturating_sub(usage.bytes), prefix, max })
    });
    Ok(rooms.min_by_key(|room| room.bytes))
}

/// Refuses when a repository's quotas are exceeded, with `more` bytes on top of what was written so far. Gives the
/// fullest of them, without what is on top, once it is nearly full.
///
/// # Errors
/// `QuotaExceeded`.
pub(crate) fn check(tx: &Tx<'_>, name: &RepositoryName, more: u64) -> Result<Option<NearlyFull>, CoreError> {
    let covering = quotas::covering(tx, name)?;
    for (prefix, quota, usage) in &covering {
        let exceeded = match (quota.max_bytes, quota.max_images) {
            (Some(max), _) if usage.bytes.saturating_add(more) > max => Some(Bound::Bytes(max)),
            (_, Some(max)) if usage.images > max => Some(Bound::Images(max)),
            _ => None,
        };
        if let Some(bound) = exceeded {
            return Err(CoreError::QuotaExceeded { prefix: prefix.clone(), bound });
        }
    }
    Ok(fullest(covering))
}

/// The fullest quota of a repository, once it is nearly full.
pub(crate) fn nearly_full(tx: &Tx<'_>, name: &RepositoryName) -> Result<Option<NearlyFull>, CoreError> {
    Ok(fullest(quotas::covering(tx, name)?))
}

fn fullest(covering: Vec<(String, Quota, Usage)>) -> Option<NearlyFull> {
    let share = |used: u64, max: Option<u64>| {
        max.map_or(0, |max| used.saturating_mul(100).checked_div(max).unwrap_or(100))
    };
    let full = covering.into_iter().map(|(prefix, quota, usage)| {
        let hundredths = share(usage.bytes, quota.max_bytes).max(share(usage.images, quota.max_images));
        NearlyFull { prefix, hundredths }
    });
    full.filter(|full| full.hundredths >= NEARLY).max_by_key(|full| full.hundredths)
}

fn from_parts((prefix, quota, usage): (String, Quota, Usage)) -> PrefixQuota {
    PrefixQuota { prefix, quota, usage }
}
