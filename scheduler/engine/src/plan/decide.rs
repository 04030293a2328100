//! The plan itself.
//!
//! Tasks are either staying (of the PRIMARY deployment, not draining, not unhealthy) or leaving. New tasks are
//! started up to the upper bound; leaving ones are stopped once others are healthy in their place, or, where
//! new ones find no room beside them, down to the lower bound. Misplaced ones are stopped at once and count for
//! nothing but the upper bound.

use super::progress::WAVES_REPORTED;
use super::scale_in::choose_surplus;
use super::{
    Action, Deployment, Event, Health, Plan, Reported, RolloutState, ServiceState, StopReason, Task,
    TaskPhase,
};
use crate::ids::DeploymentId;

/// When to plan again after actions, if nothing happens before.
const AFTER_ACTIONS_MS: i64 = 1_000;

impl ServiceState {
    /// Healthy tasks that a deployment leaves at least.
    pub fn lower_bound(&self) -> u32 {
        let bound = (u64::from(self.desired_count) * u64::from(self.minimum_healthy_percent)).div_ceil(100);
        u32::try_from(bound).unwrap_or(u32::MAX)
    }

    /// Tasks, pending or running, that a deployment makes at most.
    pub fn upper_bound(&self) -> u32 {
        let bound = u64::from(self.desired_count) * u64::from(self.maximum_percent) / 100;
        u32::try_from(bound).unwrap_or(u32::MAX)
    }

    /// Whether a task counts as healthy: its check says so, or it has no check and has run long enough.
    pub fn is_healthy(&self, task: &Task, now_ms: i64) -> bool {
        match (task.phase, task.health) {
            (TaskPhase::Running { .. }, Health::Healthy) => true,
            (TaskPhase::Running { since_ms }, Health::Unchecked) => now_ms - since_ms >= self.settle_ms,
            _ => false,
        }
    }

    pub fn deployment_mut(&mut self, id: &DeploymentId) -> Option<&mut Deployment> {
        self.deployments.iter_mut().find(|deployment| deployment.id == *id)
    }

    /// Does what [`Action::RollBack`] says: `to` comes to the front with fresh counters.
    pub fn roll_back(&mut self, to: &DeploymentId) {
        if let Some(index) = self.deployments.iter().position(|deployment| deployment.id == *to) {
            let deployment = self.deployments.remove(index);
            let fresh = Deployment { was_completed: true, ..Deployment::new(deployment.id) };
            self.deployments.insert(0, fresh);
        }
    }

    pub(super) fn is_failing(&self, task: &Task, now_ms: i64) -> bool {
        let TaskPhase::Running { since_ms } = task.phase else { return false };
        task.health == Health::Unhealthy && now_ms - since_ms >= self.health_check_grace_ms
    }
}

/// Plans the next step of a service. `now_ms` is milliseconds since the Unix epoch.
pub fn plan(service: &ServiceState, now_ms: i64) -> Plan {
    let mut planner = Planner { service, now_ms, plan: Plan::default(), wake: None };
    if service.deleting {
        planner.delete();
    } else if let Some(primary) = service.deployments.first() {
        planner.advance(primary);
    }
    if !planner.plan.actions.is_empty() {
        // Acting changes what there is to plan, also where no report follows: a place was missing, a deployment
        // was rolled back.
        planner.wake_at(now_ms + AFTER_ACTIONS_MS);
    }
    planner.plan.wake_at_ms = planner.wake;
    planner.plan
}

pub(super) struct Planner<'a> {
    pub(super) service: &'a ServiceState,
    pub(super) now_ms: i64,
    pub(super) plan: Plan,
    wake: Option<i64>,
}

/// The live tasks (desired status RUNNING), sorted by what is to become of them.
#[derive(Clone)]
pub(super) struct Tasks<'a> {
    pub(super) staying: Vec<&'a Task>,
    pub(super) leaving: Vec<&'a Task>,
    pub(super) misplaced: Vec<&'a Task>,
    /// Those that are staying or leaving.
    pub(super) healthy: u32,
}

impl<'a> Planner<'a> {
    fn delete(&mut self) {
        for task in live(self.service) {
            self.stop(task, StopReason::Scaling(task.deployment.clone()));
        }
        if self.service.tasks.is_empty() {
            self.plan.actions.push(Action::Deactivate);
        }
    }

    fn advance(&mut self, primary: &'a Deployment) {
        let failed = self.check_breaker(primary);
        let tasks = self.sort(primary);
        self.wake_when_healthy();
        for task in &tasks.misplaced {
            self.stop(task, StopReason::Scaling(primary.id.clone()));
        }
        if failed {
            self.hold(primary, &tasks);
            return;
        }
        let blocked = self.start(primary, &tasks);
        let before = self.plan.actions.len();
        self.stop_surplus(primary, &tasks);
        self.stop_leaving(primary, &tasks, blocked);
        let stuck = blocked && before == self.plan.actions.len();
        self.report_configuration(stuck, &tasks);
        self.finish(primary, &tasks);
    }

