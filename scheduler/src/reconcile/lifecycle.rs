//! The life of a task after its placement: what its agent reports, and how it is stopped.
//!
//! Intent (`desired_status`) is set here and by nobody else; what was observed only ever moves forward.

use std::sync::Arc;

use scheduler_engine as engine;
use scheduler_protocol::{ContainerStateChange, SubmitTaskStateChangeRequest};

use super::snapshot::{engine_progress, store_progress};
use crate::ids::{InstanceId, TaskId};
use crate::model::{DesiredStatus, Errand, LastStatus, StopCode, Task, TaskContainer};
use crate::state::{Draft, Key, service_of};

/// A task that ends within this time of its start is replaced after a wait.
const HARDLY_RUN_MS: i64 = 10_000;
/// ECS keeps so much of a reason.
const LONGEST_REASON: usize = 1024;

/// Whether a report was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Heard,
    /// The task is over, or this is not its placement any more. Nothing to correct: the agent is told to stop it.
    Stale,
    /// There is no such task on that instance.
    Unknown,
}

/// Takes a report of an instance's agent.
pub(crate) fn apply_report(
    draft: &mut Draft<'_>,
    instance: &InstanceId,
    task: &TaskId,
    report: &SubmitTaskStateChangeRequest,
) -> Report {
    let now_ms = draft.now_ms;
    let before = match addressed(draft, instance, task, report.berth_epoch) {
        Ok(task) => task,
        Err(refusal) => return refusal,
    };
    let mut after = Task::clone(&before);
    for change in &report.containers {
        change_container(&mut after.containers, change);
    }
    set_once(&mut after.pull_started_at, report.pull_started_at);
    set_once(&mut after.pull_stopped_at, report.pull_stopped_at);
    set_once(&mut after.execution_stopped_at, report.execution_stopped_at);
    match report.status.as_str() {
        "RUNNING" if after.last_status < LastStatus::Running => {
            after.last_status = LastStatus::Running;
            after.started_at = Some(now_ms);
        }
        "STOPPED" => end(&mut after, now_ms, report.reason.as_deref()),
        _ => {}
    }
    let started = before.started_at.is_none() && after.started_at.is_some();
    let ended = after.is_stopped();
    let asked_to_stop = before.desired_status == DesiredStatus::Stopped;
    // A host's engine is quicker than ECS ever was: what ends as soon as it runs is not started again at that pace.
    let hardly_ran = after.started_at.is_none_or(|at| now_ms - at < HARDLY_RUN_MS);
    after.version += 1;
    let after = draft.put_task(after);
    if started {
        edit_progress(draft, &after, engine::Deployment::task_running);
    }
    if ended {
        drop_errands(draft, instance, task);
        let end =
            if hardly_ran && !asked_to_stop { engine::TaskEnd::NeverRan } else { engine::TaskEnd::Other };
        edit_progress(draft, &after, |deployment| {
            if !hardly_ran {
                deployment.task_lasted();
            }
            deployment.task_ended(end, now_ms);
        });
    }
    Report::Heard
}

/// Takes a report of one container.
pub(crate) fn apply_container_report(
    draft: &mut Draft<'_>,
    instance: &InstanceId,
    task: &TaskId,
    change: &ContainerStateChange,
) -> Report {
    if let Err(refusal) = addressed(draft, instance, task, None) {
        return refusal;
    }
    draft.edit_task(task, |task| change_container(&mut task.containers, change));
    Report::Heard
}

/// Takes a container's health from the telemetry connection.
pub(crate) fn note_health(
    draft: &mut Draft<'_>,
    instance: &InstanceId,
    task: &TaskId,
    container: &str,
    health: &str,
) {
    let Ok(before) = addressed(draft, instance, task, None) else { return };
    let known = before.containers.iter().find(|known| known.name == container && known.has_health_check);
    if known.is_none_or(|known| known.state.health.as_deref() == Some(health)) {
        return;
    }
    draft.edit_task(task, |task| {
        for known in task.containers.iter_mut().filter(|known| known.name == container) {
            known.state.health = Some(health.to_owned());
        }
    });
}

/// Wants a task stopped and tells its agent. A task without a place, or with a host that is gone, is over at once.
pub(crate) fn stop_task(
    draft: &mut Draft<'_>,
    id: &TaskId,
    code: StopCode,
    reason: &str,
) -> Option<Arc<Task>> {
    let task = Arc::clone(draft.state().task(id)?);
    if task.desired_status == DesiredStatus::Stopped {
        return Some(task);
    }
    let now_ms = draft.now_ms;
    let instance = task.instance.clone();
    let reachable = instance
        .as_ref()
        .and_then(|id| draft.state().instance(id))
        .is_some_and(|instance| !instance.lost && instance.status != crate::model::InstanceStatus::Inactive);
    let after = draft.edit_task(id, |task| {
        task.desired_status = DesiredStatus::Stopped;
        task.stop_code = Some(code);
        task.stopped_reason = Some(shorten(reason));
        task.stopping_at = Some(now_ms);
        if !reachable {
            end(task, now_ms, None);
        }
    });
    if let Some(instance) = instance {
        draft.enqueue(&instance, id, Errand::Stop);
    }
    after
}

