//! State changes as the scheduler is told of them.

use scheduler_protocol::{ContainerStateChange, SubmitTaskStateChangeRequest};

use crate::task::context::TaskContext;
use crate::task::event::Report;
use crate::task::state::TaskState;

/// The words for a report, from the state right after the event that caused it.
pub(crate) fn render(
    context: &TaskContext,
    state: &TaskState,
    report: &Report,
    cluster: &str,
) -> SubmitTaskStateChangeRequest {
    let seconds = |ms: Option<i64>| ms.map(|ms| ms as f64 / 1000.0);
    let all = 0..state.containers.len();
    let (status, reason, indexes) = match report {
        Report::Running => ("RUNNING", None, all),
        Report::Stopped => ("STOPPED", state.stop_reason.clone(), all),
        Report::ContainerStopped(index) => ("", None, *index..index + 1),
    };
    let containers = indexes.map(|index| container(context, state, index)).collect();
    SubmitTaskStateChangeRequest {
        cluster: Some(cluster.to_owned()),
        task: context.arn().to_owned(),
        status: status.to_owned(),
        reason: reason.map(|reason| reason.chars().take(1024).collect()),
        containers,
        pull_started_at: seconds(state.pull_started_at_ms),
        pull_stopped_at: seconds(state.pull_stopped_at_ms),
        execution_stopped_at: seconds(state.execution_stopped_at_ms),
        berth_epoch: context.task().berth_epoch,
        ..SubmitTaskStateChangeRequest::default()
    }
}

fn container(context: &TaskContext, state: &TaskState, index: usize) -> ContainerStateChange {
    let container = &state.containers[index];
    ContainerStateChange {
        container_name: context.plan.containers[index].name.clone(),
        runtime_id: container.runtime_id.clone(),
        status: container.status().to_owned(),
        exit_code: container.exit_code,
        reason: container.reason.clone(),
        image_digest: container.image_digest.clone(),
        network_bindings: container.network_bindings.clone(),
    }
}
