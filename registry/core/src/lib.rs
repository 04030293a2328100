//! The registry's use-cases: what pushing, pulling, tagging and deleting mean, with no protocol in sight.
//!
//! Content goes to `registry-blob`, facts to `registry-metadata`; one metadata transaction is the only
//! commit point of whatever is pushed. Invariant: nothing is visible in a repository but through a row
//! (uid of the repository, digest) that a completed push or a mount wrote. Whether a caller may do something
//! is decided before these functions are called, never in here.

mod activity;
mod adoption;
mod blobs;
mod collector;
mod commit;
mod config;
mod cursor;
mod error;
mod images;
mod keys;
mod lease;
mod lifecycle;
mod manifest;
mod manifests;
mod pins;
mod pull_through;
mod quotas;
mod receive;
mod referrers;
mod registry;
mod repositories;
mod reservations;
mod settings;
mod tags;
mod upkeep;
mod uploads;
mod workers;

#[cfg(test)]
mod tests;

pub use activity::{Activity, Count};
pub use blobs::{BlobHandle, BlobInfo, BlobStream, Mount};
pub use config::{Limits, RegistryConfig};
pub use error::{BodyError, CoreError, Source};
pub use images::{Image, Untagged};
pub use keys::{CreateKeyError, ShredError};
pub use lifecycle::{
    Expiring, LifecyclePreview, LifecycleRun, PolicyProblem, PreviewImage, PreviewQuery, PreviewState,
    StoredLifecyclePolicy,
};
pub use manifests::{ManifestInfo, ManifestPush, PushedManifest, StoredManifest};
pub use pins::{PinnedDigests, Pins};
pub use pull_through::{NewRule, PullThroughRule, UpstreamCredentials, UpstreamTag};
pub use quotas::{Bound, NearlyFull, PrefixQuota, Quota, Usage};
pub use receive::{Body, ContentRange};
pub use referrers::{Referrer, fallback_tag};
pub use registry::{Page, Registry};
pub use registry_metadata::adoption::Restored;
pub use registry_metadata::census::Census;
pub use registry_metadata::epochs::{Epoch, EpochState};
pub use registry_metadata::tags::TagNames;
pub use registry_metadata::{
    Domain, EncryptionType, ImmutabilityExclusion, Repository, RepositoryPolicy, RepositoryUid,
    TagMutability, UploadUid,
};
pub use repositories::{NewRepository, PushTarget};
pub use settings::{RegistryPolicy, remove_policy};
pub use upkeep::{
    Finding, FindingKind, Places, Purged, ReplicaError, ReplicaState, ReplicaStatus, ReplicaWatch, Scrub,
    ScrubState, StoreStatus, Tally, Upkeep, UpkeepConfig, initialize_replicas, numbered_replica,
    open_replicas,
};
pub use uploads::{FinishedUpload, NewUpload, UploadStatus};