    /// With a FAILED deployment in front nothing new of it is started: what runs is held at the desired count,
    /// until somebody updates the service or it is rolled back. Draining instances empty themselves all the same.
    fn hold(&mut self, primary: &'a Deployment, tasks: &Tasks<'a>) {
        let (fading, steady): (Vec<&Task>, Vec<&Task>) =
            tasks.leaving.iter().partition(|task| self.is_fading(task));
        let surplus =
            (tasks.staying.len() + steady.len()).saturating_sub(self.service.desired_count as usize);
        if surplus == 0 {
            self.keep_up_predecessor(primary, tasks, self.service.desired_count, self.room(tasks));
        } else {
            let mut chosen = choose_surplus(self.service, self.now_ms, &tasks.staying, surplus);
            chosen.extend(choose_surplus(self.service, self.now_ms, &steady, surplus - chosen.len()));
            for task in chosen {
                self.stop(task, StopReason::Scaling(primary.id.clone()));
            }
        }
        let fading = Tasks { leaving: fading, ..tasks.clone() };
        self.stop_leaving(primary, &fading, false);
    }

    /// Whether a task needs a successor of its own revision.
    pub(super) fn is_fading(&self, task: &Task) -> bool {
        task.draining || self.service.is_failing(task, self.now_ms)
    }

    /// Fails a deployment whose tasks failed too often. True when the deployment is, or now becomes, FAILED.
    fn check_breaker(&mut self, primary: &Deployment) -> bool {
        let breaker = &self.service.circuit_breaker;
        if primary.rollout == RolloutState::Failed {
            return true;
        }
        let allowed = breaker.failures_allowed(self.service.desired_count);
        if !breaker.enable || primary.rollout != RolloutState::InProgress || primary.failed_tasks < allowed {
            return false;
        }
        let service = self.service.name.clone();
        let target = self.predecessor().filter(|_| breaker.rollback);
        let reason = match target {
            Some(to) => format!("ECS deployment circuit breaker: rolling back to deploymentId {}.", to.id),
            None => "ECS deployment circuit breaker: tasks failed to start.".to_owned(),
        };
        let deployment = primary.id.clone();
        self.plan
            .events
            .push(Event::DeploymentFailed { service: service.clone(), deployment: deployment.clone() });
        self.plan.actions.push(Action::Fail { deployment: deployment.clone(), reason });
        if let Some(to) = target {
            self.plan.events.push(Event::RollingBack { service, deployment: to.id.clone() });
            self.plan.actions.push(Action::RollBack { failed: deployment, to: to.id.clone() });
        }
        true
    }

