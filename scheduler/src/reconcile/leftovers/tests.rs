use std::collections::HashMap;
use std::sync::Arc;

use super::{KEEP_INACTIVE_MS, KEEP_TOKENS_MS, REPEAT_STOP_MS, forget, repeat_stops};
use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId, TaskId};
use crate::launch::Launch;
use crate::model::{
    ClientToken, DefinitionStatus, Errand, Instance, InstanceStatus, PortSet, StopCode, Task, TaskDefinition,
};
use crate::reconcile::stop_task;
use crate::state::{Draft, Key, Record, State};

const HOUR_MS: i64 = 3600 * 1000;

fn instance(connected: bool) -> Instance {
    Instance {
        id: InstanceId::new("i"),
        cluster: ClusterName::new("c"),
        status: InstanceStatus::Active,
        principal: "p".into(),
        host: None,
        cpu: 1000,
        memory: 1000,
        reserved_tcp: PortSet::new(),
        reserved_udp: PortSet::new(),
        gpus: Vec::new(),
        attributes: Vec::new(),
        custom_attributes: Vec::new(),
        zone: None,
        agent_version: None,
        agent_hash: None,
        docker_version: None,
        registered_at: 0,
        deregistered_at: None,
        client_token: None,
        tags: Vec::new(),
        version: 1,
        connected,
        connectivity_at: None,
        lost: false,
    }
}

fn launch() -> Launch {
    let content = serde_json::json!({"containerDefinitions": [{"name": "main", "image": "x", "memory": 16}]});
    let definition = Arc::new(TaskDefinition {
        key: DefinitionKey { family: Family::new("f"), revision: 1 },
        status: DefinitionStatus::Active,
        content: serde_json::from_value(content).unwrap(),
        requires_attributes: Vec::new(),
        registered_at: 0,
        deregistered_at: None,
        registered_by: String::new(),
        tags: Vec::new(),
    });
    Launch::new(
        &ClusterName::new("c"),
        definition,
        Default::default(),
        vec![crate::model::ImagePin::Foreign],
        None,
    )
}

/// A state with one instance, and a task that was told to stop at time 0 and has the word from the outbox.
fn told_to_stop() -> (State, TaskId) {
    let mut state = State::default();
    let mut draft = Draft::new(&mut state, 0);
    draft.put(Record::Instance(Arc::new(instance(true))));
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
        ..instance(false)
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
