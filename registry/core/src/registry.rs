//! The registry itself: what all use-cases share.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use registry_blob::ContentStore;
use registry_metadata::{Domain, Metadata, blobs, epochs};
use registry_runtime::{Clock, Sealer};
use registry_types::Digest;

use crate::activity::Activity;
use crate::collector::Collector;
use crate::config::RegistryConfig;
use crate::error::CoreError;
use crate::pins::Pins;
use crate::reservations::Reservations;

/// Every use-case of the registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) metadata: Metadata,
    pub(crate) content: ContentStore,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) clock: Clock,
    pub(crate) config: RegistryConfig,
    /// Bytes of manifests by domain and digest. An entry makes nothing visible: rows are asked first.
    pub(crate) manifests: Cache<(Domain, Digest), Bytes, ByLength>,
    pub(crate) collector: Mutex<Collector>,
    pub(crate) reservations: Mutex<Reservations>,
    /// Key epochs that this process knows to be destroyed.
    pub(crate) destroyed: Mutex<HashSet<(Domain, u32)>>,
    /// Who knows what runs.
    pub(crate) pins: OnceLock<Arc<dyn Pins>>,
    pub(crate) activity: Activity,
}

/// One page of a listing; `next` is the cursor that continues after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl Registry {
    /// Opens the registry over its metadata and content; makes the default key domain ready.
    ///
    /// # Errors
    /// When the provider of keys has no secret for the domain's epoch, or cannot make the first one.
    pub async fn open(
        metadata: Metadata,
        content: ContentStore,
        sealer: Arc<Sealer>,
        clock: Clock,
        config: RegistryConfig,
    ) -> Result<Self, CoreError> {
        let domain = default_domain();
        let epoch = metadata.point({
            let domain = domain.clone();
            move |tx| Ok::<_, CoreError>((blobs::active_epoch(tx, &domain)?, epochs::is_known(tx, &domain)?))
        });
        let (epoch, is_known) = epoch.await?;
        match is_known {
            // Its secret was made. Another one in its place would open nothing of what is stored.
            true => content.follow_epoch(&blob_domain(&domain), epoch).await?,
            false => content.activate(&blob_domain(&domain), epoch).await?,
        }
        let now_ms = clock.now_ms();
        let noted = metadata.write(move |tx| epochs::note(tx, &domain, epoch, now_ms));
        noted.await.map_err(CoreError::from)?;
        let manifests = Cache::with_weighter(1024, config.manifest_cache_bytes, ByLength);
        let collector = Mutex::new(Collector::default());
        let registry = Self {
            inner: Arc::new(Inner {
                metadata,
                content,
                sealer,
                clock,
                config,
                manifests,
                collector,
                reservations: Mutex::default(),
                destroyed: Mutex::default(),
                pins: OnceLock::new(),
                activity: Activity::default(),
            }),
        };
        // The other domains; one whose secret is not here keeps only its own repositories from being written to.
        if let Err(error) = registry.follow_keys().await {
            tracing::error!(error = &error as &dyn std::error::Error, "a key domain cannot be used");
        }
        Ok(registry)
    }

    /// The settings this registry was opened with.
    pub fn config(&self) -> &RegistryConfig {
        &self.inner.config
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }
}

/// The key domain of repositories that name no key.
pub(crate) fn default_domain() -> Domain {
    Domain::new(registry_blob::Domain::DEFAULT)
}

pub(crate) fn blob_domain(domain: &Domain) -> registry_blob::Domain {
    registry_blob::Domain::new(domain.as_str())
}

#[derive(Clone)]
pub(crate) struct ByLength;

impl Weighter<(Domain, Digest), Bytes> for ByLength {
    fn weight(&self, _key: &(Domain, Digest), bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 256
    }
}
