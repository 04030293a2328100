//! Carries out the engine's plan for one service.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;

use scheduler_engine as engine;
use scheduler_protocol::ADDRESS_ATTRIBUTE;

use super::lifecycle::{edit_progress, stop_task};
use super::placement::placement_request;
use super::snapshot::{service_strategies, snapshot, store_progress, store_reported};
use crate::addresses::Address;
use crate::ids::{DeploymentId, InstanceId, ServiceKey, TaskId};
use crate::launch::Launch;
use crate::model::{
    DeploymentStatus, PlacementConstraint, RolloutState, SchedulingStrategy, Service, ServiceStatus,
    StopCode, Tag,
};
use crate::state::Draft;

/// The same message is not repeated within this time, unless it says that something happened.
const SILENCE_MS: i64 = 6 * 3600 * 1000;

/// Plans a service and acts on it. Returns when to look again if nothing happens before.
pub(super) fn reconcile_service(draft: &mut Draft<'_>, key: &ServiceKey) -> Option<i64> {
    let service = Arc::clone(draft.state().service(key)?);
    if service.status == ServiceStatus::Inactive {
        return None;
    }
    let unsuitable = follow_instances(draft, &service);
    let service = Arc::clone(draft.state().service(key)?);
    count_healthy(draft, &service);
    let service = Arc::clone(draft.state().service(key)?);
    let mut state = snapshot(draft.state(), &service);
    for task in &mut state.tasks {
        task.misplaced = task.instance.as_ref().is_some_and(|instance| unsuitable.contains(instance));
    }
    let plan = engine::plan(&state, draft.now_ms);
    let mut stopped = Vec::new();
    for action in &plan.actions {
        act(draft, key, &state, action, &mut stopped);
    }
    if !stopped.is_empty() {
        let event = engine::Event::Stopped { service: key.name.to_string(), tasks: stopped };
        draft.add_event(key, event.to_string());
    }
    for event in &plan.events {
        say(draft, key, event);
    }
    let reported = store_reported(plan.reported);
    if draft.state().service(key).is_some_and(|service| service.reported != reported) {
        draft.edit_service(key, |service| service.reported = reported);
    }
    plan.wake_at_ms
}

/// A DAEMON service wants one task on every instance that suits it. Returns those that have one and do not suit it.
fn follow_instances(draft: &mut Draft<'_>, service: &Service) -> HashSet<engine::InstanceId> {
    if service.strategy != SchedulingStrategy::Daemon || service.status != ServiceStatus::Active {
        return HashSet::new();
    }
    let launch = launch(draft, service, &service.primary().id);
    let request = launch.and_then(|launch| placement_request(draft.state(), &launch, Vec::new(), 1, 0).ok());
    let Some((request, cluster)) = request.zip(draft.state().placement(&service.key.cluster)) else {
        return HashSet::new();
    };
    let tasks = draft.state().live_tasks_of(&service.key).filter(|task| task.wants_to_run());
    let mut holding: HashSet<engine::InstanceId> =
        tasks.filter_map(|task| task.instance.as_ref()).map(|id| id.as_str().into()).collect();
    // An agent that is away, as while it restarts, is no reason to give up the task on its host, nor to call a service
    // complete that lacks one there: that the host is lost is for its lease to say. A host that never had one can wait.
    let lost = |id: &engine::InstanceId| {
        draft.state().instance(&InstanceId::new(id.as_str())).is_none_or(|instance| instance.lost)
    };
    let had_one = LazyCell::new(|| {
        let tasks = draft.state().tasks_of(&service.key.cluster);
        let tasks = tasks.filter(|task| task.service.as_ref() == Some(&service.key.name));
        tasks.filter_map(|task| task.instance.as_ref()).map(InstanceId::as_str).collect::<HashSet<&str>>()
    });
    let (mut wanted, mut away) = (0, 0);
    for instance in cluster.instances().filter(|one| engine::suits(cluster, &request, &one.id)) {
        if instance.agent_connected || holding.contains(&instance.id) {
            wanted += 1;
        } else if !lost(&instance.id) && had_one.contains(instance.id.as_str()) {
            away += 1;
        }
    }
    let wanted = service.desired_count.clamp(wanted, wanted + away);
    holding.retain(|id| {
        let active = |instance: &engine::Instance| instance.status == engine::InstanceStatus::Active;
        cluster.instance(id).is_some_and(active) && !engine::suits(cluster, &request, id)
    });
    if wanted != service.desired_count {
        draft.edit_service(&service.key, |service| service.desired_count = wanted);
    }
    holding
}

