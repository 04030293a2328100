//! What the registry knows about its content: repositories, manifests, tags, uploads, keys and links.
//!
//! Typed queries over one transaction of `registry-sql`; no blob bytes, no clock and no randomness live
//! here. Every repository is known by the uid of its incarnation, so that whatever is left of a deleted
//! repository can never show up in a later one of the same name. Costs do not grow with what is stored:
//! each query reads by a full key or walks an ordered key from a cursor with a limit.

mod error;
mod migrations;
mod model;
mod store;

pub mod adoption;
pub mod blobs;
pub mod candidates;
pub mod census;
pub mod epochs;
pub mod garbage;
pub mod lifecycle;
pub mod liveness;
pub mod manifests;
pub mod pull_through;
pub mod quotas;
pub mod referrers;
pub mod repairs;
pub mod replicas;
pub mod repositories;
pub mod reservations;
pub mod scrubs;
pub mod settings;
pub mod tags;
pub mod uploads;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use model::{
    Content, ContentKind, Domain, EncryptionType, ImmutabilityExclusion, KeyRow, Link, Manifest, Quota,
    ReferrerKey, Repository, RepositoryPolicy, RepositoryUid, TagMutability, TagRow, UploadRow, UploadUid,
    Usage,
};
pub use registry_sql::{Error as SqlError, Tx};
pub use store::Metadata;
