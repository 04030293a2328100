//! What this process has done since it started, counted for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use registry_metadata::census::{self, Census};

use crate::error::CoreError;
use crate::registry::Registry;

/// A census counts no further than this: it costs the same whatever is stored.
const MOST: u32 = 10_000;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// One registry's numbers.
#[derive(Debug, Default)]
pub struct Activity {
    /// Manifests whose bytes were in memory, and those that were read from the content store.
    pub manifest_cache_hits: Count,
    pub manifest_cache_misses: Count,
    /// Rounds of the garbage collector that came to their end, and the objects they deleted.
    pub collections: Count,
    pub collected_objects: Count,
    /// Candidates that the collector looked at, and rows that its walks for further ones passed.
    pub collector_examined: Count,
    pub collector_walked: Count,
    /// Copies that scrub read, their bytes, and those it found damaged or missing.
    pub scrubbed_copies: Count,
    pub scrubbed_bytes: Count,
    pub scrub_findings: Count,
    /// Repairs: copies written anew, copies that were good after all, and attempts that did not work.
    pub repairs_rewritten: Count,
    pub repairs_unneeded: Count,
    pub repairs_failed: Count,
}

impl Registry {
    pub fn activity(&self) -> &Activity {
        &self.inner.activity
    }

    /// What is stored, counted up to 10,000 repositories and uploads.
    ///
    /// # Errors
    /// The database's.
    pub async fn census(&self) -> Result<Census, CoreError> {
        self.inner.metadata.read(|tx| Ok::<_, CoreError>(census::take(tx, MOST)?)).await
    }
}