/// Tells deployments of tasks that have become healthy since the last look.
fn count_healthy(draft: &mut Draft<'_>, service: &Service) {
    let state = snapshot(draft.state(), service);
    let now_ms = draft.now_ms;
    let healthy: Vec<TaskId> = state
        .tasks
        .iter()
        .filter(|task| state.is_healthy(task, now_ms))
        .map(|task| TaskId::new(task.id.as_str()))
        .filter(|id| draft.state().task(id).is_some_and(|task| !task.counted_healthy))
        .collect();
    for id in healthy {
        if let Some(task) = draft.edit_task(&id, |task| task.counted_healthy = true) {
            edit_progress(draft, &task, |deployment| deployment.task_healthy(&state.circuit_breaker));
        }
    }
}

fn act(
    draft: &mut Draft<'_>,
    key: &ServiceKey,
    state: &engine::ServiceState,
    action: &engine::Action,
    stopped: &mut Vec<engine::TaskId>,
) {
    let now_ms = draft.now_ms;
    match action {
        engine::Action::Start { deployment, count } => {
            start(draft, key, state, &DeploymentId::new(deployment.as_str()), *count);
        }
        engine::Action::Stop { task, reason } => {
            let id = TaskId::new(task.as_str());
            let ended = stop_task(draft, &id, StopCode::ServiceSchedulerInitiated, &reason.stopped_reason());
            stopped.push(task.clone());
            if let (Some(ended), engine::StopReason::Unhealthy) = (ended, reason) {
                edit_progress(draft, &ended, |deployment| {
                    deployment.task_ended(engine::TaskEnd::Unhealthy, now_ms)
                });
            }
        }
        engine::Action::Complete { deployment } => edit_deployment(draft, key, deployment, |deployment| {
            deployment.rollout = RolloutState::Completed;
            deployment.rollout_reason = format!("ECS deployment {} completed.", deployment.id);
            deployment.progress.was_completed = true;
            deployment.updated_at = now_ms;
        }),
        engine::Action::Fail { deployment, reason } => {
            edit_deployment(draft, key, deployment, |deployment| {
                deployment.rollout = RolloutState::Failed;
                deployment.rollout_reason.clone_from(reason);
                deployment.updated_at = now_ms;
            })
        }
        engine::Action::RollBack { to, .. } => {
            draft.edit_service(key, |service| roll_back(service, to, now_ms));
        }
        engine::Action::Retire { deployment } => {
            draft.edit_service(key, |service| {
                service.deployments.retain(|known| known.id.as_str() != deployment.as_str());
            });
        }
        engine::Action::Deactivate => {
            draft.edit_service(key, |service| {
                service.status = ServiceStatus::Inactive;
                service.deployments.truncate(1);
            });
        }
    }
}

fn roll_back(service: &mut Service, to: &engine::DeploymentId, now_ms: i64) {
    let Some(index) = service.deployments.iter().position(|known| known.id.as_str() == to.as_str()) else {
        return;
    };
    let mut deployment = service.deployments.remove(index);
    deployment.rollout = RolloutState::InProgress;
    deployment.rollout_reason =
        format!("ECS deployment circuit breaker: rolling back to deploymentId {}.", deployment.id);
    deployment.progress = crate::model::Progress { was_completed: true, ..Default::default() };
    deployment.updated_at = now_ms;
    service.deployments.insert(0, deployment);
    for (place, deployment) in service.deployments.iter_mut().enumerate() {
        deployment.status = if place == 0 { DeploymentStatus::Primary } else { DeploymentStatus::Active };
    }
}

fn edit_deployment(
    draft: &mut Draft<'_>,
    key: &ServiceKey,
    id: &engine::DeploymentId,
    edit: impl FnOnce(&mut crate::model::Deployment),
) {
    draft.edit_service(key, |service| {
        if let Some(deployment) = service.deployment_mut(&DeploymentId::new(id.as_str())) {
            edit(deployment);
        }
    });
}

