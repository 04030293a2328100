//! The address of a service on this host: takes connections and leads each to a healthy task, wherever it runs.
//!
//! What is behind an address the scheduler tells, and the last word counts while it is away; of the host's own
//! tasks the agent knows better and sooner. Invariant: when a report bears a version, no connection that comes
//! after it is led to a task which that set does not name.

mod addresses;
mod balancer;
mod connection;
mod copy;
mod header;
mod hosts;
mod listener;
mod own;
mod service;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use registry_runtime::Shutdown;
use scheduler_protocol::{
    BerthEndpointsMessage, BerthEndpointsReport, EndpointTarget, FailedListener, ServiceEndpoints,
};
use tokio::sync::{Semaphore, watch};

pub(crate) use self::addresses::Addresses;
use self::balancer::{Load, Target};
pub(crate) use self::hosts::Names;
use self::own::{OwnTasks, Place};
use self::service::Service;
use crate::engine::Engine;
use crate::task::context::TaskContext;

/// Where the last set lies in the agent's state.
pub(crate) const SET_KEY: &str = "endpoints";

/// Connections that go on when the agent is told to stop have so long to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Each connection has a socket at either end.
const FILES_OF_A_CONNECTION: u64 = 2;
const FILES_OF_THE_REST: u64 = 512;
const MOST_CONNECTIONS: u64 = 16_384;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    addresses: Addresses,
    own: OwnTasks,
    names: Names,
    state: Mutex<State>,
    /// Some task that left the set may still have connections.
    draining: AtomicBool,
    report: watch::Sender<BerthEndpointsReport>,
    connections: Arc<Semaphore>,
    capacity: u32,
}

#[derive(Default)]
struct State {
    set: BerthEndpointsMessage,
    services: BTreeMap<u16, Arc<Service>>,
    /// Tasks that left the set with connections.
    leaving: Vec<Arc<Load>>,
}

impl Proxy {
    pub(crate) fn new(addresses: Addresses, engine: Arc<dyn Engine>) -> Self {
        let capacity = capacity();
        let names = Names::new(Arc::clone(&engine), addresses.clone());
        Self(Arc::new(Inner {
            engine,
            addresses,
            own: OwnTasks::default(),
            names,
            state: Mutex::default(),
            draining: AtomicBool::new(false),
            report: watch::Sender::new(BerthEndpointsReport::default()),
            connections: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
        }))
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    /// Takes a set: from now on new connections go by it.
    pub(crate) fn apply(&self, set: BerthEndpointsMessage) {
        let names: BTreeSet<String> =
            set.services.iter().map(|service| hosts::name_of(&set.cluster, service)).collect();
        {
            let mut state = self.0.state.lock();
            let ports: HashSet<u16> = set.services.iter().map(|service| service.listen_port).collect();
            let gone: Vec<u16> =
                state.services.keys().copied().filter(|port| !ports.contains(port)).collect();
            for port in gone {
                if let Some(service) = state.services.remove(&port) {
                    state.leaving.extend(service.close());
                }
            }
            state.set = set;
        }
        self.refresh();
        self.0.names.set(names);
    }

    /// The agent's word on the set and on its own tasks, as it changes.
    pub(crate) fn report(&self) -> watch::Receiver<BerthEndpointsReport> {
        self.0.report.subscribe()
    }

    /// Something about a task of this host has changed.
    pub(crate) fn task_changed(&self, context: &TaskContext) {
        let Some(started) = self.0.own.update(context) else { return };
        self.refresh();
        for container in started {
            let proxy = self.clone();
            tokio::spawn(async move {
                if proxy.0.own.look_up(&*proxy.0.engine, &container).await {
                    proxy.refresh();
                }
                proxy.0.names.tell(&container.runtime_id, container.on_host_network).await;
            });
        }
    }

    /// A container of this host has ended: nothing is led to it any more, whatever becomes of its task.
    pub(crate) fn died(&self, task_id: &str, runtime_id: &str) {
        self.0.names.forget(runtime_id);
        if self.0.own.died(task_id, runtime_id) {
            self.refresh();
        }
    }

    pub(crate) fn forget(&self, task_id: &str) {
        if self.0.own.forget(task_id) {
            self.refresh();
        }
    }

    /// Waits for the shutdown, stops listening, and gives connections a moment to end.
    pub(crate) async fn run(&self, shutdown: Shutdown) {
        shutdown.begun().await;
        let services: Vec<Arc<Service>> = self.0.state.lock().services.values().cloned().collect();
        for service in services {
            service.stop_listening();
        }
        let all = self.0.connections.acquire_many(self.0.capacity);
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, all).await;
    }

