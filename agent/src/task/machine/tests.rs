//! Facts about the life of a task, and random lives in which the machine's promises must hold.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::{absorb, next_deadline, step};
use crate::task::event::{
    CreatedContainer, Effect, Event, Failure, Observed, ObservedRun, PulledImage, Report, StartedContainer,
};
use crate::task::plan::{Condition, ContainerPlan, Dependency, Plan, Restart};
use crate::task::state::{Desired, Exit, Health, Phase, TaskState};

fn container(essential: bool, dependencies: &[(usize, Condition)]) -> ContainerPlan {
    let dependencies =
        dependencies.iter().map(|(on, condition)| Dependency { on: *on, condition: *condition }).collect();
    ContainerPlan { name: "c".into(), essential, dependencies, ..ContainerPlan::default() }
}

fn plan(containers: Vec<ContainerPlan>) -> Plan {
    Plan { containers, needs_preparation: false }
}

fn pulled(index: usize) -> Event {
    let image =
        PulledImage { image_id: "sha256:1".into(), image_digest: None, allowed_at_ms: 0, fetched: None };
    Event::Pulled { index, result: Ok(image) }
}

fn made() -> CreatedContainer {
    CreatedContainer { runtime_id: "id".into(), network_bindings: Vec::new(), created_at_ms: 0 }
}

fn created(index: usize) -> Event {
    Event::Created { index, result: Ok(made()) }
}

fn started(index: usize, at: i64) -> Event {
    Event::Started { index, result: Ok(StartedContainer { started_at_ms: at, replaced_by: None }) }
}

fn exited(index: usize, code: i64, at: i64) -> Event {
    Event::Exited { index, exit: Exit { code: Some(code), finished_at_ms: at, out_of_memory: false } }
}

/// A task under test: remembers its state and what the last event caused.
struct Life {
    plan: Plan,
    state: TaskState,
    now_ms: i64,
}

impl Life {
    fn begin(plan: Plan) -> (Self, Vec<Effect>) {
        let state = TaskState::new(plan.containers.len());
        let mut life = Self { plan, state, now_ms: 1000 };
        let effects = life.event(Event::Begin);
        (life, effects)
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let (state, effects) = step(&self.plan, self.state.clone(), event, self.now_ms);
        self.state = state;
        effects
    }

    /// Brings one container from its pull to running.
    fn bring_up(&mut self, index: usize) -> Vec<Effect> {
        let mut effects = self.event(pulled(index));
        effects.extend(self.event(created(index)));
        effects.extend(self.event(started(index, self.now_ms)));
        effects
    }
}

#[test]
fn a_single_container_is_pulled_created_started_and_reported() {
    let (mut life, effects) = Life::begin(plan(vec![container(true, &[])]));
    assert_eq!(effects, [Effect::Pull(0)]);
    assert_eq!(life.event(pulled(0)), [Effect::Create(0)]);
    assert_eq!(life.event(created(0)), [Effect::Start(0)]);
    assert_eq!(life.event(started(0, 1001)), [Effect::Report(Report::Running)]);
    assert_eq!(life.event(exited(0, 3, 1500)), [Effect::Report(Report::Stopped)]);
    assert_eq!(life.state.containers[0].exit_code, Some(3));
    assert_eq!(life.state.stop_reason.as_deref(), Some("Essential container in task exited"));
    assert_eq!(life.state.execution_stopped_at_ms, Some(1500));
}

#[test]
fn a_container_that_ends_before_its_start_is_answered_is_reported_running_first() {
    let (mut life, _) = Life::begin(plan(vec![container(true, &[])]));
    life.event(pulled(0));
    life.event(created(0));
    assert_eq!(life.event(exited(0, 0, 1001)), []);
    let reports = life.event(started(0, 1000));
    assert_eq!(reports, [Effect::Report(Report::Running), Effect::Report(Report::Stopped)]);
}

#[test]
fn an_essential_exit_stops_the_others_in_reverse_order() {
    let start = Condition::Start;
    let (mut life, _) = Life::begin(plan(vec![
        container(true, &[]),
        container(false, &[(0, start)]),
        container(false, &[(1, start)]),
        container(true, &[]),
    ]));
    for index in 0..4 {
        life.bring_up(index);
    }
    assert_eq!(life.event(exited(3, 1, 2000)), [Effect::Stop(2)]);
    assert_eq!(life.event(exited(2, 143, 2001)), [Effect::Stop(1)]);
    assert_eq!(life.event(exited(1, 143, 2002)), [Effect::Stop(0)]);
    assert_eq!(life.event(exited(0, 143, 2003)), [Effect::Report(Report::Stopped)]);
}

