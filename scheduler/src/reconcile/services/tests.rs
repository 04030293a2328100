use std::sync::Arc;

use scheduler_protocol::SubmitTaskStateChangeRequest;
use serde_json::json;

use super::reconcile_service;
use crate::fixture::{cluster, definition, instance, service};
use crate::ids::{InstanceId, TaskId};
use crate::model::{Instance, InstanceStatus, LastStatus, RolloutState, SchedulingStrategy, Task};
use crate::reconcile::apply_report;
use crate::state::{Draft, Record, State};

/// An instance on which a service runs, in steps of 100 ms.
struct World {
    state: State,
    now_ms: i64,
}

impl World {
    fn of(desired_count: i64) -> Self {
        let mut state = State::default();
        let mut draft = Draft::new(&mut state, 0);
        draft.put(Record::Cluster(Arc::new(cluster())));
        draft.put(Record::Definition(Arc::new(definition())));
        draft.put(Record::Instance(Arc::new(instance("i", true))));
        draft.put(Record::Service(Arc::new(service(desired_count))));
        Self { state, now_ms: 0 }
    }

    /// Lets time pass. A task runs 300 ms after it was made, and for as long as `life_ms` says of the so manyth.
    fn pass(&mut self, ms: i64, life_ms: impl Fn(usize) -> i64) {
        let until = self.now_ms + ms;
        let key = service(0).key;
        while self.now_ms < until {
            self.now_ms += 100;
            let now_ms = self.now_ms;
            let mut draft = Draft::new(&mut self.state, now_ms);
            let mut tasks: Vec<Arc<Task>> = draft.state().tasks().cloned().collect();
            tasks.sort_by_key(|task| (task.created_at, task.id.clone()));
            for (number, task) in tasks.iter().enumerate() {
                let over = |since: i64, ms: i64| now_ms - since >= ms;
                match (task.last_status, task.started_at) {
                    (LastStatus::Pending, _) if over(task.created_at, 300) => {
                        report(&mut draft, &task.id, "RUNNING");
                    }
                    (LastStatus::Running, Some(since)) if over(since, life_ms(number)) => {
                        report(&mut draft, &task.id, "STOPPED");
                    }
                    _ => {}
                }
            }
            reconcile_service(&mut draft, &key);
        }
    }

    fn started(&self) -> usize {
        self.state.tasks().count()
    }

    fn said(&self, words: &str) -> usize {
        self.state.events(&service(0).key).filter(|event| event.message.contains(words)).count()
    }
}

fn report(draft: &mut Draft<'_>, task: &TaskId, status: &str) {
    let report = SubmitTaskStateChangeRequest { status: status.into(), ..Default::default() };
    apply_report(draft, &InstanceId::new("i"), task, &report);
}

#[test]
fn tasks_that_end_as_soon_as_they_run_are_tried_further_and_further_apart_however_many_there_are() {
    for desired_count in [1, 2, 5] {
        let mut world = World::of(desired_count);
        // Never two of them at once.
        world.pass(180_000, |number| 200 + 700 * (number as i64 % 5));
        // At 0, 5, 15, 35, 75 and 155 seconds.
        let waves = world.started() / desired_count as usize;
        assert!((5..=7).contains(&waves), "{waves} waves of {desired_count}");
        assert_eq!(world.said("unable to consistently start tasks"), 1);
    }
}

#[test]
fn a_task_that_lasted_is_replaced_at_once() {
    let mut world = World::of(2);
    world.pass(120_000, |number| 11_000 + 100 * (number as i64 % 5));
    assert!(world.started() >= 18, "{}", world.started());
    assert_eq!(world.said("unable to consistently start tasks"), 0);
}

#[test]
fn the_circuit_breaker_counts_as_it_was_told_to() {
    let threshold = |kind: &str, value: i64| json!({"type": kind, "value": value});
    for (threshold, failures) in [
        (json!(null), 5),
        (threshold("COUNT", 1), 1),
        (threshold("BOUNDED_PERCENT", 10), 3),
        (threshold("UNBOUNDED_PERCENT", 20), 2),
    ] {
        let mut world = World::of(10);
        let mut breaker = json!({"enable": true, "rollback": false});
        if !threshold.is_null() {
            breaker["thresholdConfiguration"] = threshold.clone();
        }
        let key = service(0).key;
        let mut draft = Draft::new(&mut world.state, 0);
        draft.edit_service(&key, |service| {
            service.configuration.deployment_circuit_breaker = serde_json::from_value(breaker).unwrap();
        });
        reconcile_service(&mut draft, &key);
        let tasks: Vec<TaskId> = draft.state().tasks().map(|task| task.id.clone()).collect();
        for (failed, task) in tasks.iter().enumerate() {
            let rollout = draft.state().service(&key).unwrap().primary().rollout;
            assert_eq!(rollout == RolloutState::Failed, failed >= failures, "{failed} failures: {threshold}");
            report(&mut draft, task, "STOPPED");
            reconcile_service(&mut draft, &key);
        }
    }
}

#[test]
fn tasks_whose_health_check_is_none_are_healthy_once_they_have_run_for_a_while() {
    let mut world = World::of(1);
    let mut unchecked = definition();
    unchecked.content.container_definitions[0].health_check =
        serde_json::from_value(json!({"command": ["NONE"]})).unwrap();
    Draft::new(&mut world.state, 0).put(Record::Definition(Arc::new(unchecked)));
    world.pass(60_000, |_| i64::MAX);
    assert_eq!(world.state.service(&service(0).key).unwrap().primary().rollout, RolloutState::Completed);
}

#[test]
fn a_daemon_that_lacks_a_task_is_not_complete_because_its_host_is_away() {
    let mut world = World::of(0);
    let key = service(0).key;
    let mut draft = Draft::new(&mut world.state, 0);
    draft.edit_service(&key, |service| service.strategy = SchedulingStrategy::Daemon);
    reconcile_service(&mut draft, &key);
    let task = draft.state().tasks().next().unwrap().id.clone();
    report(&mut draft, &task, "STOPPED");
    for (lost, expected) in [(false, (1, RolloutState::InProgress)), (true, (0, RolloutState::Completed))] {
        draft.put(Record::Instance(Arc::new(Instance { lost, ..instance("i", false) })));
        reconcile_service(&mut draft, &key);
        let service = draft.state().service(&key).unwrap();
        assert_eq!((service.desired_count, service.primary().rollout), expected);
    }
}

#[test]
fn a_host_that_is_away_and_never_had_a_daemons_task_does_not_count() {
    let mut world = World::of(0);
    let key = service(0).key;
    let mut draft = Draft::new(&mut world.state, 0);
    draft.edit_service(&key, |service| service.strategy = SchedulingStrategy::Daemon);
    draft.put(Record::Instance(Arc::new(instance("j", true))));
    reconcile_service(&mut draft, &key);
    draft.put(Record::Instance(Arc::new(instance("away", false))));
    let draining = Instance { status: InstanceStatus::Draining, ..instance("j", true) };
    draft.put(Record::Instance(Arc::new(draining)));
    reconcile_service(&mut draft, &key);
    assert_eq!(draft.state().service(&key).unwrap().desired_count, 1);
    assert_eq!(world.said("unable to place"), 0);
}
