//! Why nothing came from an upstream.

use std::time::Duration;

use registry_core::CoreError;
use thiserror::Error;

/// Shared by all who wait for one fetch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum UpstreamError {
    #[error("the upstream does not have it")]
    Missing,
    /// It wants other credentials, or none would do.
    #[error("the upstream does not give it to this registry: {0}")]
    Refused(String),
    #[error("the upstream allows no more requests for now")]
    TooMany { retry_after: Option<Duration> },
    /// No answer, or one that says that it cannot.
    #[error("the upstream cannot be asked: {0}")]
    Away(String),
    /// What came is not what was asked for.
    #[error("the upstream sent something else: {0}")]
    Wrong(String),
    /// The caller may not import it any more.
    #[error("{0}")]
    Denied(String),
    /// A bound of this registry keeps it out.
    #[error("{0}")]
    Bounded(String),
    /// As many fetches are under way as may be.
    #[error("the registry fetches too much at the moment")]
    Busy,
    /// This registry could not store it; its log says why.
    #[error("the registry cannot store it at the moment")]
    Own,
}

impl UpstreamError {
    /// Whether asking again at once would lead to nothing.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Away(_) | Self::TooMany { .. })
    }

    pub(super) fn away(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Away(registry_runtime::worker::describe(error))
    }
}

impl From<CoreError> for UpstreamError {
    fn from(error: CoreError) -> Self {
        match error {
            CoreError::DigestMismatch { .. }
            | CoreError::ManifestInvalid(_)
            | CoreError::ManifestTooLarge { .. }
            | CoreError::BlobTooLarge { .. } => Self::Wrong(error.to_string()),
            CoreError::BodyInterrupted => Self::Away("the answer broke off".to_owned()),
            CoreError::QuotaExceeded { .. }
            | CoreError::TagImmutable { .. }
            | CoreError::TooManyTagsOfImage { .. } => Self::Bounded(error.to_string()),
            other => {
                tracing::warn!(
                    error = &other as &dyn std::error::Error,
                    "what an upstream sent is not stored"
                );
                Self::Own
            }
        }
    }
}
