//! What the operator should look at, for `/readyz` and the log: keys that nobody has a copy of, a restore that
//! waits to be adopted, replicas that cannot be used or do not keep up with the database.

use std::convert::Infallible;
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

/// Keys that no recovery key holds: with this disk they would be gone, and everything with them.
fn unexported(folder: &std::path::Path) -> Option<String> {
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
