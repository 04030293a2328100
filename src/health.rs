//! What the operator should look at, for `/readyz` and the log: keys that nobody has a copy of, a restore that
//! waits to be adopted, replicas that cannot be used or do not keep up with the database, disks that fill up.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use registry_core::{Registry, ReplicaWatch};
use registry_runtime::{LocalKeys, Shutdown, worker};
use registry_sql::Database;

use crate::config::Settings;
use crate::dispatch::Ready;

const LOOK: Duration = Duration::from_secs(1);
/// How often every replica is asked whether it is there.
const LOOK_AT_REPLICAS: Duration = Duration::from_secs(5);
const LOOK_AT_DISKS: Duration = Duration::from_secs(5);
/// A disk fills up when less than this is free, or less than this part of it.
const LITTLE: u64 = 1 << 30;
const PART: u64 = 50;

/// Adds everything to what `/readyz` reports; what stands at the start is logged once.
pub(crate) fn report(
    ready: &mut Ready,
    settings: &Settings,
    registry: &Registry,
    database: &Database,
    shutdown: &Shutdown,
) {
    let folder = settings.key_dir();
    if let Some(problem) = unexported(&folder) {
        tracing::warn!("{problem}");
    }
    ready.report(move || unexported(&folder));
    let database = database.clone();
    ready.report(move || behind(&database));
    let watch = ReplicaWatch::new(registry.clone());
    let looking = watch.clone();
    worker::spawn("look_at_replicas", LOOK_AT_REPLICAS, shutdown, move || {
        looking.look();
        std::future::ready(Ok::<_, Infallible>(()))
    });
    ready.report(move || away(&watch));
    ready.report(watch_disks(settings, shutdown));
    let waiting: Arc<Mutex<Option<String>>> = Arc::default();
    let (registry, shared) = (registry.clone(), Arc::clone(&waiting));
    worker::spawn("look_for_adoption", LOOK, shutdown, move || {
        let (registry, shared) = (registry.clone(), Arc::clone(&shared));
        async move {
            let found = registry.waiting_for_adoption().await?;
            let text = found.map(|restored| {
                format!(
                    "restored from {}: nothing is deleted until `berth store adopt` has run",
                    restored.source
                )
            });
            let mut shared = shared.lock();
            if let (Some(text), None) = (&text, &*shared) {
                tracing::warn!("{text}");
            }
            *shared = text;
            Ok::<_, registry_core::CoreError>(())
        }
    });
    ready.report(move || waiting.lock().clone());
}

/// Looks at the disks of the data directory and of replicas in folders; what was last seen, and logged when it came.
fn watch_disks(
    settings: &Settings,
    shutdown: &Shutdown,
) -> impl Fn() -> Option<String> + Send + Sync + 'static {
    let mut folders = vec![settings.data.clone()];
    folders
        .extend(settings.replica_locations().into_iter().map(PathBuf::from).filter(|one| one.is_absolute()));
    let (folders, seen) = (Arc::new(folders), Arc::<Mutex<Option<String>>>::default());
    let shared = Arc::clone(&seen);
    worker::spawn("look_at_disks", LOOK_AT_DISKS, shutdown, move || {
        let (folders, shared) = (Arc::clone(&folders), Arc::clone(&shared));
        async move {
            // A disk that hangs holds up this alone.
            let found = tokio::task::spawn_blocking(move || filling(&folders)).await?;
            let before = std::mem::replace(&mut *shared.lock(), found.clone());
            if let (Some(found), None) = (&found, &before) {
                tracing::warn!("{found}");
            }
            Ok::<_, tokio::task::JoinError>(())
        }
    });
    move || seen.lock().clone()
}

/// Disks that are full or nearly so, each told once.
fn filling(folders: &[PathBuf]) -> Option<String> {
    let mut devices = BTreeSet::new();
    let low = |folder: &PathBuf| {
        // A folder that is not there is told elsewhere.
        let (device, disk) = (std::fs::metadata(folder).ok()?.dev(), rustix::fs::statvfs(folder).ok()?);
        let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        let is_low = free < LITTLE.min(all / PART) && devices.insert(device);
        is_low.then(|| format!("{} ({} of {} MiB are free)", folder.display(), free >> 20, all >> 20))
    };
    let low: Vec<String> = folders.iter().filter_map(low).collect();
    (!low.is_empty()).then(|| {
        format!("there is little space left, without which nothing can be written: {}", low.join(", "))
    })
}

/// Keys that no recovery key holds: with this disk they would be gone, and everything with them.
fn unexported(folder: &Path) -> Option<String> {
    let count = LocalKeys::open(folder).and_then(|keys| keys.unexported());
    match count {
        Ok(0) => None,
        Ok(count) => Some(format!(
            "{count} keys are in no recovery key: run `berth key export --output FILE` and keep FILE elsewhere"
        )),
        Err(error) => Some(format!("the key directory cannot be read: {error}")),
    }
}

/// Replicas of the content that cannot be used.
fn away(watch: &ReplicaWatch) -> Option<String> {
    let away = watch.problems();
    let away: Vec<String> = away.iter().map(|(id, problem)| format!("{id} ({problem})")).collect();
    (!away.is_empty()).then(|| format!("replicas of the content cannot be used: {}", away.join(", ")))
}

/// Replicas that do not hold every change of the database.
fn behind(database: &Database) -> Option<String> {
    let status = database.change_log()?;
    let out: Vec<String> = status
        .replicas
        .iter()
        .filter(|replica| !replica.in_sync)
        .map(|replica| format!("{} ({})", replica.name, replica.problem.as_deref().unwrap_or("is copied to")))
        .collect();
    (!out.is_empty()).then(|| format!("the changes of the database are not on {}", out.join(", ")))
}
