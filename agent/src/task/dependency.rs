//! Whether what a container waits for has happened, may still happen, or never will.

use crate::task::plan::{Condition, Dependency, Plan};
use crate::task::state::{Health, Phase, TaskState};

/// The two steps that a dependency can hold up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Create,
    Start,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Waiting,
    /// With the text of the TaskDependencyError.
    Never(String),
}

/// Looks at every dependency of a container before it is created, or started.
pub(crate) fn readiness(plan: &Plan, state: &TaskState, index: usize, gate: Gate, now_ms: i64) -> Readiness {
    let mut result = Readiness::Ready;
    for dependency in &plan.containers[index].dependencies {
        match single(plan, state, *dependency, gate, now_ms) {
            Readiness::Ready => {}
            Readiness::Waiting => result = Readiness::Waiting,
            Readiness::Never(why) => {
                return Readiness::Never(format!(
                    "container {} depends on {} of container {}, {why}",
                    plan.containers[index].name,
                    dependency.condition.as_str(),
                    plan.containers[dependency.on].name
                ));
            }
        }
    }
    result
}

/// The first start timeout among the dependencies that a container still waits for before its creation.
pub(crate) fn deadline(plan: &Plan, state: &TaskState, index: usize) -> Option<i64> {
    let dependencies = plan.containers[index].dependencies.iter();
    dependencies
        .filter(|dependency| single(plan, state, **dependency, Gate::Create, i64::MIN) == Readiness::Waiting)
        .filter_map(|dependency| start_deadline(plan, state, *dependency))
        .min()
}

fn start_deadline(plan: &Plan, state: &TaskState, dependency: Dependency) -> Option<i64> {
    if dependency.condition <= Condition::Start {
        return None;
    }
    let started_at = state.containers[dependency.on].started_at_ms?;
    Some(started_at.saturating_add(plan.containers[dependency.on].start_timeout_ms?))
}

fn single(plan: &Plan, state: &TaskState, dependency: Dependency, gate: Gate, now_ms: i64) -> Readiness {
    let target = &state.containers[dependency.on];
    let over = target.phase == Phase::Stopped;
    let never_ran = || Readiness::Never("which has not started and will not start".into());
    let met = match (gate, dependency.condition) {
        (Gate::Create, Condition::Create | Condition::Start) if target.exists() => true,
        (Gate::Create, Condition::Create | Condition::Start) if over => return never_ran(),
        (Gate::Create, Condition::Create | Condition::Start) => false,
        (Gate::Start, Condition::Start) => {
            let up =
                target.ran() && matches!(target.phase, Phase::Starting | Phase::Running | Phase::Stopping);
            if over && !target.ran() {
                return never_ran();
            }
            up || over
        }
        // Settled before the container was created.
        (Gate::Start, _) => true,
        (Gate::Create, _) if over && !target.ran() => return never_ran(),
        (Gate::Create, Condition::Complete) => over,
        (Gate::Create, Condition::Success) => {
            if over && target.exit_code != Some(0) {
                let code = target.exit_code.map_or_else(|| "unknown".into(), |code| code.to_string());
                return Readiness::Never(format!("which ended with exit code {code}"));
            }
            over
        }
        (Gate::Create, Condition::Healthy) => {
            if over {
                return Readiness::Never("which has stopped".into());
            }
            target.phase == Phase::Running && target.health == Health::Healthy
        }
    };
    if met {
        return Readiness::Ready;
    }
    match start_deadline(plan, state, dependency) {
        Some(deadline) if now_ms >= deadline => {
            Readiness::Never("which did not reach it within its start timeout".into())
        }
        _ => Readiness::Waiting,
    }
}
