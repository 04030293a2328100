//! Whatever is done and taken back, the indexes and the placement agree with the records.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Draft, Key, Record, State};
use crate::fixture::instance;
use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId, ServiceName, TaskId};
use crate::model::{DesiredStatus, Errand, Instance, InstanceStatus, LastStatus, Task};

fn numbered_instance(number: u8, status: InstanceStatus, connected: bool) -> Instance {
    Instance { status, reserved_tcp: [22].into(), ..instance(&format!("i{number}"), connected) }
}

fn task(number: u8, on: u8, desired_status: DesiredStatus, last_status: LastStatus) -> Task {
    Task {
        id: TaskId::new(&format!("t{number}")),
        cluster: ClusterName::new("c"),
        definition: DefinitionKey { family: Family::new("f"), revision: 1 },
        instance: Some(InstanceId::new(&format!("i{on}"))),
        service: Some(ServiceName::new("s")),
        deployment: None,
        group: "service:s".into(),
        started_by: None,
        launch_type: "EC2".into(),
        desired_status,
        last_status,
        stop_code: None,
        stopped_reason: None,
        containers: Vec::new(),
        cpu: 10,
        memory: 20,
        cpu_limit: None,
        memory_limit: None,
        tcp_ports: vec![1000 + u16::from(number)],
        udp_ports: Vec::new(),
        task_role: None,
        execution_role: None,
        enable_execute_command: false,
        tags: Vec::new(),
        epoch: 1,
        version: 1,
        counted_healthy: false,
        created_at: 0,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        overrides: Arc::default(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    PutInstance(u8, InstanceStatus, bool),
    /// Which task, on which instance for a new one, and how far it is.
    PutTask(u8, u8, DesiredStatus, LastStatus),
    RemoveTask(u8),
    Enqueue(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        Just(InstanceStatus::Active),
        Just(InstanceStatus::Draining),
        Just(InstanceStatus::Inactive)
    ];
    let desired = prop_oneof![Just(DesiredStatus::Running), Just(DesiredStatus::Stopped)];
    let last = prop_oneof![Just(LastStatus::Pending), Just(LastStatus::Running), Just(LastStatus::Stopped)];
    prop_oneof![
        (0..3_u8, status, any::<bool>())
            .prop_map(|(number, status, on)| Step::PutInstance(number, status, on)),
        (0..6_u8, 0..3_u8, desired, last)
            .prop_map(|(number, on, desired, last)| Step::PutTask(number, on, desired, last)),
        (0..6_u8).prop_map(Step::RemoveTask),
        (0..3_u8, 0..6_u8).prop_map(|(number, task)| Step::Enqueue(number, task)),
    ]
}

fn take(draft: &mut Draft<'_>, step: &Step) {
    match step {
        Step::PutInstance(number, status, connected) => {
            draft.put(Record::Instance(Arc::new(numbered_instance(*number, *status, *connected))));
        }
        Step::PutTask(number, on, desired, last) => {
            // A task never moves: what is known stays where it is.
            let known = draft.state().task(&TaskId::new(&format!("t{number}"))).cloned();
            let mut task = task(*number, *on, *desired, *last);
            if let Some(known) = known {
                task.instance.clone_from(&known.instance);
            }
            draft.put(Record::Task(Arc::new(task)));
        }
        Step::RemoveTask(number) => draft.remove(Key::Task(TaskId::new(&format!("t{number}")))),
        Step::Enqueue(number, task) => {
            let instance = InstanceId::new(&format!("i{number}"));
            draft.enqueue(&instance, &TaskId::new(&format!("t{task}")), Errand::Start);
        }
    }
}

/// Everything that can be seen, in one text.
fn seen(state: &State) -> String {
    let mut lines: Vec<String> = state.instances().map(|one| format!("{one:?}")).collect();
    lines.extend(state.tasks().map(|one| format!("{one:?}")));
    lines.extend(state.outbox.values().map(|one| format!("{one:?}")));
    let cluster = ClusterName::new("c");
    for one in state.instances() {
        let mut live: Vec<&str> = state.live_tasks_on(&one.id).map(|task| task.id.as_str()).collect();
        live.sort_unstable();
        let remaining =
            state.placement(&cluster).and_then(|placement| placement.remaining(&one.id.as_str().into()));
        lines.push(format!("{} {live:?} {remaining:?}", one.id));
    }
    lines.sort_unstable();
    lines.join("\n")
}

/// Indexes and placement, reckoned anew from the records.
fn check(state: &State) {
    let cluster = ClusterName::new("c");
    for instance in state.instances() {
        let on_it = || state.tasks().filter(|task| task.instance.as_ref() == Some(&instance.id));
        let live = on_it().filter(|task| !task.is_stopped()).count();
        assert_eq!(state.live_tasks_on(&instance.id).count(), live);
        let remaining =
            state.placement(&cluster).and_then(|placement| placement.remaining(&instance.id.as_str().into()));
        if instance.status == InstanceStatus::Inactive {
            assert!(remaining.is_none());
            continue;
        }
        let remaining = remaining.unwrap();
        let holding = on_it().filter(|task| task.holds_resources()).count();
        let taken = i64::try_from(holding).unwrap();
        assert_eq!(
            (remaining.cpu, remaining.memory),
            (1000 - 10 * taken, 1000 - 20 * taken),
            "{}",
            instance.id
        );
        assert_eq!(remaining.ports.tcp.len(), 1 + holding);
    }
}

proptest! {
    #[test]
    fn undoing_restores_everything_and_indexes_agree(
        before in proptest::collection::vec(step(), 0..20),
        after in proptest::collection::vec(step(), 0..20),
    ) {
        let mut state = State::default();
        let mut draft = Draft::new(&mut state, 5);
        for step in &before {
            take(&mut draft, step);
        }
        let (mark, text) = (draft.mark(), seen(draft.state()));
        check(draft.state());
        for step in &after {
            take(&mut draft, step);
        }
        check(draft.state());
        draft.roll_back(mark);
        prop_assert_eq!(seen(draft.state()), text.clone());
        check(draft.state());
        drop(draft);
        prop_assert_eq!(seen(&state.copy()), text);
    }
}