    /// Brings services, their targets and the report in line with the set and with what is known of own tasks.
    fn refresh(&self) {
        let mut state = self.0.state.lock();
        let set = std::mem::take(&mut state.set);
        for wanted in &set.services {
            let targets = wanted.targets.iter().filter_map(|target| self.resolve(target)).collect();
            let service = match state.services.get(&wanted.listen_port) {
                Some(service) => Arc::clone(service),
                None => {
                    let service = self.open(wanted);
                    state.services.insert(wanted.listen_port, Arc::clone(&service));
                    service
                }
            };
            service.set_proxy_protocol(wanted.proxy_protocol);
            state.leaving.extend(service.set_targets(targets));
        }
        state.set = set;
        self.say(&mut state);
    }

    fn open(&self, wanted: &ServiceEndpoints) -> Arc<Service> {
        let service = Arc::new(Service::new(wanted.listen_port));
        for address in self.0.addresses.to_bind() {
            let listener = listener::listen(
                Arc::clone(&service),
                self.clone(),
                SocketAddr::new(address, wanted.listen_port),
            );
            service.keep(tokio::spawn(listener).abort_handle());
        }
        service
    }

    /// Where a task's port is, seen from here; none for one that cannot take connections.
    fn resolve(&self, target: &EndpointTarget) -> Option<Target> {
        let address = match self.0.own.place(&target.task_id, &target.container_name) {
            Place::Elsewhere => {
                let ip = target.address.parse().ok().filter(|ip| self.0.addresses.may_reach(*ip))?;
                SocketAddr::new(ip, target.host_port)
            }
            Place::Container(ip) => SocketAddr::new(ip, target.container_port),
            Place::HostPort => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target.host_port),
            Place::Down => return None,
        };
        Some(Target { task_id: target.task_id.clone(), address })
    }

    /// Makes the report anew; whoever waits for it is told only of a change.
    fn say(&self, state: &mut State) {
        let current: HashSet<&str> =
            state.set.services.iter().flat_map(|one| &one.targets).map(|one| one.task_id.as_str()).collect();
        state.leaving.retain(|load| load.open() > 0);
        let draining: BTreeSet<String> = state
            .leaving
            .iter()
            .filter(|load| !current.contains(load.task_id.as_str()))
            .map(|load| load.task_id.clone())
            .collect();
        self.0.draining.store(!state.leaving.is_empty(), Ordering::SeqCst);
        let failed = state
            .services
            .iter()
            .filter_map(|(port, service)| Some(FailedListener { port: *port, reason: service.failure()? }));
        let fresh = BerthEndpointsReport {
            version: state.set.version,
            serving: self.0.own.serving(),
            draining: draining.into_iter().collect(),
            failed: failed.collect(),
        };
        self.0.report.send_if_modified(|report| {
            let changed = *report != fresh;
            *report = fresh;
            changed
        });
    }

    /// A connection has ended; perhaps the last one of a task that has left.
    fn ended(&self) {
        if self.0.draining.load(Ordering::SeqCst) {
            self.say(&mut self.0.state.lock());
        }
    }

    /// A listener failed, or works again.
    fn listeners_changed(&self) {
        self.say(&mut self.0.state.lock());
    }
}

/// Connections at once, by the files that this process may open.
fn capacity() -> u32 {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = files.saturating_sub(FILES_OF_THE_REST) / FILES_OF_A_CONNECTION;
    u32::try_from(most.clamp(64, MOST_CONNECTIONS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
