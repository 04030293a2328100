//! Instances that fell silent: whose lease ran out, and when that is believed.
//!
//! After a start nobody is lost before a full lease has passed in which agents could connect, nor before an
//! agent that paused between two attempts has made the next one. When more than half of a cluster falls silent
//! at once it is rather this server or its network that is gone: nothing is replaced then, and the services
//! say so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use scheduler_protocol::AGENT_ATTRIBUTE;

use super::lifecycle::give_up;
use super::services::add_once;
use crate::agents::Liveness;
use crate::ids::{ClusterName, InstanceId, ServiceKey, TaskId};
use crate::model::{Instance, InstanceStatus, ServiceStatus, StopCode};
use crate::state::Draft;

/// So many may be lost at once whatever share of the cluster they are.
const FEW: usize = 2;

/// Marks instances lost whose agents have been silent for longer than the lease.
pub(super) fn check_leases(draft: &mut Draft<'_>, liveness: &Liveness, lease: Duration) {
    let mut clusters: HashMap<ClusterName, (usize, Vec<InstanceId>)> = HashMap::new();
    for instance in draft.state().instances() {
        if instance.status == InstanceStatus::Inactive || instance.lost {
            continue;
        }
        let (total, silent) = clusters.entry(instance.cluster.clone()).or_default();
        *total += 1;
        let patience =
            if liveness.was_heard(&instance.id) { lease } else { lease.max(longest_pause(instance)) };
        if liveness.silence(&instance.id) > patience {
            silent.push(instance.id.clone());
        }
    }
    for (cluster, (total, silent)) in clusters {
        if silent.len() > FEW && silent.len() * 2 > total {
            hold_back(draft, &cluster, silent.len(), total);
            continue;
        }
        for instance in silent {
            lose(draft, &instance, lease);
        }
    }
}

/// How long an agent that could not connect may wait before it tries again.
fn longest_pause(instance: &Instance) -> Duration {
    let own = instance.attributes.iter().any(|attribute| attribute.name == AGENT_ATTRIBUTE);
    // Amazon's agent doubles its pauses up to two minutes, give or take a fifth.
    Duration::from_secs(if own { 20 } else { 150 })
}

fn lose(draft: &mut Draft<'_>, id: &InstanceId, lease: Duration) {
    tracing::warn!(container_instance.id = %id, "an instance is lost: its agent is silent past the lease");
    let now_ms = draft.now_ms;
    draft.edit_instance(id, |instance| {
        instance.lost = true;
        if std::mem::take(&mut instance.connected) {
            instance.connectivity_at = Some(now_ms);
        }
    });
    let seconds = lease.as_secs();
    let reason =
        format!("Host (container-instance {id}) lost: no word from its agent for {seconds} seconds.");
    let tasks: Vec<TaskId> = draft.state().live_tasks_on(id).map(|task| task.id.clone()).collect();
    for task in tasks {
        give_up(draft, &task, StopCode::InfrastructureHealth, &reason);
    }
}

fn hold_back(draft: &mut Draft<'_>, cluster: &ClusterName, silent: usize, total: usize) {
    let services: Vec<ServiceKey> = draft
        .state()
        .services_of(cluster)
        .filter(|service| service.status == ServiceStatus::Active)
        .map(|service| Arc::clone(service).key.clone())
        .collect();
    for key in services {
        let name = key.name.clone();
        add_once(
            draft,
            &key,
            format!(
                "(service {name}) is waiting: {silent} of {total} container instances of the cluster fell silent at \
                 once, so their tasks are not replaced until most of them answer or are deregistered."
            ),
        );
    }
}

#[cfg(test)]
mod tests;