#[test]
fn conditions_hold_up_the_creation() {
    let (mut life, _) = Life::begin(plan(vec![
        container(false, &[]),
        container(true, &[(0, Condition::Success)]),
        container(true, &[(1, Condition::Healthy)]),
    ]));
    assert_eq!(life.event(pulled(1)), []);
    assert_eq!(life.event(pulled(2)), []);
    life.event(pulled(0));
    life.event(created(0));
    assert_eq!(life.event(started(0, 1000)), []);
    assert_eq!(life.event(exited(0, 0, 1100)), [Effect::Create(1)]);
    life.event(created(1));
    assert_eq!(life.event(started(1, 1200)), []);
    assert_eq!(life.event(Event::HealthChanged { index: 1, health: Health::Unhealthy }), []);
    assert_eq!(life.event(Event::HealthChanged { index: 1, health: Health::Healthy }), [Effect::Create(2)]);
    life.event(created(2));
    assert_eq!(life.event(started(2, 1300)), [Effect::Report(Report::Running)]);
}

#[test]
fn a_failed_success_dependency_stops_the_task() {
    let (mut life, _) =
        Life::begin(plan(vec![container(false, &[]), container(true, &[(0, Condition::Success)])]));
    life.bring_up(0);
    life.event(pulled(1));
    assert_eq!(life.event(exited(0, 7, 1100)), [Effect::Report(Report::Stopped)]);
    let reason = life.state.stop_reason.unwrap();
    assert!(reason.starts_with("TaskDependencyError: ") && reason.contains("exit code 7"), "{reason}");
}

#[test]
fn a_start_timeout_ends_the_wait() {
    let mut slow = container(false, &[]);
    slow.start_timeout_ms = Some(5000);
    let (mut life, _) = Life::begin(plan(vec![slow, container(true, &[(0, Condition::Complete)])]));
    life.event(pulled(1));
    assert_eq!(next_deadline(&life.plan, &life.state), None);
    life.bring_up(0);
    assert_eq!(next_deadline(&life.plan, &life.state), Some(6000));
    life.now_ms = 6000;
    assert_eq!(life.event(Event::Tick), [Effect::Stop(0)]);
    assert!(life.state.stop_reason.unwrap().contains("start timeout"));
}

#[test]
fn a_restart_policy_starts_the_same_container_again() {
    let mut restarting = container(true, &[]);
    restarting.restart = Some(Restart { ignored_exit_codes: vec![0], attempt_period_ms: 60_000 });
    let (mut life, _) = Life::begin(plan(vec![restarting]));
    life.bring_up(0);
    life.now_ms = 61_000;
    assert_eq!(life.event(exited(0, 1, 61_000)), [Effect::Start(0)]);
    assert_eq!(life.event(started(0, 61_001)), []);
    assert_eq!(life.event(exited(0, 1, 60_500)), [], "the end of the first run, told again");
    life.now_ms = 70_000;
    assert_eq!(life.event(exited(0, 1, 70_000)), [Effect::Report(Report::Stopped)], "too soon");
}

#[test]
fn ignored_exit_codes_and_wanted_stops_do_not_restart() {
    let mut restarting = container(true, &[]);
    restarting.restart = Some(Restart { ignored_exit_codes: vec![0], attempt_period_ms: 0 });
    let (mut life, _) = Life::begin(plan(vec![restarting.clone()]));
    life.bring_up(0);
    assert_eq!(life.event(exited(0, 0, 2000)), [Effect::Report(Report::Stopped)]);
    let (mut life, _) = Life::begin(plan(vec![restarting]));
    life.bring_up(0);
    assert_eq!(life.event(Event::StopRequested), [Effect::Stop(0)]);
    assert_eq!(life.event(exited(0, 1, 2000)), [Effect::Report(Report::Stopped)]);
}

#[test]
fn a_stop_during_the_pull_ends_it() {
    let (mut life, _) = Life::begin(plan(vec![container(true, &[])]));
    assert_eq!(life.event(Event::StopRequested), [Effect::AbandonPull(0), Effect::Report(Report::Stopped)]);
    assert_eq!(life.event(pulled(0)), []);
}

