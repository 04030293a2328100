//! Deployments: from the first to the failed and the stuck ones.

use super::*;
use crate::cluster::{Cluster, Instance, InstanceStatus, PlacedTask};
use crate::placement::{PlacementRequest, place};
use crate::resources::{Demand, Ports, Registered};

const COMPLETED: &str = "(service web) deployment completed.";
const STEADY: &str = "(service web) has reached a steady state.";

#[test]
fn a_new_service_comes_up_and_says_so_once() {
    let mut world = World::new(3);
    assert_eq!(world.plan().actions, [Action::Start { deployment: "ecs-svc/1".into(), count: 3 }]);
    world.settle();
    assert_eq!(world.events, [COMPLETED, STEADY]);
    assert_eq!(world.deployments(), [("ecs-svc/1", RolloutState::Completed)]);
    world.pass(100_000);
    let plan = world.step();
    assert!(plan.actions.is_empty() && plan.events.is_empty() && plan.wake_at_ms.is_none());
}

#[test]
fn a_rollout_starts_new_tasks_before_it_stops_old_ones() {
    let mut world = World::settled(2);
    world.deploy("ecs-svc/2", Fate::Runs);
    assert_eq!(world.plan().actions, [Action::Start { deployment: "ecs-svc/2".into(), count: 2 }]);
    world.settle();
    assert_eq!(world.deployments(), [("ecs-svc/2", RolloutState::Completed)]);
    assert_eq!((world.running("ecs-svc/1"), world.running("ecs-svc/2")), (0, 2));
    assert_eq!(world.events, [COMPLETED, STEADY]);
}

#[test]
fn without_room_beside_them_old_tasks_go_first_down_to_the_lower_bound() {
    let mut world = World::settled(4).with_bounds(50, 100);
    world.deploy("ecs-svc/2", Fate::Runs);
    let stops = world.step().actions;
    assert_eq!(stops.len(), 2);
    let reason = StopReason::Scaling("ecs-svc/2".into());
    assert!(stops.iter().all(|stop| matches!(stop, Action::Stop { reason: why, .. } if *why == reason)));
    assert_eq!(reason.stopped_reason(), "Scaling activity initiated by (deployment ecs-svc/2)");
    assert_eq!(world.step().actions, [Action::Start { deployment: "ecs-svc/2".into(), count: 2 }]);
    assert!(world.step().actions.is_empty(), "the next ones wait until the first are healthy");
    world.settle();
    assert_eq!(world.running("ecs-svc/2"), 4);
}

#[test]
fn a_minimum_of_zero_lets_a_single_task_be_swapped_in_place() {
    let mut world = World::settled(1).with_bounds(0, 100);
    world.deploy("ecs-svc/2", Fate::Runs);
    world.settle();
    assert_eq!(world.running("ecs-svc/2"), 1);
}

#[test]
fn bounds_that_leave_no_step_are_reported_once() {
    let mut world = World::settled(3).with_bounds(100, 125);
    world.deploy("ecs-svc/2", Fate::Runs);
    for _ in 0..5 {
        assert!(world.step().actions.is_empty());
    }
    assert_eq!(world.events.len(), 1);
    assert!(world.events[0].starts_with(
        "(service web) was unable to stop or start tasks during a deployment because of the service deployment \
         configuration."
    ));
    world.service.minimum_healthy_percent = 50;
    world.settle();
    assert_eq!(world.running("ecs-svc/2"), 3);
}

#[test]
fn the_circuit_breaker_rolls_back_to_the_last_completed_deployment() {
    let mut world = World::settled(2);
    world.service.circuit_breaker =
        CircuitBreaker { enable: true, rollback: true, ..CircuitBreaker::default() };
    world.deploy("ecs-svc/2", Fate::NeverRuns);
    let mut failed = None;
    for _ in 0..600 {
        let plan = world.step();
        assert!(world.running("ecs-svc/1") >= 2);
        failed =
            failed.or_else(|| plan.actions.into_iter().find(|action| matches!(action, Action::Fail { .. })));
    }
    let reason = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".to_owned();
    assert_eq!(failed, Some(Action::Fail { deployment: "ecs-svc/2".into(), reason }));
    assert_eq!(world.deployments(), [("ecs-svc/1", RolloutState::Completed)]);
    assert!(world.events.contains(
        &"(service web) (deployment ecs-svc/2) deployment failed: tasks failed to start.".to_owned()
    ));
    assert_eq!(world.events.last().unwrap(), STEADY);
}

#[test]
fn failures_that_are_not_forgotten_hold_up_nothing_once_tasks_are_healthy() {
    let mut world = World::settled(4).with_bounds(50, 100);
    world.service.circuit_breaker =
        CircuitBreaker { enable: true, reset_on_healthy_task: false, ..CircuitBreaker::default() };
    world.deploy("ecs-svc/2", Fate::Runs);
    (0..3).for_each(|_| drop(world.step()));
    let now_ms = world.now_ms;
    world.service.deployments[0].task_ended(TaskEnd::Unhealthy, now_ms);
    world.settle();
    assert_eq!(world.deployments(), [("ecs-svc/2", RolloutState::Completed)]);
    assert_eq!((world.running("ecs-svc/2"), world.service.deployments[0].failed_tasks), (4, 1));
}

