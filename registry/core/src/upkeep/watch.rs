//! How the replicas answer: looked at now and then, and told from memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use registry_blob::{BlobStore, ReplicaId};

use super::status::{LATE, PROBE, SILENT};
use super::told;
use crate::registry::Registry;

/// Cheap to clone.
#[derive(Clone)]
pub struct ReplicaWatch {
    registry: Registry,
    looks: Arc<Mutex<HashMap<ReplicaId, Look>>>,
}

/// What was last seen of a replica.
struct Look {
    store: Arc<dyn BlobStore>,
    /// One that hangs is not asked again before it has answered.
    is_under_way: bool,
    problem: Option<String>,
}

impl ReplicaWatch {
    pub fn new(registry: Registry) -> Self {
        Self { registry, looks: Arc::default() }
    }

    /// Begins to look at every replica in use, and waits for none.
    pub fn look(&self) {
        let set = self.registry.inner.content.replicas();
        let mut looks = self.looks.lock();
        looks.retain(|id, look| set.store(id).is_some_and(|store| Arc::ptr_eq(store, &look.store)));
        for id in set.replica_ids() {
            let Some(store) = set.store(id) else { continue };
            let look = looks.entry(id.clone()).or_insert_with(|| Look {
                store: Arc::clone(store),
                is_under_way: false,
                problem: None,
            });
            if !look.is_under_way {
                look.is_under_way = true;
                tokio::spawn(self.clone().look_at(id.clone(), Arc::clone(store)));
            }
        }
    }

    async fn look_at(self, id: ReplicaId, store: Arc<dyn BlobStore>) {
        let mut answer = store.probe();
        let answered = match tokio::time::timeout(PROBE, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                self.note(&id, &store, Some(SILENT.to_owned()), true);
                answer.await
            }
        };
        self.note(&id, &store, answered.err().map(|error| told(&error)), false);
    }

    fn note(&self, id: &ReplicaId, store: &Arc<dyn BlobStore>, problem: Option<String>, is_under_way: bool) {
        let mut looks = self.looks.lock();
        let Some(look) = looks.get_mut(id).filter(|look| Arc::ptr_eq(&look.store, store)) else { return };
        match (&look.problem, &problem) {
            (None, Some(problem)) => {
                tracing::warn!(replica.id = %id, problem = %problem, "a replica cannot be used");
            }
            (Some(_), None) => tracing::info!(replica.id = %id, "a replica can be used again"),
            _ => {}
        }
        look.problem = problem;
        look.is_under_way = is_under_way;
    }

    /// The replicas that cannot be used, with why, as it was last seen. Asks none of them.
    pub fn problems(&self) -> Vec<(ReplicaId, String)> {
        let set = self.registry.inner.content.replicas();
        let looks = self.looks.lock();
        let of = |id: &ReplicaId| {
            let seen = looks.get(id).and_then(|look| look.problem.clone());
            let problem = seen.or_else(|| set.is_suspect(id).then(|| LATE.to_owned()))?;
            Some((id.clone(), problem))
        };
        set.replica_ids().filter_map(of).collect()
    }
}
