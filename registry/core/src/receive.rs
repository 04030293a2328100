//! Receiving a request's body into an upload, for as long as the client makes progress.
//!
//! Nothing of a body counts until the request ends well: when it breaks off, the upload stays where the
//! last complete request left it.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use registry_blob::Upload;

use crate::config::RegistryConfig;
use crate::error::{BodyError, CoreError};
use crate::lease::Lease;

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

/// Writes the whole body to the upload, keeping the lease alive meanwhile.
///
/// # Errors
/// `BodyInterrupted`, also when nothing came for `body_idle_ms`; `SizeMismatch` when `range` was declared and
/// the body has another length; `BlobTooLarge` before anything of the excess is stored; `UploadBusy` when the
/// lease was lost.
pub(crate) async fn receive(
    upload: &mut Upload,
    lease: &mut Lease,
    mut body: Body,
    range: Option<ContentRange>,
    config: &RegistryConfig,
) -> Result<(), CoreError> {
    let renewal = Duration::from_millis(config.lease_ms.unsigned_abs() / 3);
    let idle = Duration::from_millis(config.body_idle_ms);
    let declared = range.map(ContentRange::len);
    let mut received = 0u64;
    let mut progress = Instant::now();
    loop {
        match tokio::time::timeout(renewal.min(idle), body.next()).await {
            Ok(None) => break,
            Ok(Some(Err(BodyError))) => return Err(CoreError::BodyInterrupted),
            Ok(Some(Ok(chunk))) => {
                received += chunk.len() as u64;
                if let Some(declared) = declared.filter(|declared| received > *declared) {
                    return Err(CoreError::SizeMismatch { declared, received });
                }
                let limit = config.limits.blob_bytes;
                if upload.offset() + chunk.len() as u64 > limit {
                    return Err(CoreError::BlobTooLarge { limit });
                }
                upload.write(chunk).await?;
                progress = Instant::now();
            }
            Err(_) if progress.elapsed() >= idle => return Err(CoreError::BodyInterrupted),
            Err(_) => {}
        }
        lease.renew_when_due(renewal).await?;
    }
    match declared.filter(|declared| received != *declared) {
        Some(declared) => Err(CoreError::SizeMismatch { declared, received }),
        None => Ok(()),
    }
}
