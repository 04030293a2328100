//! Whether a bucket carries the marker of this replica: looked at once for all who want to know at the same time.
//!
//! A look ends with those who wait for it, and after a while in any case: whoever comes behind one that hangs looks
//! anew. Invariant: only a look that found the marker counts for later, and only for a while.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::bucket::Bucket;
use super::{MARKER, Marker};
use crate::store::StoreError;

/// How long a marker that was seen counts for writes.
const SEEN: Duration = Duration::from_secs(10);
/// What a look that several wait for may take.
const LOOK: Duration = Duration::from_secs(10);

type Look = BoxFuture<'static, Result<(), Arc<StoreError>>>;

pub(super) struct Watch {
    place: Arc<Place>,
    /// What is under way for as long as somebody waits for it.
    look: Mutex<Option<WeakShared<Look>>>,
}

/// Where the marker is to lie, and when it was seen there.
struct Place {
    bucket: Arc<Bucket>,
    marker: Marker,
    seen: Mutex<Option<Instant>>,
    #[cfg(test)]
    looks: std::sync::atomic::AtomicUsize,
}

impl Watch {
    pub(super) fn new(bucket: Arc<Bucket>, marker: Marker) -> Self {
        let place = Place {
            bucket,
            marker,
            seen: Mutex::new(None),
            #[cfg(test)]
            looks: std::sync::atomic::AtomicUsize::new(0),
        };
        Self { place: Arc::new(place), look: Mutex::new(None) }
    }

    /// Requests made.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.place.looks.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Whether the marker is there now and names this replica.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        self.place.look().await
    }

    /// The same, at most every few seconds, and once for all who ask at the same time.
    pub(super) async fn check_lately(&self) -> Result<(), StoreError> {
        if self.place.is_seen() {
            return Ok(());
        }
        self.join().await.map_err(|error| again(&error))
    }

    /// The look that is under way; begins one where none is.
    fn join(&self) -> Shared<Look> {
        let mut under_way = self.look.lock();
        if let Some(look) = under_way.as_ref().and_then(WeakShared::upgrade) {
            return look;
        }
        let place = Arc::clone(&self.place);
        let look = async move {
            let looked = timeout(LOOK, place.look()).await;
            looked.unwrap_or(Err(StoreError::TimedOut)).map_err(Arc::new)
        };
        let look = look.boxed().shared();
        *under_way = look.downgrade();
        look
    }
}

impl Place {
    fn is_seen(&self) -> bool {
        self.seen.lock().is_some_and(|seen| seen.elapsed() < SEEN)
    }

    async fn look(&self) -> Result<(), StoreError> {
        #[cfg(test)]
        self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let checked = match read(&self.bucket).await {
            Ok(found) => self.marker.check(&self.bucket.to_string(), found.as_ref()),
            Err(error) => Err(error),
        };
        *self.seen.lock() = checked.is_ok().then(Instant::now);
        checked
    }
}

/// The marker that lies in a bucket, if any.
pub(super) async fn read(bucket: &Bucket) -> Result<Option<Marker>, StoreError> {
    match bucket.get(&bucket.key(MARKER), None).await {
        Ok(found) => {
            let marker = serde_json::from_slice(&found.bytes);
            let marker = marker.map_err(|error| StoreError::Offline(format!("{bucket}: {error}")))?;
            Ok(Some(marker))
        }
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same error for another of those who waited.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::NotFound => StoreError::NotFound,
        StoreError::Exists => StoreError::Exists,
        StoreError::Busy => StoreError::Busy,
        StoreError::Short => StoreError::Short,
        StoreError::Offline(why) => StoreError::Offline(why.clone()),
        StoreError::TimedOut => StoreError::TimedOut,
        StoreError::Io(error) => StoreError::Io(io::Error::new(error.kind(), error.to_string())),
    }
}
