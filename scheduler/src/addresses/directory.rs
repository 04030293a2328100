//! The sets of endpoints of all clusters, what agents have said of them, and the tasks on their way out.
//!
//! Kept in memory: after a start the sets come from committed state, and agents say again what they said.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use registry_runtime::Clock;
use scheduler_protocol::{
    BerthEndpointsMessage, BerthEndpointsReport, FailedListener, ServerMessage, ServiceEndpoints,
};
use tokio::sync::Notify;

use super::compose::{Serving, endpoints, listens};
use super::settings::{Address, name_of};
use super::withdrawal::{LONGEST_ACK, Withdrawal};
use crate::ids::{ClusterName, InstanceId, ServiceKey, TaskId};
use crate::model::{DesiredStatus, LastStatus, Service, ServiceStatus, Task};
use crate::state::{Change, Key, Record, State, service_of};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
    /// Told when there is a withdrawal whose time may run out.
    withdrawn: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    clusters: HashMap<ClusterName, Set>,
    reports: HashMap<InstanceId, Report>,
    withdrawals: HashMap<TaskId, Withdrawal>,
}

/// What the agents of one cluster are told.
#[derive(Default)]
struct Set {
    version: i64,
    services: BTreeMap<ServiceKey, Entry>,
    /// The message, once somebody has asked for it.
    frame: Option<Arc<str>>,
}

struct Entry {
    endpoints: ServiceEndpoints,
    /// The set in which the service first had this port.
    since: i64,
}

#[derive(Default)]
struct Report {
    version: i64,
    serving: Serving,
    draining: HashSet<TaskId>,
    failed: Vec<FailedListener>,
}

/// What follows from an agent's report.
#[derive(Default)]
pub(crate) struct Heard {
    /// The cluster's set has changed: its agents are to be told.
    pub(crate) changed: bool,
    /// Instances on which a task may be stopped now.
    pub(crate) released: Vec<InstanceId>,
    /// Events of services: what an agent cannot listen on, or can again.
    pub(crate) events: Vec<(ServiceKey, String)>,
}

/// How a service's address stands on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostListening {
    /// The agent has not said yet.
    Unknown,
    Listening,
    /// Why not.
    Failed(String),
}

impl Directory {
    /// The sets as the state has them at a start.
    pub(crate) fn new(clock: Clock, state: &State) -> Self {
        let directory = Self { clock, inner: Arc::default(), withdrawn: Arc::default() };
        let services: BTreeSet<ServiceKey> = state.services().map(|service| service.key.clone()).collect();
        let mut inner = directory.inner.lock();
        inner.refresh(state, &services, directory.clock.now_ms());
        let stopping = state.tasks().filter(|task| !task.is_stopped() && !task.wants_to_run());
        for task in stopping {
            inner.withdraw(state, task, directory.clock.monotonic());
        }
        drop(inner);
        directory
    }

    /// Takes note of a commit. Returns the clusters whose agents are to be told of a new set.
    pub(crate) fn note(&self, changes: &[Change], state: &State) -> Vec<ClusterName> {
        let mut inner = self.inner.lock();
        let mut services = BTreeSet::new();
        let mut stopping = Vec::new();
        for change in changes {
            match change {
                Change::Put(Record::Service(service)) => drop(services.insert(service.key.clone())),
                Change::Remove(Key::Service(key)) => drop(services.insert(key.clone())),
                Change::Put(Record::Task(task)) => {
                    if let Some(key) = service_of(task).filter(|key| has_address(state, key)) {
                        services.insert(key);
                        stopping.push(task);
                    }
                    if task.is_stopped() {
                        inner.withdrawals.remove(&task.id);
                    }
                }
                Change::Remove(Key::Task(id)) => drop(inner.withdrawals.remove(id)),
                Change::Put(Record::Instance(instance)) => {
                    let set = inner.clusters.get(&instance.cluster);
                    services.extend(set.into_iter().flat_map(|set| set.services.keys().cloned()));
                }
                Change::Remove(Key::Instance(id)) => drop(inner.reports.remove(id)),
                Change::Put(_) | Change::Remove(_) => {}
            }
        }
        if services.is_empty() {
            return Vec::new();
        }
        let changed = inner.refresh(state, &services, self.clock.now_ms());
        let now = self.clock.monotonic();
        let mut any = false;
        for task in stopping {
            let ends = task.desired_status == DesiredStatus::Stopped && !task.is_stopped();
            any |= ends && inner.withdraw(state, task, now);
        }
        if any {
            self.withdrawn.notify_one();
        }
        changed
    }

