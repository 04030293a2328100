//! What this host knows of its own tasks before anybody else: which containers run, and at which address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use parking_lot::Mutex;
use scheduler_protocol::ServingTask;

use crate::engine::Engine;
use crate::task::context::TaskContext;
use crate::task::state::Phase;

/// Where a container's port is, seen from its own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not on this host.
    Elsewhere,
    /// At the container's own address: a refusal is the container's, where Docker's proxy would take any
    /// connection first.
    Container(IpAddr),
    /// On the host's port.
    HostPort,
    /// It does not run.
    Down,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) runtime_id: String,
    started_at_ms: Option<i64>,
}

/// A container that has just begun to run.
#[derive(Clone, Debug)]
pub(super) struct Started {
    task_id: String,
    name: String,
    pub(super) runtime_id: String,
    pub(super) on_host_network: bool,
    run: Run,
}

#[derive(Clone, Debug, Default)]
struct Own {
    /// It has ports and belongs to a service: the scheduler may lead connections to it.
    serves: bool,
    /// The present run; none while the container does not run.
    run: Option<Run>,
    /// A run whose end the engine has told.
    ended: Option<Run>,
    address: Option<IpAddr>,
}

/// By task id, then by container.
#[derive(Default)]
pub(super) struct OwnTasks(Mutex<HashMap<String, BTreeMap<String, Own>>>);

impl OwnTasks {
    /// Takes a task's state. None when nothing of it matters here; else the containers that have begun to run.
    pub(super) fn update(&self, context: &TaskContext) -> Option<Vec<Started>> {
        let task = context.task();
        let state = context.state();
        let on_host_network = task.network_mode == "host";
        let mut started = Vec::new();
        let mut changed = false;
        let mut tasks = self.0.lock();
        let known = tasks.entry(context.id.clone()).or_default();
        for (container, container_state) in task.containers.iter().zip(&state.containers) {
            let own = known.entry(container.name.clone()).or_default();
            own.serves = !task.service_name.is_empty() && !container.port_mappings.is_empty();
            let run = container_state
                .runtime_id
                .clone()
                .filter(|_| container_state.phase == Phase::Running)
                .map(|runtime_id| Run { runtime_id, started_at_ms: container_state.started_at_ms });
            let run = run.filter(|run| own.ended.as_ref() != Some(run));
            if own.run == run {
                continue;
            }
            changed = true;
            own.address = None;
            own.run.clone_from(&run);
            if let Some(run) = run {
                let (task_id, name) = (context.id.clone(), container.name.clone());
                started.push(Started {
                    task_id,
                    name,
                    runtime_id: run.runtime_id.clone(),
                    on_host_network,
                    run,
                });
            }
        }
        changed.then_some(started)
    }

    /// Finds out the address of a container. True when that is news.
    pub(super) async fn look_up(&self, engine: &dyn Engine, container: &Started) -> bool {
        if container.on_host_network {
            return false;
        }
        let found = match engine.container(&container.runtime_id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, container.runtime_id, "a container's address is not known; its host port serves");
                return false;
            }
        };
        let Some(address) = found.and_then(|found| found.addresses.first().copied()) else { return false };
        let mut tasks = self.0.lock();
        let own = tasks.get_mut(&container.task_id).and_then(|task| task.get_mut(&container.name));
        match own.filter(|own| own.run.as_ref() == Some(&container.run)) {
            Some(own) => {
                own.address = Some(address);
                true
            }
            None => false,
        }
    }

    /// The engine says that a container has ended. True when that is news.
    pub(super) fn died(&self, task_id: &str, runtime_id: &str) -> bool {
        let mut tasks = self.0.lock();
        let containers = tasks.get_mut(task_id).into_iter().flat_map(BTreeMap::values_mut);
        for own in containers {
            if own.run.as_ref().is_some_and(|run| run.runtime_id == runtime_id) {
                own.ended = own.run.take();
                own.address = None;
                return true;
            }
        }
        false
    }

    pub(super) fn forget(&self, task_id: &str) -> bool {
        self.0.lock().remove(task_id).is_some()
    }

    pub(super) fn place(&self, task_id: &str, container: &str) -> Place {
        let tasks = self.0.lock();
        let Some(task) = tasks.get(task_id) else { return Place::Elsewhere };
        match task.get(container) {
            Some(Own { run: Some(_), address: Some(address), .. }) => Place::Container(*address),
            Some(Own { run: Some(_), .. }) => Place::HostPort,
            _ => Place::Down,
        }
    }

    /// Tasks with their containers that run, in order.
    pub(super) fn serving(&self) -> Vec<ServingTask> {
        let tasks = self.0.lock();
        let mut serving: Vec<ServingTask> = tasks
            .iter()
            .map(|(task_id, containers)| ServingTask {
                task_id: task_id.clone(),
                containers: containers
                    .iter()
                    .filter(|(_, own)| own.serves && own.run.is_some())
                    .map(|(name, _)| name.clone())
                    .collect(),
            })
            .filter(|task| !task.containers.is_empty())
            .collect();
        serving.sort_unstable();
        serving
    }
}
