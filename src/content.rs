//! The content store of this server: replicas, keys, and the workers that keep both as they should be.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use registry_blob::ContentStore;
use registry_core::{
    Places, Registry, RegistryConfig, Upkeep, UpkeepConfig, initialize_replicas, open_replicas,
};
use registry_metadata::Metadata;
use registry_runtime::{Clock, KeyProvider, Sealer, Shutdown, worker};
use registry_sql::Database;

use crate::config::Settings;
use crate::places::ReplicaPlaces;

/// How often this server looks whether there is something to do.
const LOOK: Duration = Duration::from_secs(1);

/// The places where replicas can lie; those of a new installation are made.
pub(crate) async fn places(
    settings: &Settings,
    sealer: &Sealer,
    is_first_start: bool,
) -> Result<Arc<dyn Places>> {
    let places = Arc::new(ReplicaPlaces::new(settings, sealer)?);
    if is_first_start {
        let locations = settings.replica_locations();
        let write_quorum = settings.config.write_quorum;
        let made = initialize_replicas(places.as_ref(), &locations, write_quorum).await;
        made.context("replicas and write_quorum")?;
    }
    Ok(places)
}

/// The registry over its metadata and replicas, and what keeps the content well.
pub(crate) async fn open(
    settings: &Settings,
    database: &Database,
    places: Arc<dyn Places>,
    keys: Arc<dyn KeyProvider>,
    sealer: &Arc<Sealer>,
    clock: &Clock,
) -> Result<(Registry, Upkeep)> {
    let metadata = Metadata::open(database.clone()).await.context("cannot open the metadata")?;
    let locations = settings.replica_locations();
    let write_quorum = settings.config.write_quorum;
    let replicas = open_replicas(&metadata, places.as_ref(), &locations, write_quorum, clock.now_ms());
    let content = ContentStore::new(replicas.await.context("replicas and write_quorum")?, keys);
    let config = RegistryConfig {
        lifecycle_interval_ms: i64::try_from(settings.config.lifecycle_interval.max(1).saturating_mul(1000))
            .unwrap_or(i64::MAX),
        require_contents: !settings.config.sparse_manifests,
        deletion_lock: Some(settings.deletion_lock()),
        ..RegistryConfig::default()
    };
    let opened = Registry::open(metadata, content, Arc::clone(sealer), clock.clone(), config).await;
    let registry = opened.with_context(|| {
        format!("cannot open the registry, whose keys lie in key_dir {}", settings.key_dir().display())
    })?;
    let config = UpkeepConfig {
        write_quorum,
        scrub_rate: settings.config.scrub_rate << 20,
        scrub_interval_ms: i64::try_from(settings.config.scrub_interval.saturating_mul(1000))
            .unwrap_or(i64::MAX),
    };
    let upkeep = Upkeep::new(registry.clone(), places, config);
    Ok((registry, upkeep))
}

/// Follows replicas and keys, wraps keys anew, repairs copies, and walks over everything.
pub(crate) fn spawn_upkeep(registry: &Registry, upkeep: &Upkeep, shutdown: &Shutdown) {
    let following = upkeep.clone();
    worker::spawn("follow_replicas", LOOK, shutdown, move || {
        let upkeep = following.clone();
        async move { upkeep.sync_replicas().await }
    });
    let wrapping = registry.clone();
    worker::spawn("follow_keys", LOOK, shutdown, move || {
        let registry = wrapping.clone();
        async move {
            registry.follow_keys().await?;
            registry.rewrap_keys().await.map(drop)
        }
    });
    let repairing = (upkeep.clone(), shutdown.clone());
    worker::spawn("repair_copies", LOOK, shutdown, move || {
        let (upkeep, shutdown) = repairing.clone();
        async move {
            while upkeep.repair().await? && !shutdown.has_begun() {}
            Ok::<_, registry_core::CoreError>(())
        }
    });
    let scrubbing = (upkeep.clone(), shutdown.clone());
    worker::spawn("scrub", LOOK, shutdown, move || {
        let (upkeep, shutdown) = scrubbing.clone();
        async move {
            tokio::select! {
                () = shutdown.begun() => Ok(()),
                scrubbed = scrub(&upkeep) => scrubbed,
            }
        }
    });
}

async fn scrub(upkeep: &Upkeep) -> Result<(), registry_core::CoreError> {
    while upkeep.scrub().await? {}
    Ok(())
}
