//! The values that every room of Berth speaks of: digests, repository names, tags, ARNs.
//!
//! Each type is parsed at the door and cannot be wrong afterwards; nothing here does I/O,
//! reads a clock or draws random numbers.

mod arn;
mod digest;
mod media_type;
mod name;

pub use arn::{AccountId, Arn, ParseAccountIdError, ParseArnError, ParseRegionError, Region};
pub use digest::{Algorithm, Digest, ParseDigestError};
pub use media_type::MediaType;
pub use name::{ParseNameError, ParseReferenceError, ParseTagError, Reference, RepositoryName, Tag};
