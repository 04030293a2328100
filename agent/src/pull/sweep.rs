//! Images that no task has used for long go from the host, a few at a time, the least recently used first.
//!
//! Only images that the agent pulled itself are known here. Nothing is forced: an image that a container still
//! holds, even a stopped one, stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use registry_runtime::Clock;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError};
use crate::store::{Store, Values};

const PREFIX: &str = "image/";
/// As many as ECS's agent removes at a time.
const IMAGES_A_ROUND: usize = 5;
/// A use is not written again within this time.
const NOTE_INTERVAL_MS: i64 = 10 * 60 * 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    /// The task definition's name, under which the image was tagged.
    image: String,
    at_ms: i64,
}

/// When each image that the agent pulled was last used. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ImageUse(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    used: Mutex<HashMap<String, Used>>,
}

impl ImageUse {
    pub(crate) fn new(store: Store, values: &Values, clock: Clock) -> Self {
        let saved = values.iter().filter_map(|(key, value)| {
            let reference = key.strip_prefix(PREFIX)?.to_owned();
            Some((reference, serde_json::from_slice(value).ok()?))
        });
        let used = Mutex::new(saved.collect());
        Self(Arc::new(Inner { store, clock, used }))
    }

    pub(super) fn note(&self, reference: &str, image: &str) {
        let at_ms = self.0.clock.now_ms();
        let mut used = self.0.used.lock();
        let noted = used.get(reference).map_or(i64::MIN, |used| used.at_ms);
        if at_ms.saturating_sub(noted) >= NOTE_INTERVAL_MS {
            let entry = Used { image: image.to_owned(), at_ms };
            let bytes = serde_json::to_vec(&entry).expect("strings have a JSON form");
            self.0.store.put(&format!("{PREFIX}{reference}"), bytes);
            used.insert(reference.to_owned(), entry);
        }
    }

    /// Removes what was not used for `keep_ms` and is not `in_use`, by digest, now.
    pub(crate) async fn sweep(&self, engine: &dyn Engine, keep_ms: i64, in_use: &HashSet<String>) {
        let now_ms = self.0.clock.now_ms();
        let mut old: Vec<(String, Used)> = {
            let used = self.0.used.lock();
            let of_task = |reference: &str| {
                reference.rsplit_once('@').is_some_and(|(_, digest)| in_use.contains(digest))
            };
            let old =
                used.iter().filter(|(reference, used)| used.at_ms + keep_ms < now_ms && !of_task(reference));
            old.map(|(reference, used)| (reference.clone(), used.clone())).collect()
        };
        old.sort_by_key(|(_, used)| used.at_ms);
        for (reference, used) in old.into_iter().take(IMAGES_A_ROUND) {
            match remove(engine, &reference, &used.image).await {
                Ok(()) => {
                    tracing::info!(image.name = reference, "an image that no task uses was removed");
                    self.0.used.lock().remove(&reference);
                    self.0.store.delete(&format!("{PREFIX}{reference}"));
                }
                Err(EngineError::Conflict(_)) => self.note(&reference, &used.image),
                Err(error) => tracing::warn!(image.name = reference, %error, "an image could not be removed"),
            }
        }
    }
}

/// Takes the courtesy name away, when it still means this image, and then the image.
async fn remove(engine: &dyn Engine, reference: &str, courtesy: &str) -> Result<(), EngineError> {
    let Some(image) = engine.image(reference).await? else { return Ok(()) };
    if !courtesy.contains('@')
        && let Some(named) = engine.image(courtesy).await?
        && named.id == image.id
    {
        engine.remove_image(courtesy).await?;
    }
    engine.remove_image(reference).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use registry_runtime::Clock;

    use super::{ImageUse, NOTE_INTERVAL_MS};
    use crate::engine::{Engine, Fake};
    use crate::store::{Store, Values};

    #[tokio::test]
    async fn only_images_that_nobody_has_used_for_long_go() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOTE_INTERVAL_MS);
        let (store, _) = Store::open(folder.path()).unwrap();
        let uses = ImageUse::new(store, &Values::new(), clock.clone());
        let engine = Fake::new(clock.clone());
        for name in ["old", "live", "fresh"] {
            let reference = format!("127.0.0.1:4000/app@sha256:{name}");
            engine.add_image(&reference);
            if name != "fresh" {
                uses.note(&reference, "app:1");
            }
        }
        clock.advance(Duration::from_secs(3600));
        uses.note("127.0.0.1:4000/app@sha256:fresh", "app:2");
        let in_use = HashSet::from(["sha256:live".to_owned()]);
        uses.sweep(&engine, 1_800_000, &in_use).await;
        let present = async |name: &str| {
            engine.image(&format!("127.0.0.1:4000/app@sha256:{name}")).await.unwrap().is_some()
        };
        assert!(!present("old").await && present("live").await && present("fresh").await);
    }
}
