//! What an operator or a test may set about the registry's use-cases.

use std::path::PathBuf;

/// Settings of a [`crate::Registry`].
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    pub limits: Limits,
    /// Memory for manifests that were read or pushed, in bytes.
    pub manifest_cache_bytes: u64,
    /// How long a request holds an upload without renewing its hold, in milliseconds.
    pub lease_ms: i64,
    /// How long a request may wait for the next bytes of its body, in milliseconds. There is no limit on
    /// the whole: a slow link may take hours.
    pub body_idle_ms: u64,
    /// How long an upload that nobody continues is kept, in milliseconds.
    pub upload_lifetime_ms: i64,
    /// How long a blob that no manifest names is kept after somebody last relied on it, and then how long its
    /// key is kept once nothing names it, in milliseconds; the second counts by the monotonic clock.
    pub gc_grace_ms: u64,
    /// How long an object that no row names is kept for readers that still hold it, in milliseconds of this
    /// process's monotonic clock.
    pub garbage_drain_ms: u64,
    /// From the end of a walk over everything for what the collector was not told of to the next one, in
    /// milliseconds; `None`: never.
    pub candidate_walk_interval_ms: Option<i64>,
    /// From when a lifecycle policy is set until it is applied, and from then to the next time, in milliseconds.
    pub lifecycle_interval_ms: i64,
    /// Whether a manifest is refused when something it names is missing.
    pub require_contents: bool,
    /// The lock that backups share while they copy objects; taken before any is deleted.
    pub deletion_lock: Option<PathBuf>,
}

/// Bounds on what is accepted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a blob; at most what one object of the content store can hold.
    pub blob_bytes: u64,
    /// Bytes of a manifest.
    pub manifest_bytes: usize,
    /// Descriptors that one manifest names: one transaction writes a row for each.
    pub descriptors: usize,
    /// Tags that one push may set.
    pub tags_per_push: usize,
    /// Tags that may point at one image of a repository.
    pub tags_per_image: u32,
    /// Bytes of annotations on one page of referrers, and on one referrer.
    pub referrers_page_bytes: u64,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            manifest_cache_bytes: 16 << 20,
            lease_ms: 15_000,
            body_idle_ms: 60_000,
            upload_lifetime_ms: 7 * 24 * 3_600_000,
            gc_grace_ms: 24 * 3_600_000,
            garbage_drain_ms: 15 * 60_000,
            candidate_walk_interval_ms: Some(24 * 3_600_000),
            lifecycle_interval_ms: 3_600_000,
            require_contents: true,
            deletion_lock: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // ECR's quota.
            blob_bytes: 52_000 << 20,
            manifest_bytes: 4 << 20,
            descriptors: 10_000,
            tags_per_push: 100,
            // Ten times ECR's quota: one tag for each build of what never changes.
            tags_per_image: 10_000,
            referrers_page_bytes: 3 << 20,
        }
    }
}