#[test]
fn without_rollback_a_failed_deployment_starts_nothing_more() {
    let mut world = World::settled(2);
    world.service.circuit_breaker = CircuitBreaker { enable: true, ..CircuitBreaker::default() };
    world.deploy("ecs-svc/2", Fate::NeverRuns);
    (0..600).for_each(|_| drop(world.step()));
    assert_eq!(world.service.deployments[0].rollout, RolloutState::Failed);
    let started = world.next_task;
    (0..2_000).for_each(|_| drop(world.step()));
    assert_eq!((world.next_task, world.running("ecs-svc/1")), (started, 2));

    // What runs of the old revision is kept up all the same, and a smaller count is obeyed.
    world.service.tasks.remove(0);
    (0..100).for_each(|_| drop(world.step()));
    assert_eq!(world.running("ecs-svc/1"), 2);
    world.service.desired_count = 0;
    (0..100).for_each(|_| drop(world.step()));
    assert!(world.service.tasks.is_empty());
}

#[test]
fn a_draining_instance_empties_itself_behind_a_failed_deployment() {
    let mut world = World::settled(2);
    world.service.circuit_breaker = CircuitBreaker { enable: true, ..CircuitBreaker::default() };
    world.deploy("ecs-svc/2", Fate::NeverRuns);
    (0..600).for_each(|_| drop(world.step()));
    world.service.tasks[0].draining = true;
    (0..100).for_each(|_| drop(world.step()));
    assert_eq!(world.running("ecs-svc/1"), 2);
    assert!(!world.service.tasks.iter().any(|task| task.draining));
}

#[test]
fn tasks_that_never_run_are_tried_further_and_further_apart_and_old_ones_stay() {
    let mut world = World::settled(1);
    world.deploy("ecs-svc/2", Fate::NeverRuns);
    let mut attempts = Vec::new();
    for _ in 0..7_200 {
        let plan = world.step();
        if plan.actions.iter().any(|action| matches!(action, Action::Start { .. })) {
            attempts.push(world.now_ms);
        } else {
            assert!(plan.wake_at_ms.is_some_and(|at| at > world.now_ms - 1_000), "nobody would try again");
        }
        assert_eq!(world.running("ecs-svc/1"), 1);
    }
    let waits: Vec<i64> = attempts.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
    assert!(waits.is_sorted() && waits[0] < 10 && *waits.last().unwrap() >= 900, "{waits:?}");
    assert_eq!(world.events, ["(service web) is unable to consistently start tasks successfully."]);
}

#[test]
fn an_old_task_lost_while_its_successor_fails_is_replaced_by_its_own_revision() {
    let mut world = World::settled(2);
    world.deploy("ecs-svc/2", Fate::NeverRuns);
    (0..60).for_each(|_| drop(world.step()));
    world.service.tasks.retain(|task| task.id.as_str() != "task-0001");
    (0..60).for_each(|_| drop(world.step()));
    assert_eq!(world.running("ecs-svc/1"), 2);
}

#[test]
fn unhealthy_tasks_are_replaced_beside_and_fail_the_deployment() {
    let mut world = World::settled(2);
    world.checked = true;
    world.service.circuit_breaker =
        CircuitBreaker { enable: true, rollback: true, ..CircuitBreaker::default() };
    world.deploy("ecs-svc/2", Fate::Sickens);
    (0..600).for_each(|_| drop(world.step()));
    assert_eq!(world.deployments(), [("ecs-svc/1", RolloutState::Completed)]);
    assert_eq!((world.running("ecs-svc/1"), world.running("ecs-svc/2")), (2, 0));
}

#[test]
fn a_static_port_on_one_host_is_told_with_its_fix() {
    let mut world = World::settled(1);
    world.deploy("ecs-svc/2", Fate::Runs);
    let instance = Instance {
        id: "i1".into(),
        ec2_instance_id: String::new(),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: String::new(),
        registered_at_ms: 0,
        registered: Registered { cpu: 1024, memory: 1024, ..Registered::default() },
        attributes: [].into(),
        listens: false,
    };
    let demand = Demand { cpu: 1, memory: 1, gpus: 0, ports: Ports { tcp: [8080].into(), udp: [].into() } };
    let mut cluster = Cluster::new();
    cluster.put_instance(instance);
    let old = PlacedTask {
        id: "task-0001".into(),
        instance: "i1".into(),
        group: "service:web".into(),
        demand: demand.clone(),
        running: true,
    };
    cluster.add_task(old);
    let request = PlacementRequest {
        group: "service:web".into(),
        count: 1,
        demand,
        wants_listened_port: false,
        required_attributes: Vec::new(),
        constraints: Vec::new(),
        strategies: Strategy::service_defaults(),
        seed: 0,
    };
    let placement = place(&mut cluster, &request);
    assert_eq!(
        unplaced_event(&world.service, &request, &placement).to_string(),
        "(service web) was unable to place a task because no container instance met all of its requirements. The \
         closest matching (container-instance i1) is already using a port required by your task. The service's own \
         tasks hold host port 8080 on every instance that would fit, and minimumHealthyPercent 100 does not allow \
         to stop one first. Set minimumHealthyPercent to 0, or use a dynamic host port (hostPort 0), or add an \
         instance."
    );

    // The fix helps: the old task goes, the new one takes its place.
    world.places = 1;
    (0..100).for_each(|_| drop(world.step()));
    assert_eq!(world.running("ecs-svc/1"), 1);
    world.service.minimum_healthy_percent = 0;
    world.settle();
    assert_eq!(world.running("ecs-svc/2"), 1);
}

#[test]
fn a_cluster_without_instances_is_named() {
    let world = World::new(1);
    let request = PlacementRequest {
        group: "service:web".into(),
        count: 1,
        demand: Demand::default(),
        wants_listened_port: false,
        required_attributes: Vec::new(),
        constraints: Vec::new(),
        strategies: Vec::new(),
        seed: 0,
    };
    let placement = place(&mut Cluster::new(), &request);
    assert_eq!(
        unplaced_event(&world.service, &request, &placement).to_string(),
        "(service web) was unable to place a task because no container instance met all of its requirements. \
         Reason: No Container Instances were found in your cluster."
    );
}