    /// The newest older deployment that was completed once.
    pub(super) fn predecessor(&self) -> Option<&'a Deployment> {
        self.service.deployments.iter().skip(1).find(|deployment| deployment.was_completed)
    }

    fn sort(&self, primary: &Deployment) -> Tasks<'a> {
        let service = self.service;
        let stays = |task: &&Task| {
            task.deployment == primary.id && !task.draining && !service.is_failing(task, self.now_ms)
        };
        let (misplaced, placed): (Vec<&Task>, Vec<&Task>) = live(service).partition(|task| task.misplaced);
        let healthy = placed.iter().filter(|task| service.is_healthy(task, self.now_ms)).count();
        let (staying, leaving) = placed.into_iter().partition(stays);
        Tasks { staying, leaving, misplaced, healthy: number(healthy) }
    }

    /// Tasks that may be started without passing the upper bound.
    pub(super) fn room(&self, tasks: &Tasks<'_>) -> u32 {
        let all = tasks.staying.len() + tasks.leaving.len() + tasks.misplaced.len();
        self.service.upper_bound().saturating_sub(number(all))
    }

    /// Starts what is missing. True when tasks are missing and can only come once others have gone.
    fn start(&mut self, primary: &'a Deployment, tasks: &Tasks<'_>) -> bool {
        let missing = self.service.desired_count.saturating_sub(number(tasks.staying.len()));
        if missing == 0 {
            return false;
        }
        let room = self.room(tasks);
        let mut count = missing.min(room);
        if let Some(wanted) = self.wanted_of_predecessor(primary) {
            // One place is left for the next attempt.
            count -= self.keep_up_predecessor(primary, tasks, wanted, room.saturating_sub(1)).min(count);
        }
        let next = primary.next_start_ms();
        self.report_throttling(primary.failed_waves >= WAVES_REPORTED);
        if count > 0 && self.now_ms < next {
            self.wake_at(next);
        } else if count > 0 {
            self.plan.actions.push(Action::Start { deployment: primary.id.clone(), count });
        }
        room < missing || primary.unplaced_at_ms.is_some()
    }

    /// How many tasks serve, with those of the last good deployment, while its successor is in trouble; `None`
    /// when it is not. A successor that finds no place is made room for, down to the lower bound; one whose
    /// tasks fail is no reason to serve with less.
    pub(super) fn wanted_of_predecessor(&self, primary: &Deployment) -> Option<u32> {
        if primary.unplaced_at_ms.is_some() {
            Some(self.service.lower_bound())
        } else if primary.troubled {
            Some(self.service.desired_count)
        } else {
            None
        }
    }

    /// Replaces tasks of the last good deployment that went missing while its successor is in trouble.
    fn keep_up_predecessor(
        &mut self,
        primary: &Deployment,
        tasks: &Tasks<'_>,
        wanted: u32,
        room: u32,
    ) -> u32 {
        let Some(predecessor) = self.predecessor() else { return 0 };
        let old = tasks.leaving.iter().filter(|task| task.deployment != primary.id && !self.is_fading(task));
        let running = tasks.staying.iter().filter(|task| matches!(task.phase, TaskPhase::Running { .. }));
        let serving = number(old.count() + running.count());
        let count = wanted.saturating_sub(serving).min(room);
        let next = predecessor.next_start_ms();
        if count == 0 {
            return 0;
        }
        if self.now_ms < next {
            self.wake_at(next);
            return 0;
        }
        self.plan.actions.push(Action::Start { deployment: predecessor.id.clone(), count });
        count
    }

    /// Says once when neither bound leaves room for a step.
    fn report_configuration(&mut self, stuck: bool, tasks: &Tasks<'_>) {
        let service = self.service;
        let desired = service.desired_count;
        let blocked = stuck
            && service.lower_bound() >= desired
            && service.upper_bound() <= desired
            && tasks.leaving.iter().any(|task| !task.protected);
        self.plan.reported.blocked_by_configuration = blocked;
        if blocked && !service.reported.blocked_by_configuration {
            self.plan.events.push(Event::BlockedByConfiguration { service: service.name.clone() });
        }
    }

    fn report_throttling(&mut self, throttled: bool) {
        self.plan.reported.throttled = throttled;
        if throttled && !self.service.reported.throttled {
            self.plan.events.push(Event::Throttled { service: self.service.name.clone() });
        }
    }

    /// Retires old deployments, completes the new one, and says when all is as it should be.
    fn finish(&mut self, primary: &Deployment, tasks: &Tasks<'_>) {
        let service = self.service;
        let settled = tasks.leaving.is_empty()
            && tasks.misplaced.is_empty()
            && number(tasks.staying.len()) == service.desired_count
            && tasks.healthy == service.desired_count;
        let mut others = service.deployments.len() - 1;
        for old in service.deployments.iter().skip(1) {
            let gone = !service.tasks.iter().any(|task| task.deployment == old.id);
            // The last good one is kept until its successor has proved itself.
            if gone && (settled || !old.was_completed) {
                self.plan.actions.push(Action::Retire { deployment: old.id.clone() });
                others -= 1;
            }
        }
        let stopping = service.tasks.iter().any(|task| task.phase == TaskPhase::Stopping);
        if !settled || others > 0 || stopping {
            return;
        }
        if primary.rollout == RolloutState::InProgress {
            self.plan.actions.push(Action::Complete { deployment: primary.id.clone() });
            self.plan.events.push(Event::DeploymentCompleted { service: service.name.clone() });
        }
        self.plan.reported = Reported { steady: true, ..Reported::default() };
        if !service.reported.steady || primary.rollout == RolloutState::InProgress {
            self.plan.events.push(Event::SteadyState { service: service.name.clone() });
        }
    }

    /// Plans again when a running task without a check has run long enough, or a grace ends.
    fn wake_when_healthy(&mut self) {
        for task in live(self.service) {
            let TaskPhase::Running { since_ms } = task.phase else { continue };
            match task.health {
                Health::Unchecked => self.wake_at(since_ms + self.service.settle_ms),
                Health::Unhealthy => self.wake_at(since_ms + self.service.health_check_grace_ms),
                Health::Unknown | Health::Healthy => {}
            }
        }
    }

    fn wake_at(&mut self, at_ms: i64) {
        if at_ms > self.now_ms {
            self.wake = Some(self.wake.map_or(at_ms, |wake| wake.min(at_ms)));
        }
    }
}

fn live(service: &ServiceState) -> impl Iterator<Item = &Task> {
    service.tasks.iter().filter(|task| task.phase != TaskPhase::Stopping)
}

pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
