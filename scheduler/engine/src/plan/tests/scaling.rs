//! Changes of the desired count, draining, deleting.

use super::*;

fn zones(world: &World) -> (usize, usize) {
    let of = |zone| world.service.tasks.iter().filter(|task| task.zone == zone).count();
    (of("a"), of("b"))
}

#[test]
fn scaling_out_and_in_ends_with_the_desired_count_and_balanced_zones() {
    let mut world = World::settled(2);
    world.service.desired_count = 9;
    world.settle();
    assert_eq!(world.running("ecs-svc/1"), 9);
    world.service.desired_count = 4;
    world.settle();
    assert_eq!(zones(&world), (2, 2));
    assert_eq!(world.events.last().unwrap(), "(service web) has reached a steady state.");
}

#[test]
fn tasks_that_do_not_run_yet_go_first() {
    let mut world = World::settled(2);
    world.service.desired_count = 4;
    let plan = world.plan();
    world.act(&plan);
    world.service.desired_count = 2;
    let stopped: Vec<_> = world.plan().actions;
    assert_eq!(stopped.len(), 2);
    for action in stopped {
        let Action::Stop { task, .. } = action else { panic!("only stops: {action:?}") };
        assert!(
            world.service.tasks.iter().any(|known| known.id == task && known.phase == TaskPhase::Pending)
        );
    }
}

#[test]
fn packed_services_empty_the_instance_with_the_fewest_tasks() {
    let mut world = World::settled(5);
    world.service.strategies = vec![Strategy::parse("binpack", Some("cpu")).unwrap()];
    for (task, instance) in world.service.tasks.iter_mut().zip(["full", "full", "full", "full", "empty"]) {
        task.instance = Some(instance.into());
    }
    world.service.desired_count = 4;
    world.settle();
    assert!(world.service.tasks.iter().all(|task| task.instance.as_ref().unwrap().as_str() == "full"));
}

#[test]
fn protected_tasks_stay_and_the_service_says_why() {
    let mut world = World::settled(3);
    world.service.tasks.iter_mut().for_each(|task| task.protected = true);
    world.service.tasks[1].protected = false;
    world.service.desired_count = 1;
    (0..5).for_each(|_| drop(world.step()));
    assert_eq!(world.running("ecs-svc/1"), 2);
    assert_eq!(world.events.len(), 1, "{:?}", world.events);
    assert!(
        world.events[0].ends_with("The number of protected tasks are more than the desired count of tasks.")
    );
}

#[test]
fn a_draining_instance_empties_itself_within_the_bounds() {
    let mut world = World::settled(4);
    for task in &mut world.service.tasks {
        task.draining = task.instance == Some("i1".into());
    }
    let drained = world.service.tasks.iter().filter(|task| task.draining).count();
    assert!(drained > 0);
    assert_eq!(
        world.plan().actions,
        [Action::Start { deployment: "ecs-svc/1".into(), count: drained as u32 }]
    );
    world.settle();
    assert_eq!(world.running("ecs-svc/1"), 4);
    assert!(!world.service.tasks.iter().any(|task| task.draining));
}

#[test]
fn a_misplaced_task_goes_at_once_and_no_other_in_its_stead() {
    let mut world = World::settled(2).with_bounds(0, 100);
    // One instance is left that suits the service; the newer task runs there, and is not healthy yet.
    world.service.desired_count = 1;
    world.service.tasks[0].misplaced = true;
    world.service.tasks[1].phase = TaskPhase::Running { since_ms: world.now_ms };
    let plan = world.step();
    let reason = StopReason::Scaling("ecs-svc/1".into());
    assert_eq!(plan.actions, [Action::Stop { task: "task-0001".into(), reason }]);
    assert!(plan.events.is_empty(), "{plan:?}");
    world.settle();
    assert_eq!(world.service.tasks.len(), 1);
    assert_eq!(world.service.tasks[0].id.as_str(), "task-0002");
}

#[test]
fn pending_tasks_on_a_draining_instance_stop_at_once() {
    let mut world = World::new(1);
    let plan = world.plan();
    world.act(&plan);
    world.service.tasks[0].draining = true;
    let plan = world.plan();
    assert!(plan.actions.iter().any(|action| matches!(action, Action::Stop { .. })), "{plan:?}");
    assert!(plan.actions.contains(&Action::Start { deployment: "ecs-svc/1".into(), count: 1 }));
}

#[test]
fn a_lost_task_is_replaced_at_once_however_often_it_ran_and_ended() {
    let mut world = World::settled(2);
    for _ in 0..20 {
        world.service.tasks.remove(0);
        world.service.deployments[0].task_ended(TaskEnd::Other, world.now_ms);
        assert_eq!(world.plan().actions, [Action::Start { deployment: "ecs-svc/1".into(), count: 1 }]);
        world.step();
        world.step();
    }
    world.settle();
    assert_eq!(world.running("ecs-svc/1"), 2);
}

#[test]
fn an_unhealthy_task_without_room_beside_it_is_replaced_in_place() {
    let mut world = World::settled(1).with_bounds(0, 100);
    world.service.tasks[0].health = Health::Unhealthy;
    let plan = world.step();
    let id = "task-0001".into();
    assert_eq!(plan.actions, [Action::Stop { task: id, reason: StopReason::Unhealthy }]);
    assert_eq!(StopReason::Unhealthy.stopped_reason(), "Task failed container health checks");
    world.settle();
    assert_eq!(world.running("ecs-svc/1"), 1);
}

#[test]
fn the_grace_holds_failing_checks_back() {
    let mut world = World::settled(1);
    let since_ms = world.now_ms;
    world.service.tasks[0].phase = TaskPhase::Running { since_ms };
    world.service.tasks[0].health = Health::Unhealthy;
    world.service.health_check_grace_ms = 60_000;
    let plan = world.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.wake_at_ms, Some(since_ms + 60_000));
    world.now_ms = since_ms + 60_000;
    assert!(!world.plan().actions.is_empty());
}

#[test]
fn a_deleted_service_stops_everything_and_ends() {
    let mut world = World::settled(3);
    world.service.deleting = true;
    assert_eq!(world.step().actions.len(), 3);
    assert_eq!(world.step().actions, [Action::Deactivate]);
}

#[test]
fn a_missing_place_is_looked_for_again() {
    let mut world = World::new(3);
    world.places = 1;
    world.step();
    assert_eq!(world.running("ecs-svc/1"), 1);
    let waiting = world.plan();
    assert!(waiting.actions.is_empty() && waiting.wake_at_ms.is_some());
    world.places = 3;
    world.settle();
    assert_eq!(world.running("ecs-svc/1"), 3);
}
