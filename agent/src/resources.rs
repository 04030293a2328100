//! What of the host's CPU, memory and static ports is in use, and who waits for it.
//!
//! The scheduler frees a task's share when it wants the task stopped; the host has it only when the task is
//! over. So new tasks queue here, first come first served, all or nothing, the first holding up the rest.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use scheduler_protocol::Task;
use tokio::sync::oneshot;

/// CPU in units of 1/1024 core, memory in MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    /// Protocol and number of each static host port.
    pub(crate) ports: Vec<(String, u16)>,
}

impl Demand {
    /// By the same arithmetic as the scheduler's.
    pub(crate) fn of(task: &Task) -> Self {
        let cpu = match task.cpu {
            Some(cores) => (cores * 1024.0).round() as i64,
            None => task.containers.iter().map(|container| container.cpu).sum(),
        };
        let memory = task.memory.unwrap_or_else(|| {
            let each = task.containers.iter().map(|container| {
                soft_limit(&container.docker_config.host_config).unwrap_or(container.memory)
            });
            each.sum()
        });
        let mut ports = Vec::new();
        for mapping in task.containers.iter().flat_map(|container| &container.port_mappings) {
            let port = if task.network_mode == "host" { mapping.container_port } else { mapping.host_port };
            if let Some(port) = port.filter(|port| *port > 0) {
                let protocol = if mapping.protocol.is_empty() { "tcp" } else { &mapping.protocol };
                ports.push((protocol.to_owned(), port));
            }
        }
        Self { cpu, memory, ports }
    }
}

/// `memoryReservation` in MiB, which travels in Docker's shape, in bytes.
fn soft_limit(host_config: &str) -> Option<i64> {
    let value: serde_json::Value = serde_json::from_str(host_config).ok()?;
    value["MemoryReservation"].as_i64().filter(|bytes| *bytes > 0).map(|bytes| bytes >> 20)
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct HostResources(Arc<Mutex<Pool>>);

struct Pool {
    total: (i64, i64),
    free: (i64, i64),
    ports: HashSet<(String, u16)>,
    queue: VecDeque<(Demand, oneshot::Sender<ResourceLease>)>,
}

/// A share of the host; given back when dropped.
pub(crate) struct ResourceLease {
    resources: HostResources,
    demand: Demand,
}

impl HostResources {
    pub(crate) fn new(cpu: i64, memory: i64) -> Self {
        let pool =
            Pool { total: (cpu, memory), free: (cpu, memory), ports: HashSet::new(), queue: VecDeque::new() };
        Self(Arc::new(Mutex::new(pool)))
    }

    /// Waits in line for a share. A task that asks for more than the host has gets the whole host.
    pub(crate) async fn acquire(&self, mut demand: Demand) -> ResourceLease {
        let waiting = {
            let mut pool = self.0.lock();
            demand.cpu = demand.cpu.min(pool.total.0);
            demand.memory = demand.memory.min(pool.total.1);
            if pool.queue.is_empty() && pool.fits(&demand) {
                return pool.take(demand, self);
            }
            let (grant, waiting) = oneshot::channel();
            pool.queue.push_back((demand, grant));
            waiting
        };
        waiting.await.expect("the queue lives as long as this handle to it")
    }

    /// Takes a share for a task that runs already.
    pub(crate) fn adopt(&self, demand: Demand) -> ResourceLease {
        self.0.lock().take(demand, self)
    }

    fn hand_out(&self) {
        loop {
            let (grant, lease) = {
                let mut pool = self.0.lock();
                match pool.queue.front() {
                    Some((demand, _)) if pool.fits(demand) => {}
                    _ => return,
                }
                let Some((demand, grant)) = pool.queue.pop_front() else { return };
                (grant, pool.take(demand, self))
            };
            // Whoever gave up waiting drops it, which hands it on.
            drop(grant.send(lease));
        }
    }
}

impl Pool {
    fn fits(&self, demand: &Demand) -> bool {
        demand.cpu <= self.free.0
            && demand.memory <= self.free.1
            && demand.ports.iter().all(|port| !self.ports.contains(port))
    }

    fn take(&mut self, demand: Demand, resources: &HostResources) -> ResourceLease {
        self.free.0 -= demand.cpu;
        self.free.1 -= demand.memory;
        self.ports.extend(demand.ports.iter().cloned());
        ResourceLease { resources: resources.clone(), demand }
    }
}

impl Drop for ResourceLease {
    fn drop(&mut self) {
        {
            let mut pool = self.resources.0.lock();
            pool.free.0 += self.demand.cpu;
            pool.free.1 += self.demand.memory;
            for port in &self.demand.ports {
                pool.ports.remove(port);
            }
        }
        self.resources.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use scheduler_protocol::{Container, DockerConfig, PortMapping, Task};

    use super::{Demand, HostResources};

    fn demand(cpu: i64, ports: &[u16]) -> Demand {
        Demand { cpu, memory: 1, ports: ports.iter().map(|port| ("tcp".to_owned(), *port)).collect() }
    }

    #[tokio::test]
    async fn tasks_wait_in_line_for_what_is_freed() {
        let resources = HostResources::new(1000, 100);
        let first = resources.acquire(demand(600, &[80])).await;
        let mut large = Box::pin(resources.acquire(demand(900, &[])));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(resources.acquire(demand(1, &[])));
        assert!(small.as_mut().now_or_never().is_none(), "the first in line holds up the rest");
        drop(first);
        let large = large.await;
        let small = small.await;
        let mut port = Box::pin(resources.acquire(demand(1, &[80])));
        drop((large, small));
        let held = port.as_mut().now_or_never().unwrap();
        assert!(resources.acquire(demand(1, &[80])).now_or_never().is_none());
        drop(held);
        assert!(resources.acquire(demand(5000, &[80])).now_or_never().is_some(), "the whole host at most");
    }

    #[test]
    fn demand_is_the_schedulers_arithmetic() {
        let container = Container {
            cpu: 100,
            memory: 300,
            port_mappings: vec![PortMapping { host_port: Some(80), ..PortMapping::default() }],
            docker_config: DockerConfig {
                host_config: r#"{"MemoryReservation":134217728}"#.into(),
                ..DockerConfig::default()
            },
            ..Container::default()
        };
        let mut task = Task { containers: vec![container.clone(), container], ..Task::default() };
        task.containers[1].docker_config.host_config = String::new();
        task.containers[1].port_mappings.clear();
        let demand = Demand::of(&task);
        assert_eq!((demand.cpu, demand.memory, demand.ports.len()), (200, 428, 1));
        task.cpu = Some(0.5);
        task.memory = Some(256);
        assert_eq!((Demand::of(&task).cpu, Demand::of(&task).memory), (512, 256));
    }
}
