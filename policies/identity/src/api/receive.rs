//! Request bodies in memory before anybody has proven who sent them.
//!
//! A signature covers the body, so it has to be read first. What strangers can hold meanwhile is bounded:
//! little of a request that is not signed, in a budget of its own, nothing of one that names no key of ours (it is read, hashed and
//! forgotten, so that it takes as long as one that does), and a fixed budget for all others together. A signed request
//! has a share until it was answered, as what it sent is in memory until then; of what it might have sent, no more.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use registry_aws::AwsError;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bodies that are announced to be no longer than this have a budget of their own, so that a few large ones
/// never hold up the many small ones.
const SMALL_BYTES: usize = 64 * 1024;

/// What may be in memory of small bodies, and of large ones.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// A token of 16 KiB and session policies, encoded as a form; and what may be in memory of such requests. Who fills
/// it holds up nobody who signs.
const LARGEST_UNSIGNED: usize = SMALL_BYTES;
const UNSIGNED_BUDGET_BYTES: usize = 8 * 1024 * 1024;

/// How long a body may take to arrive, and to wait for its share of the budget.
const SMALL_TIME: Duration = Duration::from_secs(10);
const LARGE_TIME: Duration = Duration::from_secs(60);
const WAITING_TIME: Duration = Duration::from_secs(10);

/// The shares in memory that request bodies hold; a permit is a byte.
pub(crate) struct BodyBudget {
    small: Semaphore,
    large: Semaphore,
    unsigned: Semaphore,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self {
            small: Semaphore::new(BUDGET_BYTES),
            large: Semaphore::new(BUDGET_BYTES),
            unsigned: Semaphore::new(UNSIGNED_BUDGET_BYTES),
        }
    }
}

/// A body, and its share of the budget for as long as it is in memory.
pub(super) struct Received<'a> {
    /// Empty when it was not to be kept.
    pub(super) bytes: Bytes,
    /// Of the whole body, kept or not.
    pub(super) sha256: [u8; 32],
    pub(super) share: Option<SemaphorePermit<'a>>,
}

impl Received<'_> {
    pub(super) fn nothing() -> Self {
        Self { bytes: Bytes::new(), sha256: Sha256::digest(b"").into(), share: None }
    }
}

impl BodyBudget {
    /// Reads the body of a request that bears its proof in it.
    ///
    /// # Errors
    /// As [`BodyBudget::receive`].
    pub(super) async fn receive_unsigned(&self, body: Body) -> Result<Received<'_>, AwsError> {
        let limit = LARGEST_UNSIGNED;
        let hint = body.size_hint();
        if hint.lower() > limit as u64 {
            return Err(AwsError::request_too_large(limit));
        }
        let announced =
            hint.upper().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit).min(limit);
        let share = Some(share(&self.unsigned, announced).await?);
        let (bytes, sha256) = tokio::time::timeout(SMALL_TIME, read(body, announced, limit, true))
            .await
            .map_err(|_| too_slow())??;
        let share = share.map(|share| shrunk(share, bytes.len()));
        Ok(Received { bytes, sha256, share })
    }

    /// Reads a body of at most `limit` bytes; of one that is not to be kept, only the time it takes.
    ///
    /// # Errors
    /// Too large, too slow, broken off, or no room for it in time.
    pub(super) async fn receive(
        &self,
        body: Body,
        limit: usize,
        keep: bool,
    ) -> Result<Received<'_>, AwsError> {
        let hint = body.size_hint();
        if hint.lower() > limit as u64 {
            return Err(AwsError::request_too_large(limit));
        }
        let announced =
            hint.upper().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit).min(limit);
        let small = announced <= SMALL_BYTES;
        let (budget, time) = if small { (&self.small, SMALL_TIME) } else { (&self.large, LARGE_TIME) };
        let share = if keep { Some(share(budget, announced).await?) } else { None };
        let (bytes, sha256) = tokio::time::timeout(time, read(body, announced, limit, keep))
            .await
            .map_err(|_| too_slow())??;
        let share = share.map(|share| shrunk(share, bytes.len()));
        Ok(Received { bytes, sha256, share })
    }
}

async fn share(budget: &Semaphore, bytes: usize) -> Result<SemaphorePermit<'_>, AwsError> {
    let permits = u32::try_from(bytes.clamp(1, BUDGET_BYTES)).unwrap_or(u32::MAX);
    match tokio::time::timeout(WAITING_TIME, budget.acquire_many(permits)).await {
        Ok(Ok(share)) => Ok(share),
        Ok(Err(_)) | Err(_) => Err(AwsError::throttling()),
    }
}