/// Ends a task without its agent, which is gone or not believed any more. The agent is told to stop it should
/// it come back.
pub(crate) fn give_up(draft: &mut Draft<'_>, id: &TaskId, code: StopCode, reason: &str) {
    let now_ms = draft.now_ms;
    let Some(task) = draft.edit_task(id, |task| {
        task.stop_code.get_or_insert(code);
        task.stopped_reason.get_or_insert_with(|| shorten(reason));
        // A report of the placement that was given up is not heard any more.
        task.epoch += 1;
        end(task, now_ms, None);
    }) else {
        return;
    };
    if let Some(instance) = &task.instance {
        drop_errands(draft, instance, id);
        draft.enqueue(instance, id, Errand::Stop);
    }
    let end =
        if code == StopCode::TaskFailedToStart { engine::TaskEnd::NeverRan } else { engine::TaskEnd::Other };
    edit_progress(draft, &task, |deployment| deployment.task_ended(end, now_ms));
}

/// Ends every task of an instance whose agent is gone or not believed any more.
pub(crate) fn give_up_all(draft: &mut Draft<'_>, instance: &InstanceId, reason: &str) {
    let tasks: Vec<TaskId> = draft.state().live_tasks_on(instance).map(|task| task.id.clone()).collect();
    for task in tasks {
        give_up(draft, &task, StopCode::InfrastructureHealth, reason);
    }
}

/// Changes the counters of the deployment that a task belongs to.
pub(super) fn edit_progress(draft: &mut Draft<'_>, task: &Task, edit: impl FnOnce(&mut engine::Deployment)) {
    let (Some(key), Some(id)) = (service_of(task), &task.deployment) else { return };
    let Some(deployment) = draft.state().service(&key).and_then(|service| service.deployment(id)) else {
        return;
    };
    let before = engine_progress(deployment);
    let mut after = before.clone();
    edit(&mut after);
    if after != before {
        draft.edit_service(&key, |service| {
            if let Some(deployment) = service.deployment_mut(id) {
                store_progress(&mut deployment.progress, &after);
            }
        });
    }
}

/// The task that an instance speaks of, if it may.
fn addressed(
    draft: &Draft<'_>,
    instance: &InstanceId,
    task: &TaskId,
    epoch: Option<i64>,
) -> Result<Arc<Task>, Report> {
    let found = draft.state().task(task).filter(|task| task.instance.as_ref() == Some(instance));
    let task = found.ok_or(Report::Unknown)?;
    if task.is_stopped() || epoch.is_some_and(|epoch| epoch != task.epoch) {
        return Err(Report::Stale);
    }
    Ok(Arc::clone(task))
}

fn end(task: &mut Task, now_ms: i64, reason: Option<&str>) {
    task.last_status = LastStatus::Stopped;
    task.desired_status = DesiredStatus::Stopped;
    task.stopping_at.get_or_insert(now_ms);
    task.execution_stopped_at.get_or_insert(now_ms);
    task.stopped_at = Some(now_ms);
    if task.stop_code.is_none() {
        let ran =
            task.started_at.is_some() || task.containers.iter().any(|one| one.state.exit_code.is_some());
        let of_container = task.containers.iter().find_map(|container| container.state.reason.as_deref());
        let (code, fallback) = if ran {
            (StopCode::EssentialContainerExited, "Essential container in task exited")
        } else {
            (StopCode::TaskFailedToStart, of_container.unwrap_or("Task failed to start"))
        };
        let reason = reason.filter(|reason| !reason.is_empty()).unwrap_or(fallback);
        task.stopped_reason = Some(shorten(reason));
        task.stop_code = Some(code);
    }
    for container in &mut task.containers {
        container.state.last_status = Some("STOPPED".into());
    }
}

fn change_container(containers: &mut [TaskContainer], change: &ContainerStateChange) {
    let Some(container) = containers.iter_mut().find(|container| container.name == change.container_name)
    else {
        return;
    };
    let state = &mut container.state;
    if !change.status.is_empty() && state.last_status.as_deref() != Some("STOPPED") {
        // Amazon's agent reports a state of its own while it pulls.
        let status = if change.status == "MANIFEST_PULLED" { "PENDING" } else { &change.status };
        state.last_status = Some(status.to_owned());
    }
    let keep = |known: &mut Option<String>, new: &Option<String>| {
        if new.as_ref().is_some_and(|new| !new.is_empty()) {
            known.clone_from(new);
        }
    };
    keep(&mut state.runtime_id, &change.runtime_id);
    keep(&mut state.image_digest, &change.image_digest);
    if let Some(reason) = change.reason.as_ref().filter(|reason| !reason.is_empty()) {
        state.reason = Some(shorten(reason));
    }
    if change.exit_code.is_some() {
        state.exit_code = change.exit_code;
    }
    if !change.network_bindings.is_empty() {
        state.network_bindings.clone_from(&change.network_bindings);
    }
}

/// Whatever was still to be told of a task that is over.
fn drop_errands(draft: &mut Draft<'_>, instance: &InstanceId, task: &TaskId) {
    let done: Vec<i64> = draft
        .state()
        .outbox(instance)
        .filter(|entry| entry.task == *task)
        .map(|entry| entry.sequence)
        .collect();
    for sequence in done {
        draft.remove(Key::Outbox(instance.clone(), sequence));
    }
}

/// Seconds of the wire as milliseconds; the first word counts.
fn set_once(known: &mut Option<i64>, seconds: Option<f64>) {
    if let Some(seconds) = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0) {
        known.get_or_insert((seconds * 1000.0) as i64);
    }
}

fn shorten(reason: &str) -> String {
    reason.chars().take(LONGEST_REASON).collect()
}
