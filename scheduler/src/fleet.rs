//! How many of everything the scheduler looks after, for status and metrics.

use crate::model::{InstanceStatus, ServiceStatus};
use crate::scheduler::Scheduler;

/// Counts over all clusters, of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    pub clusters: usize,
    pub services: usize,
    /// Instances that are registered, and those among them whose agent is connected.
    pub instances: usize,
    pub connected_instances: usize,
    pub running_tasks: usize,
    pub pending_tasks: usize,
}

impl Scheduler {
    /// `None` on a server that does not lead: what is to be counted is in the leader's memory.
    pub fn fleet(&self) -> Option<Fleet> {
        let core = self.present_core()?;
        let state = core.ledger.read();
        let mut fleet = Fleet { clusters: state.clusters().count(), ..Fleet::default() };
        fleet.services = state.services().filter(|one| one.status != ServiceStatus::Inactive).count();
        for instance in state.instances().filter(|one| one.status != InstanceStatus::Inactive) {
            fleet.instances += 1;
            fleet.connected_instances += usize::from(instance.connected);
            for task in state.live_tasks_on(&instance.id) {
                if task.started_at.is_some() {
                    fleet.running_tasks += 1;
                } else {
                    fleet.pending_tasks += 1;
                }
            }
        }
        Some(fleet)
    }
}
