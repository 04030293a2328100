//! A task on its way out of its service's address: who still leads connections to it.

use std::collections::HashSet;
use std::time::Duration;

use scheduler_protocol::BerthEndpointsReport;

use crate::ids::{ClusterName, InstanceId, TaskId};

/// An agent that does not answer is not waited for any longer than this.
pub(super) const LONGEST_ACK: Duration = Duration::from_secs(5);

/// Times are of a monotonic clock.
#[derive(Debug)]
pub(super) struct Withdrawal {
    pub(super) cluster: ClusterName,
    /// The instance on which the task is.
    pub(super) instance: InstanceId,
    /// The set from which it is gone.
    pub(super) version: i64,
    /// Instances whose agents may still lead new connections to it.
    pub(super) unaware: HashSet<InstanceId>,
    /// Instances whose agents still hold connections to it.
    pub(super) draining: HashSet<InstanceId>,
    pub(super) acked_by: Duration,
    pub(super) drained_by: Duration,
}

impl Withdrawal {
    /// Whether the task may be stopped.
    pub(super) fn is_over(&self) -> bool {
        self.unaware.is_empty() && self.draining.is_empty()
    }

    pub(super) fn heard(
        &mut self,
        task: &TaskId,
        instance: &InstanceId,
        report: &BerthEndpointsReport,
        now: Duration,
    ) {
        if report.version < self.version {
            return;
        }
        self.unaware.remove(instance);
        if now < self.drained_by && report.draining.iter().any(|id| id == task.as_str()) {
            self.draining.insert(instance.clone());
        } else {
            self.draining.remove(instance);
        }
    }

    pub(super) fn expire(&mut self, now: Duration) {
        if now >= self.acked_by {
            self.unaware.clear();
        }
        if now >= self.drained_by {
            self.draining.clear();
        }
    }
}
