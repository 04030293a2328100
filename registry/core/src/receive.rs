//! Receiving a request's body into an upload, for as long as the client makes progress.
//!
//! Nothing of a body counts until the request ends well: when it breaks off, the upload stays where the
//! last complete request left it.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use registry_blob::Upload;

use crate::config::RegistryConfig;
use crate::error::{BodyError, CoreError};
use crate::lease::Lease;
use crate::quotas::Room;
use crate::registry::Registry;

/// The bytes of a request, as they come.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// The stretch of the upload that a request says its body is: `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    pub start: u64,
    pub end: u64,
}

impl ContentRange {
    /// # Errors
    /// `OffsetMismatch` unless the stretch begins at `offset` and ends after it begins.
    pub(crate) fn check(self, offset: u64) -> Result<(), CoreError> {
        if self.start == offset && self.start <= self.end {
            Ok(())
        } else {
            Err(CoreError::OffsetMismatch { expected: offset })
        }
    }

    /// Bytes of the stretch; it was checked.
    fn len(self) -> u64 {
        self.end - self.start + 1
    }
}

/// Bytes that a client must send within each idle time: one at a time is no progress.
const PROGRESS_BYTES: u64 = 1024;

/// Whether a client makes progress.
struct Pace {
    idle: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(config: &RegistryConfig) -> Self {
        Self { idle: Duration::from_millis(config.body_idle_ms), since: Instant::now(), bytes: 0 }
    }

    /// The next piece of the body, `None` at its end; an empty one when none came for `wait`.
    async fn next(&mut self, body: &mut Body, wait: Duration) -> Result<Option<Bytes>, CoreError> {
        match tokio::time::timeout(wait.min(self.idle), body.next()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Err(BodyError))) => return Err(CoreError::BodyInterrupted),
            Ok(Some(Ok(piece))) => {
                self.bytes += piece.len() as u64;
                if self.bytes >= PROGRESS_BYTES {
                    (self.since, self.bytes) = (Instant::now(), 0);
                }
                if self.since.elapsed() < self.idle {
                    return Ok(Some(piece));
                }
            }
            Err(_) if self.since.elapsed() < self.idle => return Ok(Some(Bytes::new())),
            Err(_) => {}
        }
        Err(CoreError::BodyInterrupted)
    }
}

impl Registry {
    /// A manifest's body in memory.
    ///
    /// # Errors
    /// `ManifestTooLarge`; `BodyInterrupted`, also when the client makes no progress for `body_idle_ms`.
    pub async fn receive_manifest(&self, mut body: Body) -> Result<Bytes, CoreError> {
        let config = &self.inner.config;
        let limit = config.limits.manifest_bytes;
        let mut pace = Pace::new(config);
        let mut bytes = BytesMut::new();
        while let Some(piece) = pace.next(&mut body, pace.idle).await? {
            if bytes.len() + piece.len() > limit {
                return Err(CoreError::ManifestTooLarge { limit });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }
}

/// Writes the whole body to the upload, keeping the lease alive meanwhile.
///
/// # Errors
/// `BodyInterrupted`, also when the client makes no progress for `body_idle_ms`; `SizeMismatch` when `range` was
/// declared and the body has another length; `BlobTooLarge` and `QuotaExceeded` before anything of the excess is stored;
/// `UploadBusy` when the lease was lost.
pub(crate) async fn receive(
    upload: &mut Upload,
    lease: &mut Lease,
    mut body: Body,
    range: Option<ContentRange>,
    room: Option<&Room>,
    config: &RegistryConfig,
) -> Result<(), CoreError> {
    let renewal = Duration::from_millis(config.lease_ms.unsigned_abs() / 3);
    let declared = range.map(ContentRange::len);
    let limit = config.limits.blob_bytes;
    let mut pace = Pace::new(config);
    let mut received = 0u64;
    // An empty piece says that a while passed without any.
    while let Some(piece) = pace.next(&mut body, renewal).await? {
        received += piece.len() as u64;
        if let Some(declared) = declared.filter(|declared| received > *declared) {
            return Err(CoreError::SizeMismatch { declared, received });
        }
        let offset = upload.offset() + piece.len() as u64;
        if offset > limit {
            return Err(CoreError::BlobTooLarge { limit });
        }
        if let Some(room) = room {
            room.check(offset)?;
        }
        upload.write(piece).await?;
        lease.renew_when_due(renewal).await?;
    }
    match declared.filter(|declared| received != *declared) {
        Some(declared) => Err(CoreError::SizeMismatch { declared, received }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use futures_util::stream;

    use super::{Body, PROGRESS_BYTES, Pace};
    use crate::config::RegistryConfig;

    #[tokio::test]
    async fn a_slow_body_that_makes_progress_may_take_longer_than_any_wait() {
        let config = RegistryConfig { body_idle_ms: 1500, ..RegistryConfig::default() };
        let pieces = stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            (sent < 10).then(|| (Ok(Bytes::from(vec![1; PROGRESS_BYTES as usize])), sent + 1))
        });
        let mut body: Body = Box::pin(pieces);
        let (mut pace, begun, mut received) = (Pace::new(&config), Instant::now(), 0);
        while let Some(piece) = pace.next(&mut body, pace.idle).await.unwrap() {
            received += piece.len() as u64;
        }
        assert_eq!(received, 10 * PROGRESS_BYTES);
        assert!(begun.elapsed() > pace.idle);
    }
}