    /// The version of a cluster's set, and the message that tells it.
    pub(crate) fn message(&self, cluster: &ClusterName) -> (i64, Arc<str>) {
        let mut inner = self.inner.lock();
        let now_ms = self.clock.now_ms();
        let set = inner.clusters.entry(cluster.clone()).or_default();
        if set.version == 0 {
            set.version = now_ms;
        }
        let frame = set.frame.get_or_insert_with(|| {
            let message = BerthEndpointsMessage {
                message_id: registry_runtime::random_id(),
                cluster: cluster.to_string(),
                version: set.version,
                services: set.services.values().map(|entry| entry.endpoints.clone()).collect(),
            };
            ServerMessage::Endpoints(message).encode().into()
        });
        (set.version, Arc::clone(frame))
    }

    /// The version of a cluster's set; zero while nobody has asked for it.
    pub(crate) fn version(&self, cluster: &ClusterName) -> i64 {
        self.inner.lock().clusters.get(cluster).map_or(0, |set| set.version)
    }

    /// Whether a task's stop is to wait.
    pub(crate) fn holds(&self, task: &TaskId) -> bool {
        self.inner.lock().withdrawals.get(task).is_some_and(|withdrawal| !withdrawal.is_over())
    }

    /// Takes what an instance's agent says.
    pub(crate) fn heard(
        &self,
        state: &State,
        cluster: &ClusterName,
        instance: &InstanceId,
        report: &BerthEndpointsReport,
    ) -> Heard {
        let now = self.clock.monotonic();
        let mut inner = self.inner.lock();
        let serving: Serving =
            report.serving.iter().map(|task| (TaskId::new(&task.task_id), task.containers.clone())).collect();
        let before = inner.reports.remove(instance).unwrap_or_default();
        let events = inner.listener_events(state, cluster, instance, &before.failed, &report.failed);
        let serving_changed = before.serving != serving;
        let draining = report.draining.iter().map(|id| TaskId::new(id)).collect();
        let failed = report.failed.clone();
        let after = Report { version: report.version, serving, draining, failed };
        inner.reports.insert(instance.clone(), after);
        let mut released = Vec::new();
        for (task, withdrawal) in &mut inner.withdrawals {
            if withdrawal.cluster == *cluster && !withdrawal.is_over() {
                withdrawal.heard(task, instance, report, now);
                if withdrawal.is_over() {
                    released.push(withdrawal.instance.clone());
                }
            }
        }
        let changed = serving_changed && {
            let services = state.live_tasks_on(instance).filter_map(|task| service_of(task));
            let services: BTreeSet<ServiceKey> = services.filter(|key| has_address(state, key)).collect();
            !inner.refresh(state, &services, self.clock.now_ms()).is_empty()
        };
        Heard { changed, released, events }
    }

    /// Waits until some withdrawal's time has run out. Returns the instances on which a task may be stopped now.
    pub(crate) async fn expired(&self) -> Vec<InstanceId> {
        loop {
            let next = {
                let now = self.clock.monotonic();
                let mut inner = self.inner.lock();
                let mut released = Vec::new();
                let mut next: Option<Duration> = None;
                for withdrawal in inner.withdrawals.values_mut().filter(|one| !one.is_over()) {
                    withdrawal.expire(now);
                    if withdrawal.is_over() {
                        released.push(withdrawal.instance.clone());
                        continue;
                    }
                    let bound = if withdrawal.unaware.is_empty() {
                        withdrawal.drained_by
                    } else {
                        withdrawal.acked_by
                    };
                    next = Some(next.map_or(bound, |next| next.min(bound)));
                }
                if !released.is_empty() {
                    return released;
                }
                next.map(|bound| bound.saturating_sub(now))
            };
            match next {
                None => self.withdrawn.notified().await,
                Some(pause) => {
                    let _ = tokio::time::timeout(pause, self.withdrawn.notified()).await;
                }
            }
        }
    }

    /// How a service's address stands on the given instances.
    pub(crate) fn listening(&self, key: &ServiceKey, instance: &InstanceId) -> HostListening {
        let inner = self.inner.lock();
        let entry = inner.clusters.get(&key.cluster).and_then(|set| set.services.get(key));
        let (Some(entry), Some(report)) = (entry, inner.reports.get(instance)) else {
            return HostListening::Unknown;
        };
        let port = entry.endpoints.listen_port;
        match report.failed.iter().find(|failed| failed.port == port) {
            _ if report.version < entry.since => HostListening::Unknown,
            Some(failed) => HostListening::Failed(failed.reason.clone()),
            None => HostListening::Listening,
        }
    }
}

