use std::sync::Arc;
use std::time::Duration;

use registry_runtime::Clock;

use super::check_leases;
use crate::agents::Liveness;
use crate::fixture::{instance, launch};
use crate::ids::{InstanceId, TaskId};
use crate::model::{Attribute, Errand, Instance, LastStatus};
use crate::state::{Draft, Record, State};

const LEASE: Duration = Duration::from_secs(30);

struct Cluster {
    state: State,
    clock: Clock,
    liveness: Liveness,
}

impl Cluster {
    /// So many instances of Berth's own agent, none of which has been heard.
    fn of(count: usize) -> Self {
        let mut state = State::default();
        let mut draft = Draft::new(&mut state, 0);
        for number in 0..count {
            let attributes = vec![Attribute { name: "berth.agent".into(), value: None }];
            draft.put(Record::Instance(Arc::new(Instance {
                attributes,
                ..instance(&format!("i{number}"), true)
            })));
        }
        let clock = Clock::manual(0);
        Self { state, liveness: Liveness::new(clock.clone()), clock }
    }

    fn hear(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.liveness.touch(&InstanceId::new(&format!("i{number}")));
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        let mut draft = Draft::new(&mut self.state, self.clock.now_ms());
        check_leases(&mut draft, &self.liveness, LEASE);
    }

    fn lost(&self) -> usize {
        self.state.instances().filter(|instance| instance.lost).count()
    }
}

#[test]
fn after_a_start_nobody_is_lost_before_a_lease_has_passed() {
    let mut cluster = Cluster::of(2);
    cluster.pass(30);
    assert_eq!(cluster.lost(), 0);
    cluster.pass(1);
    assert_eq!(cluster.lost(), 2);
}

#[test]
fn an_agent_that_pauses_for_longer_than_a_lease_is_waited_for_after_a_start() {
    let mut cluster = Cluster::of(0);
    let mut draft = Draft::new(&mut cluster.state, 0);
    draft.put(Record::Instance(Arc::new(instance("amazons", false))));
    cluster.pass(150);
    assert_eq!(cluster.lost(), 0);
    cluster.pass(1);
    assert_eq!(cluster.lost(), 1);
}

#[test]
fn most_of_a_cluster_at_once_is_held_back_and_half_of_it_is_not() {
    for (silent, total, lost) in [(1, 1, 1), (2, 2, 2), (2, 3, 2), (3, 5, 0), (3, 6, 3), (4, 6, 0), (4, 4, 0)]
    {
        let mut cluster = Cluster::of(total);
        cluster.hear(0..total);
        cluster.pass(20);
        cluster.hear(silent..total);
        cluster.pass(11);
        assert_eq!(cluster.lost(), lost, "{silent} of {total}");
    }
}

#[test]
fn a_lost_instances_tasks_are_over_and_wait_to_be_stopped() {
    let mut cluster = Cluster::of(1);
    let task: TaskId = {
        let mut draft = Draft::new(&mut cluster.state, 0);
        launch().start(&mut draft, &InstanceId::new("i0")).id.clone()
    };
    cluster.pass(31);
    let given_up = cluster.state.task(&task).unwrap();
    assert_eq!((given_up.last_status, given_up.epoch), (LastStatus::Stopped, 2));
    let errands: Vec<Errand> =
        cluster.state.outbox(&InstanceId::new("i0")).map(|entry| entry.errand).collect();
    assert_eq!(errands, [Errand::Stop]);
}