#[test]
fn a_container_that_does_not_matter_may_end() {
    let (mut life, _) = Life::begin(plan(vec![container(true, &[]), container(false, &[])]));
    life.bring_up(0);
    life.bring_up(1);
    assert_eq!(life.event(exited(1, 1, 2000)), [Effect::Report(Report::ContainerStopped(1))]);
    assert_eq!(life.state.desired, Desired::Running);
}

#[test]
fn a_restarted_agent_adopts_what_runs() {
    let (mut life, _) = Life::begin(plan(vec![container(true, &[]), container(true, &[])]));
    life.bring_up(0);
    life.event(pulled(1));
    assert_eq!(life.state.containers[1].phase, Phase::Creating);
    life.state = life.state.clone().recovered();
    let running = Observed {
        runtime_id: "id".into(),
        network_bindings: Vec::new(),
        created_at_ms: 900,
        run: ObservedRun::Running { started_at_ms: 1000 },
        health: Health::Unknown,
    };
    assert_eq!(life.event(Event::Observed { index: 0, seen: running.clone() }), [Effect::Create(1)]);
    life.state = life.state.clone().recovered();
    let reports = life.event(Event::Observed { index: 1, seen: running });
    assert_eq!(reports, [Effect::Report(Report::Running)], "it was created and started before the crash");
}

#[test]
fn a_stop_after_a_restart_waits_for_the_look_at_the_containers() {
    let (mut life, _) = Life::begin(plan(vec![container(true, &[])]));
    life.event(pulled(0));
    life.event(created(0));
    // The agent is killed while the engine starts the container, and the stop comes first.
    let state = life.state.clone().recovered();
    assert_eq!(state.containers[0].phase, Phase::Created);
    let (state, effects) = absorb(&life.plan, state, Event::StopRequested, 2000);
    assert_eq!(effects, []);
    let seen = Observed {
        runtime_id: "id".into(),
        network_bindings: Vec::new(),
        created_at_ms: 900,
        run: ObservedRun::Running { started_at_ms: 1500 },
        health: Health::Unknown,
    };
    let (state, effects) = absorb(&life.plan, state, Event::Observed { index: 0, seen }, 2001);
    assert_eq!(effects, []);
    life.state = state;
    assert_eq!(life.event(Event::Begin), [Effect::Stop(0)]);
}

#[test]
fn a_container_that_vanished_while_running_is_over() {
    let (mut life, _) = Life::begin(plan(vec![container(true, &[])]));
    life.bring_up(0);
    assert_eq!(life.event(Event::Vanished { index: 0, runtime_id: "another".into() }), []);
    assert_eq!(
        life.event(Event::Vanished { index: 0, runtime_id: "id".into() }),
        [Effect::Report(Report::Stopped)]
    );
    assert!(life.state.containers[0].reason.as_deref().unwrap().starts_with("ContainerVanishedError"));
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let condition = prop_oneof![
        Just(Condition::Create),
        Just(Condition::Start),
        Just(Condition::Complete),
        Just(Condition::Success),
        Just(Condition::Healthy)
    ];
    let edges = prop::collection::vec((any::<prop::sample::Index>(), condition), 0..3);
    let restart = prop::option::of(Just(Restart { ignored_exit_codes: vec![0], attempt_period_ms: 10 }));
    let one = (any::<bool>(), edges, prop::option::of(1i64..500), restart);
    (prop::collection::vec(one, 1..5), any::<bool>()).prop_map(|(containers, needs_preparation)| {
        let containers = containers
            .into_iter()
            .enumerate()
            .map(|(index, (essential, edges, start_timeout_ms, restart))| {
                let mut plan = container(essential || index == 0, &[]);
                // Only earlier containers: no cycle.
                plan.dependencies = edges
                    .into_iter()
                    .filter(|_| index > 0)
                    .map(|(on, condition)| Dependency { on: on.index(index), condition })
                    .collect();
                plan.start_timeout_ms = start_timeout_ms;
                plan.restart = restart;
                plan
            })
            .collect();
        Plan { containers, needs_preparation }
    })
}

/// Plays an engine for the machine and checks its promises at every step.
struct Simulation {
    life: Life,
    under_way: Vec<Effect>,
    existing: Vec<bool>,
    running: Vec<bool>,
    reports: Vec<Report>,
}