impl Inner {
    /// Computes these services anew. Returns the clusters whose sets are other ones now.
    fn refresh(&mut self, state: &State, services: &BTreeSet<ServiceKey>, now_ms: i64) -> Vec<ClusterName> {
        let mut changed = Vec::new();
        for key in services {
            let service = state.service(key).filter(|service| service.status == ServiceStatus::Active);
            // What is not of its form was refused when it was set.
            let address = service.and_then(|service| Address::of(&service.tags).ok().flatten());
            let reports = &self.reports;
            let serving = |instance: &InstanceId| reports.get(instance).map(|report| &report.serving);
            let fresh =
                service.zip(address).map(|(service, address)| endpoints(state, service, &address, &serving));
            let set = match (self.clusters.get_mut(&key.cluster), &fresh) {
                (Some(set), _) => set,
                (None, Some(_)) => self.clusters.entry(key.cluster.clone()).or_default(),
                (None, None) => continue,
            };
            let before = set.services.get(key);
            if before.map(|entry| &entry.endpoints) == fresh.as_ref() {
                continue;
            }
            set.version = now_ms.max(set.version + 1);
            set.frame = None;
            match fresh {
                Some(endpoints) => {
                    let same_port =
                        before.filter(|entry| entry.endpoints.listen_port == endpoints.listen_port);
                    let since = same_port.map_or(set.version, |entry| entry.since);
                    set.services.insert(key.clone(), Entry { endpoints, since });
                }
                None => drop(set.services.remove(key)),
            }
            changed.push(key.cluster.clone());
        }
        changed.dedup();
        changed
    }

    /// Takes note that a task is to stop. True when its stop has to wait.
    fn withdraw(&mut self, state: &State, task: &Task, now: Duration) -> bool {
        let Some(instance) = task.instance.clone().filter(|_| task.last_status == LastStatus::Running) else {
            return false;
        };
        let service = service_of(task).and_then(|key| state.service(&key));
        let address = service.and_then(|service| Address::of(&service.tags).ok().flatten());
        let Some(address) = address.filter(|_| !self.withdrawals.contains_key(&task.id)) else {
            return false;
        };
        let version = self.clusters.get(&task.cluster).map_or(0, |set| set.version);
        let told = |id: &InstanceId| self.reports.get(id).filter(|report| report.version >= version);
        let listening =
            state.instances_of(&task.cluster).filter(|instance| listens(instance) && !instance.lost);
        let (aware, unaware): (Vec<_>, Vec<_>) =
            listening.map(|instance| instance.id.clone()).partition(|id| told(id).is_some());
        let draining =
            aware.into_iter().filter(|id| told(id).is_some_and(|one| one.draining.contains(&task.id)));
        let withdrawal = Withdrawal {
            cluster: task.cluster.clone(),
            instance,
            version,
            unaware: unaware.into_iter().collect(),
            draining: draining.collect(),
            acked_by: now + LONGEST_ACK.min(address.drain.max(Duration::from_secs(1))),
            drained_by: now + address.drain,
        };
        let waits = !withdrawal.is_over();
        self.withdrawals.insert(task.id.clone(), withdrawal);
        waits
    }

    fn listener_events(
        &self,
        state: &State,
        cluster: &ClusterName,
        instance: &InstanceId,
        before: &[FailedListener],
        after: &[FailedListener],
    ) -> Vec<(ServiceKey, String)> {
        let Some(set) = self.clusters.get(cluster) else { return Vec::new() };
        let host = state.instance(instance).and_then(|instance| instance.host.clone());
        let host = host.map_or_else(String::new, |host| format!("host {host}, "));
        let service = |port: u16| set.services.iter().find(|(_, entry)| entry.endpoints.listen_port == port);
        let fresh = after.iter().filter(|failed| !before.contains(failed)).filter_map(|failed| {
            let (key, _) = service(failed.port)?;
            let text = format!(
                "(service {}) cannot listen on port {} ({host}container-instance {instance}): {}.",
                key.name, failed.port, failed.reason
            );
            Some((key.clone(), text))
        });
        let gone = before.iter().filter(|known| after.iter().all(|failed| failed.port != known.port));
        let again = gone.filter_map(|known| {
            let (key, _) = service(known.port)?;
            let text = format!(
                "(service {}) listens on port {} ({host}container-instance {instance}).",
                key.name, known.port
            );
            Some((key.clone(), text))
        });
        fresh.chain(again).collect()
    }
}

fn has_address(state: &State, key: &ServiceKey) -> bool {
    state.service(key).is_some_and(|service| matches!(Address::of(&service.tags), Ok(Some(_))))
}

/// What is said in a service's history when its address changes; none when it does not.
pub(crate) fn address_event(key: &ServiceKey, before: Option<&Service>, after: &Service) -> Option<String> {
    let port = |service: &Service| Address::of(&service.tags).ok().flatten().map(|address| address.port);
    let (before, after) = (before.and_then(port), port(after));
    let name = &key.name;
    match (before, after) {
        (before, after) if before == after => None,
        (_, Some(port)) => Some(format!(
            "(service {name}) has the address port {port} of every host of its cluster; inside tasks {}:{port}.",
            name_of(key)
        )),
        (Some(port), None) => Some(format!("(service {name}) gave up its address, port {port}.")),
        (None, None) => None,
    }
}