fn start(
    draft: &mut Draft<'_>,
    key: &ServiceKey,
    state: &engine::ServiceState,
    deployment: &DeploymentId,
    count: u32,
) {
    let Some(service) = draft.state().service(key).cloned() else { return };
    let Some(launch) = launch(draft, &service, deployment) else { return };
    if let Some(reason) = launch.known_failure().map(str::to_owned) {
        fail_to_start(draft, key, &launch, count, &reason);
        return;
    }
    let seed = draft.now_ms.unsigned_abs();
    let strategies = service_strategies(&service);
    let Ok(request) = placement_request(draft.state(), &launch, strategies, count, seed) else { return };
    let nowhere = || engine::Placement { placed: Vec::new(), unplaced: count, refusals: Vec::new() };
    let placement = draft.place(&key.cluster, &request).unwrap_or_else(nowhere);
    let now_ms = draft.now_ms;
    let started: Vec<engine::TaskId> = placement
        .placed
        .iter()
        .map(|instance| launch.start(draft, &InstanceId::new(instance.as_str())).id.as_str().into())
        .collect();
    if !started.is_empty() {
        let event = engine::Event::Started { service: key.name.to_string(), tasks: started };
        draft.add_event(key, event.to_string());
    }
    if placement.unplaced > 0 {
        say(draft, key, &engine::unplaced_event(state, &request, &placement));
    }
    draft.edit_service(key, |service| {
        let Some(deployment) = service.deployment_mut(deployment) else { return };
        let mut progress = super::snapshot::engine_progress(deployment);
        if placement.unplaced > 0 {
            progress.placement_failed(now_ms)
        } else {
            progress.placement_succeeded()
        }
        store_progress(&mut deployment.progress, &progress);
    });
}

/// Tasks of a service whose image is known to be missing fail without an agent; the service says why.
fn fail_to_start(draft: &mut Draft<'_>, key: &ServiceKey, launch: &Launch, count: u32, reason: &str) {
    let now_ms = draft.now_ms;
    for _ in 0..count.min(10) {
        let task = launch.fail(draft, reason);
        edit_progress(draft, &task, |deployment| deployment.task_ended(engine::TaskEnd::NeverRan, now_ms));
    }
    let name = &key.name;
    add_once(draft, key, format!("(service {name}) was unable to start a task. Reason: {reason}"));
}

/// The launch of a deployment's tasks.
fn launch(draft: &Draft<'_>, service: &Service, id: &DeploymentId) -> Option<Launch> {
    let state = draft.state();
    let deployment = service.deployment(id)?;
    let definition = Arc::clone(state.definition(&deployment.definition)?);
    let cluster = state.cluster(&service.key.cluster)?;
    let default_role = cluster.default_execution_role();
    let name = &service.key.cluster;
    let mut launch = Launch::new(
        name,
        Arc::clone(&definition),
        Default::default(),
        deployment.images.clone(),
        default_role,
    );
    launch.group = format!("service:{}", service.key.name);
    launch.started_by = Some(id.to_string());
    launch.launch_type.clone_from(&service.launch_type);
    launch.service = Some(service.key.name.clone());
    launch.deployment = Some(id.clone());
    launch.enable_execute_command = service.enable_execute_command;
    launch.constraints.clone_from(&service.placement_constraints);
    if service.strategy == SchedulingStrategy::Daemon {
        launch.constraints.push(PlacementConstraint { kind: "distinctInstance".into(), expression: None });
    }
    if matches!(Address::of(&service.tags), Ok(Some(_))) {
        // Where a host does not say how others reach it, nothing could be forwarded to the task.
        let expression = Some(format!("attribute:{ADDRESS_ATTRIBUTE} exists"));
        launch.constraints.push(PlacementConstraint { kind: "memberOf".into(), expression });
    }
    launch.tags = match service.propagate_tags.as_deref() {
        Some("SERVICE") => service.tags.clone(),
        Some("TASK_DEFINITION") => definition.tags.clone(),
        _ => Vec::new(),
    };
    if service.enable_managed_tags {
        let managed = [
            ("aws:ecs:clusterName", name.to_string()),
            ("aws:ecs:serviceName", service.key.name.to_string()),
        ];
        launch.tags.extend(managed.map(|(key, value)| Tag { key: key.into(), value }));
    }
    Some(launch)
}

fn say(draft: &mut Draft<'_>, key: &ServiceKey, event: &engine::Event) {
    use engine::Event::{BlockedByConfiguration, BlockedByProtection, Throttled, Unplaced};
    if matches!(
        event,
        Unplaced { .. } | Throttled { .. } | BlockedByConfiguration { .. } | BlockedByProtection { .. }
    ) {
        add_once(draft, key, event.to_string());
    } else {
        draft.add_event(key, event.to_string());
    }
}

/// Adds an event unless the same was said lately.
pub(super) fn add_once(draft: &mut Draft<'_>, key: &ServiceKey, message: String) {
    let since = draft.now_ms - SILENCE_MS;
    let said =
        draft.state().events(key).rev().any(|event| event.message == message && event.created_at > since);
    if !said {
        draft.add_event(key, message);
    }
}

#[cfg(test)]
mod tests;
