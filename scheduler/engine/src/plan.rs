//! What a service needs next: which tasks to start and stop, and what became of its deployments.
//!
//! A snapshot goes in, actions come out; acting on them and planning again leads to the steady state, where no
//! action is left. Invariant: see the crate; also, the same snapshot and time give the same plan.

mod decide;
mod event;
mod progress;
mod scale_in;
mod stop;
mod unplaced;

pub use decide::plan;
pub use event::Event;
pub use progress::{CircuitBreaker, TaskEnd, Threshold};
pub use unplaced::unplaced_event;

use crate::ids::{DeploymentId, InstanceId, TaskId};
use crate::placement::Strategy;

/// A service as it is stored, with its tasks as they are known.
#[derive(Debug, Clone)]
pub struct ServiceState {
    pub name: String,
    /// Set by DeleteService: everything is to be stopped, then the service becomes INACTIVE.
    pub deleting: bool,
    pub desired_count: u32,
    pub minimum_healthy_percent: u32,
    pub maximum_percent: u32,
    pub circuit_breaker: CircuitBreaker,
    /// Decides which tasks go when there are too many.
    pub strategies: Vec<Strategy>,
    /// How long a task without a health check must run to count as healthy; ECS: 40,000.
    pub settle_ms: i64,
    /// How long after its start a task's failing health check is not held against it.
    pub health_check_grace_ms: i64,
    /// The PRIMARY one first, then the ACTIVE ones from the newest to the oldest.
    pub deployments: Vec<Deployment>,
    /// Every task of the service that is not yet STOPPED, and only those.
    pub tasks: Vec<Task>,
    /// From the last plan; stored with the service.
    pub reported: Reported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

/// A deployment with the counters that the engine keeps in it; the counters are stored with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: DeploymentId,
    pub rollout: RolloutState,
    /// Whether it was ever COMPLETED: then it can be rolled back to.
    pub was_completed: bool,
    /// Consecutive failures that the circuit breaker counts; `failedTasks` in the API.
    pub failed_tasks: u32,
    /// Whether one has failed since a task of it became healthy last.
    pub troubled: bool,
    /// Whether a task of it has ever reached RUNNING.
    pub reached_running: bool,
    /// How many times in a row starting tasks has failed before RUNNING, at most one a wave.
    pub failed_waves: u32,
    /// No task is started before this time.
    pub retry_at_ms: i64,
    /// When the last attempt to place a task of it failed; `None` once one was placed.
    pub unplaced_at_ms: Option<i64>,
}

impl Deployment {
    /// A deployment that has just been created.
    pub fn new(id: DeploymentId) -> Deployment {
        Deployment {
            id,
            rollout: RolloutState::InProgress,
            was_completed: false,
            failed_tasks: 0,
            troubled: false,
            reached_running: false,
            failed_waves: 0,
            retry_at_ms: 0,
            unplaced_at_ms: None,
        }
    }
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskPhase {
    /// PROVISIONING, PENDING or ACTIVATING.
    Pending,
    /// RUNNING since this time.
    Running { since_ms: i64 },
    /// Its desired status is STOPPED; it has not stopped yet.
    Stopping,
}

/// What the health checks of a task's containers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// No container has a health check.
    Unchecked,
    /// Not yet known.
    Unknown,
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone)]
pub struct Task {
    pub id: TaskId,
    pub deployment: DeploymentId,
    pub phase: TaskPhase,
    pub health: Health,
    pub instance: Option<InstanceId>,
    /// The zone of its instance, empty if it has none.
    pub zone: String,
    /// Its instance is DRAINING: the task is to move.
    pub draining: bool,
    /// Its instance is none on which the service is to run (any more): the task goes at once, and nothing comes in
    /// its place.
    pub misplaced: bool,
    /// Protected from scale-in and from deployments.
    pub protected: bool,
    pub created_at_ms: i64,
}

/// Why a task is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// Too many tasks, an older revision, or a draining instance.
    Scaling(DeploymentId),
    /// Its health check failed and a replacement is there, or could not be beside it.
    Unhealthy,
}

impl StopReason {
    /// The task's `stoppedReason`; its `stopCode` is ServiceSchedulerInitiated.
    pub fn stopped_reason(&self) -> String {
        match self {
            StopReason::Scaling(deployment) => {
                format!("Scaling activity initiated by (deployment {deployment})")
            }
            StopReason::Unhealthy => "Task failed container health checks".to_owned(),
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Place and start tasks of this deployment's revision. If a place is missing, note it with
    /// [`Deployment::placement_failed`]; once one was found, with [`Deployment::placement_succeeded`].
    Start {
        deployment: DeploymentId,
        count: u32,
    },
    Stop {
        task: TaskId,
        reason: StopReason,
    },
    /// Mark the deployment COMPLETED.
    Complete {
        deployment: DeploymentId,
    },
    /// Mark the deployment FAILED, with this `rolloutStateReason`.
    Fail {
        deployment: DeploymentId,
        reason: String,
    },
    /// Make `to`, which was completed before, PRIMARY again and IN_PROGRESS.
    RollBack {
        failed: DeploymentId,
        to: DeploymentId,
    },
    /// The old deployment has no tasks left: it becomes INACTIVE and leaves the service.
    Retire {
        deployment: DeploymentId,
    },
    /// The deleted service has no tasks left: it becomes INACTIVE.
    Deactivate,
}

/// What has been said and is not said again until it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    pub steady: bool,
    pub throttled: bool,
    pub blocked_by_configuration: bool,
    pub blocked_by_protection: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub events: Vec<Event>,
    /// To be stored with the service.
    pub reported: Reported,
    /// When to plan again even if nothing happens before.
    pub wake_at_ms: Option<i64>,
}

#[cfg(test)]
mod tests;
