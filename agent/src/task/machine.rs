//! The life of a task: `(state, event) -> (state, effects)`.
//!
//! Pure: no clock, no engine, no I/O. For each container at most one effect is under way at a time, a task
//! reports RUNNING at most once and STOPPED exactly once, and nothing of it is reported after that.

use crate::task::dependency::{self, Gate, Readiness};
use crate::task::event::{CreatedContainer, Effect, Event, Failure, Observed, ObservedRun, Report};
use crate::task::plan::Plan;
use crate::task::state::{Desired, Exit, Phase, Preparation, TaskState};

const FENCED: &str = "The host could not reach the scheduler for longer than its lease";
const ESSENTIAL_EXITED: &str = "Essential container in task exited";

/// Applies one event at `now_ms` and says what is to be done.
pub(crate) fn step(plan: &Plan, state: TaskState, event: Event, now_ms: i64) -> (TaskState, Vec<Effect>) {
    let mut machine = Machine { plan, state, now_ms, effects: Vec::new() };
    machine.apply(event);
    machine.advance();
    (machine.state, machine.effects)
}

/// Applies one event and moves nothing else: for an agent that starts again, until it has looked at every
/// container. What is not known to be stopped must not be taken for it.
pub(crate) fn absorb(plan: &Plan, state: TaskState, event: Event, now_ms: i64) -> (TaskState, Vec<Effect>) {
    let mut machine = Machine { plan, state, now_ms, effects: Vec::new() };
    machine.apply(event);
    (machine.state, machine.effects)
}

/// When [`Event::Tick`] is due: the first start timeout that somebody waits on.
pub(crate) fn next_deadline(plan: &Plan, state: &TaskState) -> Option<i64> {
    if state.desired == Desired::Stopped {
        return None;
    }
    let waiting = (0..plan.containers.len()).filter(|index| state.containers[*index].phase == Phase::Pulled);
    waiting.filter_map(|index| dependency::deadline(plan, state, index)).min()
}

struct Machine<'a> {
    plan: &'a Plan,
    state: TaskState,
    now_ms: i64,
    effects: Vec<Effect>,
}