/// The share of a body that has come: what was announced, or had to be expected, may have been more.
fn shrunk(mut share: SemaphorePermit<'_>, bytes: usize) -> SemaphorePermit<'_> {
    drop(share.split(share.num_permits().saturating_sub(bytes)));
    share
}

async fn read(
    mut body: Body,
    announced: usize,
    limit: usize,
    keep: bool,
) -> Result<(Bytes, [u8; 32]), AwsError> {
    let mut bytes = BytesMut::with_capacity(if keep { announced.min(SMALL_BYTES) } else { 0 });
    let mut hash = Sha256::new();
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| AwsError::serialization("The request body could not be read."))?;
        let Ok(piece) = frame.into_data() else { continue };
        length = length.saturating_add(piece.len());
        if length > limit {
            return Err(AwsError::request_too_large(limit));
        }
        hash.update(&piece);
        if keep {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok((bytes.freeze(), hash.finalize().into()))
}

fn too_slow() -> AwsError {
    AwsError::new(408, "RequestTimeoutException", "The request body did not arrive in time.")
}

#[cfg(test)]
impl BodyBudget {
    /// What large bodies hold.
    pub(super) fn large_in_use(&self) -> usize {
        BUDGET_BYTES - self.large.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;

    use super::{BUDGET_BYTES, BodyBudget, UNSIGNED_BUDGET_BYTES};

    #[tokio::test]
    async fn what_is_kept_has_its_share_until_it_is_dropped() {
        let budget = BodyBudget::default();
        let free = || {
            (BUDGET_BYTES - budget.small.available_permits(), BUDGET_BYTES - budget.large.available_permits())
        };
        let small = budget.receive(Body::from("abc"), 1024, true).await.unwrap();
        let large = budget.receive(Body::from(vec![0; 100_000]), 1 << 20, true).await.unwrap();
        assert_eq!((&*small.bytes, large.bytes.len()), (&b"abc"[..], 100_000));
        assert_eq!(free(), (3, 100_000));
        drop((small, large));
        assert_eq!(free(), (0, 0));
        let forgotten = budget.receive(Body::from("abc"), 1024, false).await.unwrap();
        assert_eq!((forgotten.bytes.len(), free()), (0, (0, 0)));
    }

    #[tokio::test]
    async fn a_body_that_announced_no_length_holds_what_came_of_it() {
        let budget = BodyBudget::default();
        let short = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))]));
        let unsigned = budget.receive_unsigned(short()).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(budget.receive(short(), BUDGET_BYTES / 2, true).await.unwrap());
        }
        assert!(held.iter().all(|received| &*received.bytes == b"abc"));
        assert_eq!((budget.large_in_use(), budget.small.available_permits()), (15, BUDGET_BYTES));
        assert_eq!(UNSIGNED_BUDGET_BYTES - budget.unsigned.available_permits(), 3);
        drop((held, unsigned));
        assert_eq!(budget.large_in_use(), 0);
        assert_eq!(budget.unsigned.available_permits(), UNSIGNED_BUDGET_BYTES);
    }

    #[tokio::test]
    async fn no_body_is_longer_than_its_limit_announced_or_not() {
        let budget = BodyBudget::default();
        let unannounced = || {
            let pieces = (0..5).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1000])));
            Body::from_stream(stream::iter(pieces))
        };
        for keep in [true, false] {
            for body in [Body::from(vec![0; 5000]), unannounced()] {
                assert_eq!(budget.receive(body, 4999, keep).await.err().unwrap().status, 413);
            }
        }
        assert_eq!(budget.receive(unannounced(), 5000, true).await.unwrap().bytes.len(), 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_room_in_time_is_told_to_come_back() {
        let budget = BodyBudget::default();
        let all = budget.small.acquire_many(u32::try_from(BUDGET_BYTES).unwrap()).await.unwrap();
        let refused = budget.receive(Body::from("abc"), 1024, true).await.err().unwrap();
        assert_eq!(refused.code, "ThrottlingException");
        assert!(budget.receive(Body::from(vec![0; 100_000]), 1 << 20, true).await.is_ok());
        drop(all);
        assert!(budget.receive(Body::from("abc"), 1024, true).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let budget = BodyBudget::default();
        let silent = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        for keep in [true, false] {
            assert_eq!(budget.receive(silent(), 1024, keep).await.err().unwrap().status, 408);
        }
    }
}