impl Simulation {
    fn send(&mut self, event: Event) {
        for effect in self.life.event(event) {
            self.check(&effect);
            match effect {
                Effect::Report(report) => self.reports.push(report),
                Effect::AbandonPull(index) => self.under_way.retain(|other| *other != Effect::Pull(index)),
                other => self.under_way.push(other),
            }
        }
    }

    fn check(&self, effect: &Effect) {
        let same = |other: &Effect| target(other) == target(effect) && target(effect).is_some();
        match effect {
            Effect::Create(index) => {
                assert!(!self.existing[*index], "created twice");
                assert!(!self.under_way.iter().any(same));
            }
            Effect::Start(index) => {
                assert!(self.existing[*index] && !self.running[*index]);
                assert!(!self.under_way.iter().any(same));
            }
            Effect::Stop(index) => {
                assert!(self.running[*index]);
                for dependent in self.life.plan.dependents(*index) {
                    assert!(!self.running[dependent], "stopped before its dependent");
                }
            }
            Effect::Pull(_) | Effect::Prepare => assert!(!self.under_way.contains(effect)),
            Effect::AbandonPull(_) => {}
            Effect::Report(report) => {
                assert!(!self.reports.contains(&Report::Stopped), "reported after the end");
                assert!(!(*report == Report::Running && self.reports.contains(report)));
            }
        }
    }

    fn answer(&mut self, choice: usize, fails: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let effect = self.under_way.remove(choice % self.under_way.len());
        let failure = Failure::new("Test", "failed");
        let now = self.life.now_ms;
        match effect {
            Effect::Prepare => self.send(Event::Prepared(if fails { Err(failure) } else { Ok(()) })),
            Effect::Pull(index) if fails => self.send(Event::Pulled { index, result: Err(failure) }),
            Effect::Pull(index) => self.send(pulled(index)),
            Effect::Create(index) if fails => self.send(Event::Created { index, result: Err(failure) }),
            Effect::Create(index) => {
                self.existing[index] = true;
                self.send(created(index));
            }
            Effect::Start(index) if fails => self.send(Event::Started { index, result: Err(failure) }),
            Effect::Start(index) => {
                self.running[index] = true;
                self.send(started(index, now));
            }
            Effect::Stop(index) => self.exit(index, 143),
            Effect::AbandonPull(_) | Effect::Report(_) => {}
        }
    }

    fn exit(&mut self, index: usize, code: i64) {
        if self.running[index] {
            self.running[index] = false;
            self.under_way.retain(|effect| *effect != Effect::Stop(index));
            self.send(exited(index, code, self.life.now_ms));
        }
    }
}

fn target(effect: &Effect) -> Option<usize> {
    match effect {
        Effect::Pull(index) | Effect::Create(index) | Effect::Start(index) | Effect::Stop(index) => {
            Some(*index)
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn every_life_ends_reported_once_and_nothing_overlaps(
        plan in any_plan(),
        moves in prop::collection::vec((0u8..8, any::<usize>(), 0u8..12), 0..60),
    ) {
        let count = plan.containers.len();
        let (life, effects) = Life::begin(plan);
        let mut simulation = Simulation {
            life,
            under_way: effects,
            existing: vec![false; count],
            running: vec![false; count],
            reports: Vec::new(),
        };
        for (kind, choice, detail) in moves {
            simulation.life.now_ms += i64::from(detail);
            match kind {
                0..=3 => simulation.answer(choice, detail == 0),
                4 => simulation.exit(choice % count, i64::from(detail % 3)),
                5 => {
                    let health = if detail % 2 == 0 { Health::Healthy } else { Health::Unhealthy };
                    simulation.send(Event::HealthChanged { index: choice % count, health });
                }
                6 => simulation.send(Event::Tick),
                _ if detail == 0 => simulation.send(Event::StopRequested),
                _ => {}
            }
        }
        simulation.send(Event::StopRequested);
        for round in 0..100 {
            simulation.answer(round, false);
        }
        assert!(simulation.life.state.all_stopped(), "{:?}", simulation.life.state);
        assert!(simulation.running.iter().all(|running| !running), "a container was left running");
        assert_eq!(simulation.reports.iter().filter(|report| **report == Report::Stopped).count(), 1);
    }
}
