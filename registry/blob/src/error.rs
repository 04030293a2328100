//! What can go wrong with content, by what the caller can do about it.

use registry_types::Digest;
use thiserror::Error;

use crate::file_id::FileId;
use crate::store::StoreError;

/// Errors of the content store. The cause is in `source()`; messages hold no key and no plaintext.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The bytes received do not have the digest that the client named. The upload is gone.
    #[error("content has digest {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    /// The suspended state does not fit what the replicas hold, or was sealed by another release: the
    /// client starts over.
    #[error("the upload can not be continued")]
    UploadUnknown,
    /// Another request still writes the same object: the client tries again.
    #[error("the upload is being written by another request")]
    UploadBusy,
    /// More bytes than an object may hold; nothing of the excess was stored.
    #[error("content is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// An upload in too many pieces: its footer could not list their runs.
    #[error("the upload was sent in more than {limit} pieces")]
    TooManyPieces { limit: usize },
    /// An earlier error ended this upload; it takes no more bytes.
    #[error("the upload failed before")]
    UploadFailed,
    /// Every replica was asked and none has the object. The caller looks its key row up again, since the
    /// blob may have been pushed anew; with the same row there, it answers 503.
    #[error("no replica has object {file_id}")]
    ObjectMissing { file_id: FileId },
    /// No replica holds good bytes for this stretch of the object. No wrong byte was released.
    #[error("object {file_id} is damaged on every replica")]
    Damaged { file_id: FileId },
    /// The row does not describe the object: a row of another blob, another epoch or another domain.
    #[error("the key row does not open object {file_id}")]
    KeyRow { file_id: FileId },
    /// Too few replicas can be reached, or the provider of keys can not.
    #[error("storage is unavailable")]
    Unavailable(#[source] StoreError),
    /// The write quorum has no space left.
    #[error("storage is full")]
    Full(#[source] StoreError),
    /// The provider has no secret for the epoch, or could not be asked.
    #[error("the key of epoch {epoch} is not available")]
    Key { epoch: u32, source: Box<dyn std::error::Error + Send + Sync> },
    /// A range that ends past the blob's end: a mistake of the caller, who checks it first.
    #[error("the range ends past the blob's {len} bytes")]
    Range { len: u64 },
}
