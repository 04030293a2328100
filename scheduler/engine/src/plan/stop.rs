//! Which tasks a plan stops: those that are too many, and those that are being replaced.
//!
//! Invariant: a healthy task is stopped only while more than the lower bound are healthy, counting those that
//! the same plan stops.

use super::decide::{Planner, Tasks, number};
use super::scale_in::choose_surplus;
use super::{Action, Deployment, Event, StopReason, Task, TaskPhase};

impl<'a> Planner<'a> {
    /// Scales in: more tasks stay than are wanted.
    pub(super) fn stop_surplus(&mut self, primary: &Deployment, tasks: &Tasks<'a>) {
        let surplus = tasks.staying.len().saturating_sub(self.service.desired_count as usize);
        if surplus == 0 {
            return;
        }
        let chosen = choose_surplus(self.service, self.now_ms, &tasks.staying, surplus);
        let blocked = chosen.len() < surplus;
        for task in chosen {
            self.stop(task, StopReason::Scaling(primary.id.clone()));
        }
        self.plan.reported.blocked_by_protection = blocked;
        if blocked && !self.service.reported.blocked_by_protection {
            let (service, deployment) = (self.service.name.clone(), primary.id.clone());
            self.plan.events.push(Event::BlockedByProtection { service, deployment });
        }
    }

    /// Stops tasks that are being replaced, as far as the healthy ones allow.
    pub(super) fn stop_leaving(&mut self, primary: &Deployment, tasks: &Tasks<'a>, blocked: bool) {
        let service = self.service;
        let mut healthy = tasks.healthy - self.healthy_stopped();
        let floor = self.floor(primary, tasks, blocked, healthy);
        let draining_floor = if blocked { service.lower_bound() } else { floor };
        // Where new ones find no room beside them, the next goes only when its predecessor's successor has come.
        let coming = tasks.staying.iter().any(|task| task.phase == TaskPhase::Pending);
        let mut one_by_one = blocked && !coming;
        let mut leaving = tasks.leaving.clone();
        // Those that serve nobody first, then those on instances that are to be emptied.
        leaving.sort_by_key(|task| {
            (service.is_healthy(task, self.now_ms), !task.draining, task.created_at_ms, task.id.clone())
        });
        for task in leaving {
            if task.protected && !task.draining {
                continue;
            }
            let is_healthy = service.is_healthy(task, self.now_ms);
            let failing = service.is_failing(task, self.now_ms);
            let may_stop = if is_healthy {
                healthy > if task.draining { draining_floor } else { floor }
            } else if self.keeps_up(primary, task) {
                // What keeps a troubled deployment's service up is let come up.
                false
            } else if matches!(task.phase, TaskPhase::Pending) {
                true
            } else {
                let stop = healthy >= service.desired_count || one_by_one;
                one_by_one &= !(stop && healthy < service.desired_count);
                stop
            };
            if !may_stop {
                continue;
            }
            healthy -= u32::from(is_healthy);
            let reason = if failing && task.deployment == primary.id && !task.draining {
                StopReason::Unhealthy
            } else {
                StopReason::Scaling(primary.id.clone())
            };
            self.stop(task, reason);
        }
    }

    /// How many tasks stay healthy while others are replaced: the desired count where new ones come up beside
    /// the old, the lower bound where they cannot.
    fn floor(&self, primary: &Deployment, tasks: &Tasks<'_>, blocked: bool, healthy: u32) -> u32 {
        let lower = self.service.lower_bound();
        let full = lower.max(self.service.desired_count);
        let fails = self.wanted_of_predecessor(primary).is_some() && primary.unplaced_at_ms.is_none();
        match (blocked, fails) {
            (false, _) => full,
            (true, false) => lower,
            // Without a single place the next attempt could not be made; more would be given up for nothing.
            (true, true) if tasks.staying.is_empty() && self.room(tasks) == 0 => {
                lower.max(healthy.saturating_sub(1))
            }
            (true, true) => full,
        }
    }

    /// Whether a task of the last good deployment stands in for one that its troubled successor lacks.
    fn keeps_up(&self, primary: &Deployment, task: &Task) -> bool {
        let good = self.predecessor().is_some_and(|predecessor| predecessor.id == task.deployment);
        good && !self.is_fading(task) && self.wanted_of_predecessor(primary).is_some()
    }

    /// Healthy tasks that this plan already stops, of those that count.
    fn healthy_stopped(&self) -> u32 {
        let stopped = self.plan.actions.iter().filter_map(|action| match action {
            Action::Stop { task, .. } => Some(task),
            _ => None,
        });
        let healthy = stopped.filter(|id| {
            let task = self.service.tasks.iter().find(|task| task.id == **id);
            task.is_some_and(|task| !task.misplaced && self.service.is_healthy(task, self.now_ms))
        });
        number(healthy.count())
    }

    pub(super) fn stop(&mut self, task: &Task, reason: StopReason) {
        self.plan.actions.push(Action::Stop { task: task.id.clone(), reason });
    }
}
