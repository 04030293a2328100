//! Why a use-case did not happen, by what the caller can do about it.
//!
//! Each protocol turns these into its own answers in one exhaustive match. The variants that carry a
//! source are the server's own trouble; their detail is for the log, not for clients.

use std::fmt;

use registry_blob::BlobError;
use registry_metadata::SqlError;
use registry_types::{Digest, Tag};
use thiserror::Error;

use crate::lifecycle::PolicyProblem;
use crate::quotas::Bound;

#[derive(Debug, Error)]
pub enum CoreError {
    #[error("the repository does not exist")]
    RepositoryNotFound,
    #[error("the repository exists already")]
    RepositoryExists,
    #[error("the repository still holds images")]
    RepositoryNotEmpty,
    /// A repository may have only so many resource tags.
    #[error("a repository has at most {limit} resource tags")]
    TooManyResourceTags { limit: usize },
    #[error("the upload does not exist")]
    UploadNotFound,
    /// Another request holds the upload, or held it when this one wanted to save.
    #[error("another request is writing this upload")]
    UploadBusy,
    /// The bytes sent do not begin where the upload stands; the upload is as it was.
    #[error("the upload continues at byte {expected}")]
    OffsetMismatch { expected: u64 },
    /// The body has not the length that was declared; the upload is as it was.
    #[error("{received} bytes were sent where {declared} were declared")]
    SizeMismatch { declared: u64, received: u64 },
    #[error("the content has digest {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    /// The client stopped sending, or broke the protocol; the upload is as it was.
    #[error("the request's body ended early")]
    BodyInterrupted,
    #[error("the content is larger than {limit} bytes")]
    BlobTooLarge { limit: u64 },
    #[error("the blob does not exist in the repository")]
    BlobNotFound,
    #[error("the manifest does not exist in the repository")]
    ManifestNotFound,
    #[error("the tag does not exist in the repository")]
    TagNotFound,
    #[error("the manifest is not valid: {0}")]
    ManifestInvalid(String),
    #[error("the manifest is larger than {limit} bytes")]
    ManifestTooLarge { limit: usize },
    /// What the manifest names and the repository does not hold, each once.
    #[error("the manifest names content that the repository does not hold")]
    ContentsMissing(Vec<Digest>),
    #[error("at most {limit} tags can be set by one push")]
    TooManyTags { limit: usize },
    #[error("an image has at most {limit} tags in a repository")]
    TooManyTagsOfImage { limit: u32 },
    /// The tag exists, points at another manifest and may not move.
    #[error("the tag {tag} is immutable and points at {digest}")]
    TagImmutable { tag: Tag, digest: Digest },
    /// An index of the repository names this manifest.
    #[error("the manifest is part of the index {index}")]
    ReferencedByIndex { index: Digest },
    #[error("the lifecycle policy is not valid: {0}")]
    LifecyclePolicyInvalid(#[from] PolicyProblem),
    #[error("the repository has no lifecycle policy")]
    LifecyclePolicyNotFound,
    #[error("a preview of a lifecycle policy is being made")]
    LifecyclePreviewInProgress,
    #[error("no preview of a lifecycle policy was asked for")]
    LifecyclePreviewNotFound,
    /// The repositories of the prefix would hold more than they may.
    #[error("the quota of {} allows {bound}", covered(.prefix))]
    QuotaExceeded { prefix: String, bound: Bound },
    /// The storage or the database has no space left.
    #[error("the server has no space left")]
    Full(#[source] Source),
    /// Passing trouble: the client tries again.
    #[error("the server cannot do this at the moment")]
    Unavailable(#[source] Source),
    /// Stored bytes are damaged on every replica; a new push of the same content heals them.
    #[error("the stored content {digest} is damaged")]
    Damaged { digest: Digest },
    #[error("the server failed")]
    Internal(#[source] Source),
}

/// What a quota's prefix covers, in words.
fn covered(prefix: &str) -> String {
    if prefix.is_empty() { "the registry".to_owned() } else { format!("the repositories of {prefix}") }
}

/// The cause of an error that is the server's own.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a request's body gave no further bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the body ended early")]
pub struct BodyError;

impl CoreError {
    pub(crate) fn internal(reason: &'static str) -> Self {
        Self::Internal(Box::new(Reason(reason)))
    }

    pub(crate) fn unavailable(reason: &'static str) -> Self {
        Self::Unavailable(Box::new(Reason(reason)))
    }

    /// A failure to read the content of `digest`.
    pub(crate) fn reading(digest: &Digest, error: BlobError) -> Self {
        match error {
            BlobError::Damaged { .. } | BlobError::KeyRow { .. } => {
                tracing::error!(blob.digest = %digest, error = %error, "stored content is damaged");
                Self::Damaged { digest: digest.clone() }
            }
            other => other.into(),
        }
    }
}

/// A cause that has no error of its own.
#[derive(Debug)]
struct Reason(&'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Reason {}

impl From<SqlError> for CoreError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Full(_) => Self::Full(Box::new(error)),
            SqlError::Busy(_)
            | SqlError::Companion(_)
            | SqlError::Io(_)
            | SqlError::NotDurable
            | SqlError::NotReplicated
            | SqlError::OutcomeUnknown(_)
            | SqlError::Unavailable(_)
            | SqlError::Closed => Self::Unavailable(Box::new(error)),
            _ => Self::Internal(Box::new(error)),
        }
    }
}

impl From<registry_metadata::Error> for CoreError {
    fn from(error: registry_metadata::Error) -> Self {
        match error {
            registry_metadata::Error::Sql(error) => error.into(),
            registry_metadata::Error::Corrupt { .. } => Self::Internal(Box::new(error)),
        }
    }
}

impl From<BlobError> for CoreError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::DigestMismatch { expected, actual } => Self::DigestMismatch { expected, actual },
            BlobError::UploadUnknown => Self::UploadNotFound,
            BlobError::UploadBusy => Self::UploadBusy,
            BlobError::TooLarge { limit } => Self::BlobTooLarge { limit },
            BlobError::Full(_) => Self::Full(Box::new(error)),
            BlobError::ObjectMissing { .. } | BlobError::Unavailable(_) | BlobError::Key { .. } => {
                Self::Unavailable(Box::new(error))
            }
            BlobError::TooManyPieces { .. }
            | BlobError::UploadFailed
            | BlobError::Damaged { .. }
            | BlobError::KeyRow { .. }
            | BlobError::Range { .. } => Self::Internal(Box::new(error)),
        }
    }
}
