//! The content store: everything content-addressed, always encrypted, in format BRF1.
//!
//! `BlobStore` drivers keep opaque objects, `Replicated` writes them to several places and reads on from
//! another when one fails, `ContentStore` seals, hashes and opens. Nothing here writes a database: a
//! finished upload returns `Sealed`, and the caller's one transaction makes it a blob.

mod buffer;
mod cipher;
mod content;
mod error;
mod file_id;
mod format;
mod key_row;
mod keys;
mod pace;
mod replicate;
mod store;
#[cfg(test)]
mod suite;

pub use buffer::Buffer;
pub use content::{Blob, BlobStream, ContentStore, Damage, Repaired, Upload};
pub use error::BlobError;
pub use file_id::{FileId, ParseFileIdError};
pub use key_row::{DataKey, Domain, KeyRow, Sealed, SuspendedUpload};
pub use pace::Pace;
pub use replicate::{QuorumError, Rejection, ReplicaId, Replicated};
pub use store::fs::FsStore;
pub use store::marker::Marker;
pub use store::memory::MemoryStore;
pub use store::s3::{S3Config, S3Folder, S3Store};
pub use store::{BlobStore, ObjectEntry, ObjectReader, ObjectWriter, Replacement, StoreError};
