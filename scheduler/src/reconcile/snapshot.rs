//! A service as the engine sees it, and the engine's counters as they are stored.

use scheduler_engine as engine;

use super::placement::strategies;
use crate::ids::ServiceKey;
use crate::model::{
    Deployment, DesiredStatus, InstanceStatus, LastStatus, Progress, Reported, RolloutState,
    SchedulingStrategy, Service, ServiceStatus, Task, ThresholdType,
};
use crate::state::State;

/// ECS counts a task without a health check as healthy so long after it began to run.
const SETTLE_MS: i64 = 40_000;

/// The whole service with its live tasks.
pub(super) fn snapshot(state: &State, service: &Service) -> engine::ServiceState {
    let (minimum, maximum) = percentages(service);
    engine::ServiceState {
        name: service.key.name.to_string(),
        deleting: service.status == ServiceStatus::Draining,
        desired_count: u32::try_from(service.desired_count.max(0)).unwrap_or(u32::MAX),
        minimum_healthy_percent: minimum,
        maximum_percent: maximum,
        circuit_breaker: circuit_breaker(service),
        strategies: service_strategies(service),
        settle_ms: SETTLE_MS,
        health_check_grace_ms: service.grace_period_seconds.unwrap_or(0).max(0) * 1000,
        deployments: service.deployments.iter().map(engine_progress).collect(),
        tasks: tasks(state, &service.key),
        reported: engine::Reported {
            steady: service.reported.steady,
            throttled: service.reported.throttled,
            blocked_by_configuration: service.reported.blocked_by_configuration,
            blocked_by_protection: service.reported.blocked_by_protection,
        },
    }
}

/// Minimum and maximum percent, with ECS's defaults.
pub(crate) fn percentages(service: &Service) -> (u32, u32) {
    let (minimum, maximum) = match service.strategy {
        SchedulingStrategy::Replica => (100, 200),
        SchedulingStrategy::Daemon => (0, 100),
    };
    let percent = |set: Option<i64>, default: u32| {
        set.and_then(|percent| u32::try_from(percent).ok()).unwrap_or(default)
    };
    (
        percent(service.configuration.minimum_healthy_percent, minimum),
        percent(service.configuration.maximum_percent, maximum),
    )
}

fn circuit_breaker(service: &Service) -> engine::CircuitBreaker {
    let breaker = service.configuration.deployment_circuit_breaker.unwrap_or_default();
    let threshold = match breaker.threshold_configuration {
        None => engine::Threshold::Default,
        Some(threshold) => {
            let value = u32::try_from(threshold.value.max(0)).unwrap_or(u32::MAX);
            match threshold.kind {
                ThresholdType::Count => engine::Threshold::Count(value),
                ThresholdType::BoundedPercent => engine::Threshold::BoundedPercent(value),
                ThresholdType::UnboundedPercent => engine::Threshold::UnboundedPercent(value),
            }
        }
    };
    engine::CircuitBreaker {
        enable: breaker.enable,
        rollback: breaker.rollback,
        threshold,
        reset_on_healthy_task: breaker.reset_on_healthy_task.unwrap_or(true),
    }
}

/// The strategies of placement and of scale-in.
pub(super) fn service_strategies(service: &Service) -> Vec<engine::Strategy> {
    if service.placement_strategy.is_empty() {
        return engine::Strategy::service_defaults();
    }
    // They were checked when the service was written.
    strategies(&service.placement_strategy).unwrap_or_else(|_| engine::Strategy::service_defaults())
}

fn tasks(state: &State, key: &ServiceKey) -> Vec<engine::Task> {
    state
        .live_tasks_of(key)
        .filter_map(|task| {
            let instance = task.instance.as_ref().and_then(|id| state.instance(id));
            Some(engine::Task {
                id: task.id.as_str().into(),
                deployment: task.deployment.as_ref()?.as_str().into(),
                phase: phase(task),
                health: health(task),
                instance: task.instance.as_ref().map(|id| id.as_str().into()),
                zone: instance.and_then(|instance| instance.zone.clone()).unwrap_or_default(),
                draining: instance.is_some_and(|instance| instance.status == InstanceStatus::Draining),
                misplaced: false,
                protected: false,
                created_at_ms: task.created_at,
            })
        })
        .collect()
}

fn phase(task: &Task) -> engine::TaskPhase {
    if task.desired_status == DesiredStatus::Stopped {
        return engine::TaskPhase::Stopping;
    }
    match (task.last_status, task.started_at) {
        (LastStatus::Running, Some(since_ms)) => engine::TaskPhase::Running { since_ms },
        _ => engine::TaskPhase::Pending,
    }
}

fn health(task: &Task) -> engine::Health {
    if !task.has_health_check() {
        return engine::Health::Unchecked;
    }
    match task.health() {
        "HEALTHY" => engine::Health::Healthy,
        "UNHEALTHY" => engine::Health::Unhealthy,
        _ => engine::Health::Unknown,
    }
}

pub(super) fn engine_progress(deployment: &Deployment) -> engine::Deployment {
    let progress = &deployment.progress;
    engine::Deployment {
        id: deployment.id.as_str().into(),
        rollout: match deployment.rollout {
            RolloutState::InProgress => engine::RolloutState::InProgress,
            RolloutState::Completed => engine::RolloutState::Completed,
            RolloutState::Failed => engine::RolloutState::Failed,
        },
        was_completed: progress.was_completed,
        failed_tasks: progress.failed_tasks,
        troubled: progress.troubled,
        reached_running: progress.reached_running,
        failed_waves: progress.failed_waves,
        retry_at_ms: progress.retry_at,
        unplaced_at_ms: progress.unplaced_at,
    }
}

pub(super) fn store_progress(progress: &mut Progress, from: &engine::Deployment) {
    *progress = Progress {
        was_completed: from.was_completed,
        failed_tasks: from.failed_tasks,
        troubled: from.troubled,
        reached_running: from.reached_running,
        failed_waves: from.failed_waves,
        retry_at: from.retry_at_ms,
        unplaced_at: from.unplaced_at_ms,
    };
}

pub(super) fn store_reported(from: engine::Reported) -> Reported {
    Reported {
        steady: from.steady,
        throttled: from.throttled,
        blocked_by_configuration: from.blocked_by_configuration,
        blocked_by_protection: from.blocked_by_protection,
    }
}