impl Machine<'_> {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Begin | Event::Tick => {}
            Event::StopRequested => self.want_stopped(None),
            Event::Fenced => self.want_stopped(Some(FENCED.into())),
            Event::Refused(reason) => {
                self.want_stopped(Some(reason.clone()));
                for container in &mut self.state.containers {
                    container.reason.get_or_insert_with(|| reason.clone());
                }
            }
            Event::Prepared(result) => self.prepared(result),
            Event::Pulled { index, result } => {
                if self.state.containers[index].phase != Phase::Pulling {
                    return;
                }
                match result {
                    Err(failure) => self.fail(index, &failure),
                    Ok(image) => {
                        let container = &mut self.state.containers[index];
                        container.image_id = Some(image.image_id);
                        container.image_digest = image.image_digest;
                        container.allowed_at_ms = image.allowed_at_ms;
                        container.phase = Phase::Pulled;
                        if let Some((from, to)) = image.fetched {
                            let first = self.state.pull_started_at_ms.get_or_insert(from);
                            *first = from.min(*first);
                            let last = self.state.pull_stopped_at_ms.get_or_insert(to);
                            *last = to.max(*last);
                        }
                    }
                }
            }
            Event::Created { index, result } => {
                if self.state.containers[index].phase != Phase::Creating {
                    return;
                }
                match result {
                    Err(failure) => self.fail(index, &failure),
                    Ok(created) => {
                        self.note_created(index, created);
                        self.state.containers[index].phase = Phase::Created;
                    }
                }
            }
            Event::Started { index, result } => {
                if self.state.containers[index].phase != Phase::Starting {
                    return;
                }
                match result {
                    Err(failure) => self.fail(index, &failure),
                    Ok(started) => {
                        if let Some(created) = started.replaced_by {
                            self.note_created(index, created);
                        }
                        self.running(index, started.started_at_ms);
                        if let Some(exit) = self.state.containers[index].early_exit.take() {
                            self.exited_right_away(index, exit);
                        }
                    }
                }
            }
            Event::Exited { index, exit } => self.exited(index, exit),
            Event::HealthChanged { index, health } => {
                let container = &mut self.state.containers[index];
                if matches!(container.phase, Phase::Starting | Phase::Running) && container.health != health {
                    container.health = health;
                    container.health_since_ms = Some(self.now_ms);
                }
            }
            Event::Observed { index, seen } => self.observed(index, seen),
            Event::Vanished { index, runtime_id } => self.vanished(index, &runtime_id),
        }
    }

    fn prepared(&mut self, result: Result<(), Failure>) {
        if self.state.preparation != Preparation::Preparing {
            return;
        }
        match result {
            Ok(()) => self.state.preparation = Preparation::Ready,
            Err(failure) => {
                self.state.preparation = Preparation::Waiting;
                self.want_stopped(Some(failure.reason()));
            }
        }
    }

    fn note_created(&mut self, index: usize, created: CreatedContainer) {
        let container = &mut self.state.containers[index];
        container.runtime_id = Some(created.runtime_id);
        container.network_bindings = created.network_bindings;
        container.created_at_ms = Some(created.created_at_ms);
    }

    fn running(&mut self, index: usize, started_at_ms: i64) {
        let container = &mut self.state.containers[index];
        container.phase = Phase::Running;
        container.started_at_ms = Some(started_at_ms);
        container.finished_at_ms = None;
        container.exit_code = None;
    }

    /// The container ran and is over by now: the run is reported before its end.
    fn exited_right_away(&mut self, index: usize, exit: Exit) {
        self.report_running();
        self.ended(index, exit);
    }

    fn exited(&mut self, index: usize, exit: Exit) {
        let container = &mut self.state.containers[index];
        if container.restarts > 0 && exit.finished_at_ms < container.start_asked_at_ms {
            return; // the end of an earlier run, told again
        }
        match container.phase {
            Phase::Starting => container.early_exit = Some(exit),
            Phase::Running | Phase::Stopping => self.ended(index, exit),
            _ => {}
        }
    }

    fn ended(&mut self, index: usize, exit: Exit) {
        let may_restart = self.may_restart(index, &exit);
        let container = &mut self.state.containers[index];
        container.exit_code = exit.code;
        container.finished_at_ms = Some(exit.finished_at_ms);
        if exit.out_of_memory {
            let failure = Failure::new("OutOfMemoryError", "Container killed due to memory usage");
            container.reason = Some(failure.reason());
        }
        if may_restart {
            container.restarts += 1;
            container.last_restart_at_ms = Some(self.now_ms);
            container.reason = None;
            self.start(index);
        } else {
            self.stopped(index);
        }
    }

    fn may_restart(&self, index: usize, exit: &Exit) -> bool {
        let Some(policy) = &self.plan.containers[index].restart else { return false };
        let container = &self.state.containers[index];
        let since = container.last_restart_at_ms.or(container.started_at_ms).unwrap_or(self.now_ms);
        self.state.desired == Desired::Running
            && container.phase == Phase::Running
            && exit.code.is_some_and(|code| !policy.ignored_exit_codes.contains(&code))
            && self.now_ms - since >= policy.attempt_period_ms
    }

    fn start(&mut self, index: usize) {
        let container = &mut self.state.containers[index];
        container.phase = Phase::Starting;
        container.start_asked_at_ms = self.now_ms;
        container.early_exit = None;
        self.effects.push(Effect::Start(index));
    }

    /// Ends a container for good, whatever the cause.
    fn stopped(&mut self, index: usize) {
        let container = &mut self.state.containers[index];
        container.phase = Phase::Stopped;
        let finished = container.finished_at_ms.unwrap_or(self.now_ms);
        let goes_on = self.state.running_reported && self.state.desired == Desired::Running;
        if self.plan.containers[index].essential {
            if container.ran() {
                self.state.execution_stopped_at_ms.get_or_insert(finished);
            }
            self.want_stopped(Some(ESSENTIAL_EXITED.into()));
        } else if goes_on && !self.state.all_stopped() {
            self.effects.push(Effect::Report(Report::ContainerStopped(index)));
        }
    }

    fn fail(&mut self, index: usize, failure: &Failure) {
        let reason = failure.reason();
        self.state.containers[index].reason = Some(reason.clone());
        if self.plan.containers[index].essential {
            self.want_stopped(Some(reason));
        }
        self.stopped(index);
    }

    fn want_stopped(&mut self, reason: Option<String>) {
        if self.state.desired == Desired::Running {
            self.state.desired = Desired::Stopped;
            self.state.stop_reason = reason;
        }
    }

    fn observed(&mut self, index: usize, seen: Observed) {
        let phase = self.state.containers[index].phase;
        match phase {
            Phase::Waiting | Phase::Pulled | Phase::Created => {
                let created = CreatedContainer {
                    runtime_id: seen.runtime_id,
                    network_bindings: seen.network_bindings,
                    created_at_ms: seen.created_at_ms,
                };
                self.note_created(index, created);
                self.state.containers[index].phase = Phase::Created;
                match seen.run {
                    ObservedRun::NeverStarted => {}
                    ObservedRun::Running { started_at_ms } => self.running(index, started_at_ms),
                    ObservedRun::Exited { started_at_ms, exit } => {
                        self.running(index, started_at_ms);
                        self.exited_right_away(index, exit);
                    }
                }
            }
            Phase::Running | Phase::Stopping => match seen.run {
                _ if self.state.containers[index].runtime_id.as_ref() != Some(&seen.runtime_id) => return,
                ObservedRun::Exited { exit, .. } => self.exited(index, exit),
                ObservedRun::NeverStarted | ObservedRun::Running { .. } => {}
            },
            // An effect is under way, and its answer says more; or it is all over.
            Phase::Pulling | Phase::Creating | Phase::Starting | Phase::Stopped => return,
        }
        let container = &mut self.state.containers[index];
        if container.phase == Phase::Running && container.health != seen.health {
            container.health = seen.health;
            container.health_since_ms = Some(self.now_ms);
        }
    }

    fn vanished(&mut self, index: usize, runtime_id: &str) {
        let container = &mut self.state.containers[index];
        if container.runtime_id.as_deref() != Some(runtime_id) {
            return; // one that was replaced
        }
        match container.phase {
            Phase::Created => {
                container.runtime_id = None;
                container.phase = Phase::Pulled;
                if self.state.preparation == Preparation::Ready && self.plan.needs_preparation {
                    self.state.preparation = Preparation::Waiting;
                }
            }
            Phase::Running | Phase::Stopping => {
                let failure =
                    Failure::new("ContainerVanishedError", "the container was removed outside Berth");
                container.reason = Some(failure.reason());
                container.finished_at_ms = Some(self.now_ms);
                self.stopped(index);
            }
            _ => {}
        }
    }

    /// Moves everything that can move, until nothing does.
    fn advance(&mut self) {
        loop {
            let before = self.effects.len();
            let phases: Vec<Phase> = self.state.containers.iter().map(|container| container.phase).collect();
            match self.state.desired {
                Desired::Running => self.advance_to_running(),
                Desired::Stopped => self.advance_to_stopped(),
            }
            let moved = self.effects.len() > before
                || self
                    .state
                    .containers
                    .iter()
                    .zip(phases)
                    .any(|(container, phase)| container.phase != phase);
            if !moved {
                break;
            }
        }
        self.report_running();
        if self.state.all_stopped() && !self.state.stopped_reported {
            self.state.desired = Desired::Stopped;
            self.state.stopped_reported = true;
            self.effects.push(Effect::Report(Report::Stopped));
        }
    }

    fn advance_to_running(&mut self) {
        if self.state.preparation == Preparation::Waiting {
            if self.plan.needs_preparation {
                self.state.preparation = Preparation::Preparing;
                self.effects.push(Effect::Prepare);
            } else {
                self.state.preparation = Preparation::Ready;
            }
        }
        for index in 0..self.plan.containers.len() {
            if self.state.desired == Desired::Stopped {
                return;
            }
            match self.state.containers[index].phase {
                Phase::Waiting => {
                    self.state.containers[index].phase = Phase::Pulling;
                    self.effects.push(Effect::Pull(index));
                }
                Phase::Pulled if self.state.preparation == Preparation::Ready => {
                    match dependency::readiness(self.plan, &self.state, index, Gate::Create, self.now_ms) {
                        Readiness::Ready => {
                            self.state.containers[index].phase = Phase::Creating;
                            self.effects.push(Effect::Create(index));
                        }
                        Readiness::Waiting => {}
                        Readiness::Never(why) => self.depends_in_vain(index, why),
                    }
                }
                Phase::Created => {
                    match dependency::readiness(self.plan, &self.state, index, Gate::Start, self.now_ms) {
                        Readiness::Ready => self.start(index),
                        Readiness::Waiting => {}
                        Readiness::Never(why) => self.depends_in_vain(index, why),
                    }
                }
                _ => {}
            }
        }
    }

    /// A dependency that can never be met stops the task, even of a container that is not essential.
    fn depends_in_vain(&mut self, index: usize, why: String) {
        let failure = Failure::new("TaskDependencyError", why);
        self.want_stopped(Some(failure.reason()));
        self.fail(index, &failure);
    }

    fn advance_to_stopped(&mut self) {
        for index in 0..self.plan.containers.len() {
            match self.state.containers[index].phase {
                Phase::Waiting | Phase::Pulled | Phase::Created => self.stopped(index),
                Phase::Pulling => {
                    self.effects.push(Effect::AbandonPull(index));
                    self.stopped(index);
                }
                Phase::Running if self.dependents_are_over(index) => {
                    self.state.containers[index].phase = Phase::Stopping;
                    self.effects.push(Effect::Stop(index));
                }
                Phase::Running | Phase::Creating | Phase::Starting | Phase::Stopping | Phase::Stopped => {}
            }
        }
    }

    /// Containers stop in the reverse order of their dependencies.
    fn dependents_are_over(&self, index: usize) -> bool {
        self.plan.dependents(index).all(|dependent| self.state.containers[dependent].phase == Phase::Stopped)
    }

    fn report_running(&mut self) {
        let up = |phase: Phase| matches!(phase, Phase::Running | Phase::Stopped);
        let containers = &self.state.containers;
        if self.state.running_reported
            || self.state.desired == Desired::Stopped
            || self.state.all_stopped()
            || !containers.iter().all(|container| up(container.phase))
        {
            return;
        }
        self.state.running_reported = true;
        self.effects.push(Effect::Report(Report::Running));
    }
}

#[cfg(test)]
mod tests;
