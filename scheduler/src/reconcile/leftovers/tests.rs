use std::collections::HashMap;
use std::sync::Arc;

use super::{KEEP_INACTIVE_MS, KEEP_TOKENS_MS, REPEAT_STOP_MS, forget, repeat_stops};
use crate::fixture::{instance, launch};
use crate::ids::{InstanceId, TaskId};
use crate::model::{ClientToken, Errand, Instance, InstanceStatus, StopCode, Task};
use crate::reconcile::stop_task;
use crate::state::{Draft, Key, Record, State};

const HOUR_MS: i64 = 3600 * 1000;

/// A state with one instance, and a task that was told to stop at time 0 and has the word from the outbox.
fn told_to_stop() -> (State, TaskId) {
    let mut state = State::default();
    let mut draft = Draft::new(&mut state, 0);
    draft.put(Record::Instance(Arc::new(instance("i", true))));
    let task: Arc<Task> = launch().start(&mut draft, &InstanceId::new("i"));
    stop_task(&mut draft, &task.id, StopCode::UserInitiated, "enough");
    let delivered: Vec<i64> =
        draft.state().outbox(&InstanceId::new("i")).map(|entry| entry.sequence).collect();
    assert_eq!(delivered.len(), 2);
    for sequence in delivered {
        draft.remove(Key::Outbox(InstanceId::new("i"), sequence));
    }
    (state, task.id.clone())
}

#[test]
fn a_stop_that_was_not_obeyed_is_repeated_once_in_a_while() {
    let (mut state, task) = told_to_stop();
    let mut told = HashMap::new();
    for (now_ms, errands) in
        [(REPEAT_STOP_MS, 0), (REPEAT_STOP_MS + 1, 1), (REPEAT_STOP_MS + 2, 1), (3 * REPEAT_STOP_MS, 1)]
    {
        let mut draft = Draft::new(&mut state, now_ms);
        repeat_stops(&mut draft, &mut told);
        let waiting: Vec<_> = draft.state().outbox(&InstanceId::new("i")).cloned().collect();
        assert_eq!(waiting.len(), errands, "at {now_ms}");
        assert!(waiting.iter().all(|entry| entry.errand == Errand::Stop && entry.task == task));
    }
}

#[test]
fn what_is_over_is_forgotten_in_its_time() {
    let mut state = State::default();
    let mut draft = Draft::new(&mut state, 0);
    let task = launch().fail(&mut draft, "no image");
    draft.put(Record::Token(Arc::new(ClientToken {
        key: "k".into(),
        fingerprint: String::new(),
        tasks: Vec::new(),
        created_at: 0,
    })));
    draft.put(Record::Instance(Arc::new(Instance {
        status: InstanceStatus::Inactive,
        deregistered_at: Some(0),
        ..instance("i", false)
    })));
    draft.enqueue(&InstanceId::new("i"), &task.id, Errand::Stop);
    for (now_ms, tasks, tokens, instances) in
        [(HOUR_MS, 1, 1, 1), (KEEP_TOKENS_MS + 1, 1, 0, 0), (3 * KEEP_INACTIVE_MS + 1, 0, 0, 0)]
    {
        let mut draft = Draft::new(&mut state, now_ms);
        forget(&mut draft, 3 * KEEP_INACTIVE_MS);
        let state = draft.state();
        let counted = (state.tasks().count(), state.tokens().count(), state.instances().count());
        assert_eq!(counted, (tasks, tokens, instances), "at {now_ms}");
        assert_eq!(state.outbox(&InstanceId::new("i")).count(), instances);
    }
}
