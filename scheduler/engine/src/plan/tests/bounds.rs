//! Whatever happens to a service, its bounds hold, and it comes to rest once the world does.

use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof};

use super::*;

/// Something that happens to a service.
#[derive(Debug, Clone)]
enum Happening {
    Nothing,
    Scale(u32),
    Deploy(bool),
    Lose(usize),
    Drain(usize),
    Sicken(usize),
    Places(usize),
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    use proptest::strategy::Strategy as _;
    prop_oneof![
        4 => Just(Happening::Nothing),
        1 => (0..12_u32).prop_map(Happening::Scale),
        2 => any::<bool>().prop_map(Happening::Deploy),
        1 => any::<usize>().prop_map(Happening::Lose),
        1 => any::<usize>().prop_map(Happening::Drain),
        1 => any::<usize>().prop_map(Happening::Sicken),
        1 => (0..20_usize).prop_map(Happening::Places),
    ]
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_service_keeps_its_bounds_and_comes_to_rest(
        desired in 0..12_u32,
        minimum in 0..=100_u32,
        maximum in 100..=300_u32,
        breaker in any::<(bool, bool)>(),
        checked in any::<bool>(),
        happenings in prop::collection::vec((happening(), 1..90_u32), 0..25),
    ) {
        let mut world = World::new(desired).with_bounds(minimum, maximum);
        world.checked = checked;
        world.service.circuit_breaker = CircuitBreaker { enable: breaker.0, rollback: breaker.1, ..CircuitBreaker::default() };
        let mut deployed = 1;
        for (happening, steps) in happenings {
            let tasks = world.service.tasks.len().max(1);
            match happening {
                Happening::Nothing => {}
                Happening::Scale(count) => world.service.desired_count = count,
                Happening::Deploy(good) => {
                    deployed += 1;
                    world.deploy(&format!("ecs-svc/{deployed}"), if good { Fate::Runs } else { Fate::NeverRuns });
                }
                Happening::Lose(index) => drop((!world.service.tasks.is_empty()).then(|| world.service.tasks.remove(index % tasks))),
                Happening::Drain(index) => {
                    if let Some(task) = world.service.tasks.get_mut(index % tasks) {
                        task.draining = true;
                    }
                }
                Happening::Sicken(index) => {
                    if let Some(task) = world.service.tasks.get_mut(index % tasks) {
                        task.health = Health::Unhealthy;
                    }
                }
                Happening::Places(places) => world.places = places,
            }
            // Every step checks the bounds.
            (0..steps).for_each(|_| drop(world.step()));
        }

        // Left alone, with room for all, nothing is stopped for ever and again, whatever the last revision does.
        world.places = usize::MAX;
        (0..1_500).for_each(|_| drop(world.step()));
        for _ in 0..100 {
            let plan = world.step();
            prop_assert!(!plan.actions.iter().any(|action| matches!(action, Action::Stop { .. })), "{:?}", plan);
        }

        // With a good last revision and bounds that allow a step it comes to rest.
        world.service.minimum_healthy_percent = minimum.min(99);
        world.service.maximum_percent = maximum.max(200);
        deployed += 1;
        let last = format!("ecs-svc/{deployed}");
        world.deploy(&last, Fate::Runs);
        world.settle();
        prop_assert_eq!(world.deployments(), [(last.as_str(), RolloutState::Completed)]);
        prop_assert_eq!(world.running(&last) as u32, world.service.desired_count);
        prop_assert!(world.service.reported.steady);
        let planned = world.plan();
        prop_assert!(planned.actions.is_empty() && planned.events.is_empty());
    }
}
