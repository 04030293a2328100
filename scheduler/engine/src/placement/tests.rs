//! Placements on small clusters, and properties of placements on random ones.

use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof};

use super::*;
use crate::cluster::{Instance, InstanceStatus, PlacedTask};
use crate::resources::{MAX_PORTS, Ports, Registered};

fn instance(id: &str, zone: &str, cpu: u32, memory: u32) -> Instance {
    Instance {
        id: id.into(),
        ec2_instance_id: String::new(),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1.0.0".to_owned(),
        registered_at_ms: 0,
        registered: Registered { cpu, memory, gpus: 0, reserved: tcp(&[22]) },
        attributes: [(ZONE_ATTRIBUTE.to_owned(), Some(zone.to_owned()))].into(),
        listens: false,
    }
}

fn tcp(ports: &[u16]) -> Ports {
    Ports { tcp: ports.iter().copied().collect(), ..Ports::default() }
}

fn request(cpu: u32, memory: u32) -> PlacementRequest {
    PlacementRequest {
        group: "family:web".into(),
        count: 1,
        demand: Demand { cpu, memory, ..Demand::default() },
        wants_listened_port: false,
        required_attributes: Vec::new(),
        constraints: Vec::new(),
        strategies: Vec::new(),
        seed: 1,
    }
}

fn cluster(instances: Vec<Instance>) -> Cluster {
    let mut cluster = Cluster::new();
    instances.into_iter().for_each(|instance| cluster.put_instance(instance));
    cluster
}

/// Places and keeps the tasks; where they went.
fn place_and_keep(cluster: &mut Cluster, request: &PlacementRequest, prefix: &str) -> Vec<String> {
    let placement = place(cluster, request);
    for (index, instance) in placement.placed.iter().enumerate() {
        assert!(cluster.add_task(PlacedTask {
            id: format!("{prefix}-{index}").into(),
            instance: instance.clone(),
            group: request.group.clone(),
            demand: request.demand.clone(),
            running: true,
        }));
    }
    placement.placed.iter().map(ToString::to_string).collect()
}

#[test]
fn a_port_on_which_agents_listen_is_had_only_where_none_listens() {
    let mut listening = instance("listens", "a", 1024, 1024);
    listening.listens = true;
    let mut cluster = cluster(vec![listening, instance("plain", "a", 1024, 1024)]);
    let demand = Demand { ports: tcp(&[8080]), ..Demand::default() };
    let request = PlacementRequest { count: 2, demand, wants_listened_port: true, ..request(1, 1) };
    let placement = place(&mut cluster, &request);
    assert_eq!((placement.placed, placement.unplaced), (vec!["plain".into()], 1));
    assert!(placement.refusals.iter().all(|refusal| refusal.reason == Reason::Ports));
    let other = PlacementRequest { count: 2, wants_listened_port: false, ..request };
    assert_eq!(place(&mut cluster, &other).unplaced, 0);
}

#[test]
fn every_refusal_names_its_reason() {
    let expression = |text: &str| Constraint::MemberOf(Expression::parse(text).unwrap());
    let gpu = RequiredAttribute { name: "gpu".to_owned(), value: None };
    let base = request(100, 100);
    for (change, request, reason) in [
        ((InstanceStatus::Draining, true), base.clone(), "INACTIVE"),
        ((InstanceStatus::Active, false), base.clone(), "AGENT"),
        ((InstanceStatus::Active, true), request(2000, 100), "RESOURCE:CPU"),
        ((InstanceStatus::Active, true), request(100, 2000), "RESOURCE:MEMORY"),
        (
            (InstanceStatus::Active, true),
            PlacementRequest { demand: Demand { ports: tcp(&[22]), ..Demand::default() }, ..base.clone() },
            "RESOURCE:PORTS",
        ),
        (
            (InstanceStatus::Active, true),
            PlacementRequest {
                demand: Demand { ports: tcp(&(1000..=1099).collect::<Vec<u16>>()), ..Demand::default() },
                ..base.clone()
            },
            "RESOURCE:PORTS",
        ),
        (
            (InstanceStatus::Active, true),
            PlacementRequest { required_attributes: vec![gpu], ..base.clone() },
            "ATTRIBUTE",
        ),
        (
            (InstanceStatus::Active, true),
            PlacementRequest { constraints: vec![expression("attribute:a exists")], ..base.clone() },
            "MemberOf placement constraint unsatisfied.",
        ),
    ] {
        let (status, agent_connected) = change;
        let mut cluster =
            cluster(vec![Instance { status, agent_connected, ..instance("i", "a", 1024, 1024) }]);
        let placement = place(&mut cluster, &request);
        assert_eq!((placement.placed.len(), placement.unplaced), (0, 1));
        assert_eq!(placement.closest().unwrap().reason.as_str(), reason);
        assert_eq!(fits(&cluster, &request, &"i".into()).unwrap_err().as_str(), reason);
    }
    assert_eq!(fits(&Cluster::new(), &base, &"x".into()), Err(Reason::Missing));
    assert_eq!(place(&mut Cluster::new(), &base).closest(), None);
}

#[test]
fn what_suits_a_request_does_not_depend_on_what_is_free_or_connected() {
    let full = Instance { agent_connected: false, ..instance("i", "a", 10, 10) };
    let distinct = PlacementRequest {
        constraints: vec![
            Constraint::DistinctInstance,
            Constraint::MemberOf(Expression::parse("attribute:ecs.availability-zone == a").unwrap()),
        ],
        ..request(100, 100)
    };
    let mut cluster = cluster(vec![full.clone()]);
    assert!(suits(&cluster, &distinct, &"i".into()));
    assert!(!suits(&cluster, &distinct, &"x".into()));
    for other in [
        Instance { status: InstanceStatus::Draining, ..full.clone() },
        Instance { attributes: [(ZONE_ATTRIBUTE.to_owned(), Some("b".to_owned()))].into(), ..full },
    ] {
        cluster.put_instance(other);
        assert!(!suits(&cluster, &distinct, &"i".into()));
    }
}

#[test]
fn gpus_are_counted_like_everything_else() {
    let mut with_gpus = instance("gpus", "a", 1024, 1024);
    with_gpus.registered.gpus = 3;
    let mut cluster = cluster(vec![with_gpus, instance("none", "a", 1024, 1024)]);
    let demand = Demand { gpus: 2, ..Demand::default() };
    let request = PlacementRequest { count: 2, demand, ..request(0, 0) };
    let placement = place(&mut cluster, &request);
    assert_eq!((placement.placed, placement.unplaced), (vec!["gpus".into()], 1));
    assert_eq!(placement.refusals.len(), 2);
    assert!(placement.refusals.iter().all(|refusal| refusal.reason.as_str() == "RESOURCE:GPU"));
    assert!(suits(&cluster, &request, &"gpus".into()) && !suits(&cluster, &request, &"none".into()));
    place_and_keep(&mut cluster, &PlacementRequest { count: 1, ..request.clone() }, "t");
    assert_eq!(cluster.remaining(&"gpus".into()).unwrap().gpus, 1);
    assert_eq!(fits(&cluster, &request, &"gpus".into()), Err(Reason::Gpus));
    cluster.remove_task(&"t-0".into());
    assert_eq!(fits(&cluster, &request, &"gpus".into()), Ok(()));
}

#[test]
fn udp_and_tcp_ports_do_not_collide() {
    let mut cluster = cluster(vec![instance("i", "a", 1024, 1024)]);
    let udp = Ports { udp: [22].into(), ..Ports::default() };
    let request = PlacementRequest { demand: Demand { ports: udp, ..Demand::default() }, ..request(0, 0) };
    assert_eq!(place(&mut cluster, &request).placed.len(), 1);
}

#[test]
fn a_static_port_takes_one_instance_each() {
    let mut cluster = cluster(vec![instance("i1", "a", 1024, 1024), instance("i2", "a", 1024, 1024)]);
    let request = PlacementRequest {
        count: 3,
        demand: Demand { cpu: 1, memory: 1, gpus: 0, ports: tcp(&[80]) },
        ..request(0, 0)
    };
    let placement = place(&mut cluster, &request);
    assert_eq!((placement.placed.len(), placement.unplaced), (2, 1));
    assert_eq!(placement.refusals.len(), 2);
    assert!(placement.refusals.iter().all(|refusal| refusal.reason == Reason::Ports));
}

#[test]
fn placing_leaves_the_cluster_as_it_was() {
    let mut cluster = cluster(vec![instance("i1", "a", 1024, 1024), instance("i2", "b", 512, 512)]);
    let before = format!("{cluster:?}");
    let request = PlacementRequest {
        count: 10,
        demand: Demand { cpu: 200, memory: 100, gpus: 0, ports: tcp(&[8080]) },
        strategies: Strategy::service_defaults(),
        ..request(0, 0)
    };
    assert_eq!(place(&mut cluster, &request).placed.len(), 2);
    assert_eq!(format!("{cluster:?}"), before);
}

#[test]
fn binpack_fills_the_tightest_that_fits() {
    let instances = vec![
        instance("big", "a", 4096, 4096),
        instance("small", "a", 1024, 512),
        instance("mid", "a", 512, 1024),
    ];
    let mut cluster = cluster(instances);
    let by = |resource| PlacementRequest {
        strategies: vec![Strategy::Binpack(resource)],
        count: 3,
        ..request(300, 300)
    };
    assert_eq!(place_and_keep(&mut cluster, &by(PackedResource::Memory), "m"), ["small", "mid", "big"]);
    assert_eq!(place_and_keep(&mut cluster, &by(PackedResource::Cpu), "c"), ["big", "big", "big"]);
}

#[test]
fn default_strategy_balances_zones_then_instances() {
    let instances = ["a1", "a2", "a3", "b1", "b2"].map(|id| instance(id, &id[..1], 4096, 4096));
    let mut cluster = cluster(instances.into());
    let request = PlacementRequest { count: 10, strategies: Strategy::service_defaults(), ..request(1, 1) };
    let mut placed = place_and_keep(&mut cluster, &request, "t");
    placed.sort();
    let of = |id: &str| placed.iter().filter(|placed| *placed == id).count();
    assert_eq!(of("b1") + of("b2"), 5);
    assert!(of("b1").abs_diff(of("b2")) <= 1);
    for id in ["a1", "a2", "a3"] {
        assert!((1..=2).contains(&of(id)), "{placed:?}");
    }
}

#[test]
fn a_full_zone_does_not_stop_the_others() {
    let mut cluster = cluster(vec![instance("a", "a", 1024, 1), instance("b", "b", 1024, 4096)]);
    let request = PlacementRequest { count: 4, strategies: Strategy::service_defaults(), ..request(1, 10) };
    assert_eq!(place_and_keep(&mut cluster, &request, "t"), ["b"; 4]);
}

#[test]
fn other_groups_do_not_count_for_a_spread() {
    let mut cluster = cluster(vec![instance("a", "a", 4096, 4096), instance("b", "b", 4096, 4096)]);
    let other = PlacementRequest {
        group: "service:other".into(),
        count: 5,
        constraints: vec![Constraint::MemberOf(
            Expression::parse("attribute:ecs.availability-zone == a").unwrap(),
        )],
        ..request(1, 1)
    };
    place_and_keep(&mut cluster, &other, "o");
    let spread = PlacementRequest {
        count: 2,
        strategies: vec![Strategy::Spread(SpreadField::Instance)],
        ..request(1, 1)
    };
    let mut placed = place_and_keep(&mut cluster, &spread, "t");
    placed.sort();
    assert_eq!(placed, ["a", "b"]);
}

#[test]
fn distinct_instances_and_affinity_are_kept() {
    let mut cluster = cluster(vec![instance("i1", "a", 1024, 1024), instance("i2", "a", 1024, 1024)]);
    let distinct =
        PlacementRequest { count: 3, constraints: vec![Constraint::DistinctInstance], ..request(1, 1) };
    let placement = place(&mut cluster, &distinct);
    assert_eq!((placement.placed.len(), placement.unplaced), (2, 1));
    assert!(placement.refusals.iter().all(|refusal| refusal.reason == Reason::DistinctInstance));

    let db = PlacementRequest { group: "service:db".into(), ..request(1, 1) };
    let home = place_and_keep(&mut cluster, &db, "db");
    let near = Constraint::MemberOf(Expression::parse("task:group == service:db").unwrap());
    let near = PlacementRequest { count: 2, constraints: vec![near], ..request(1, 1) };
    assert_eq!(place_and_keep(&mut cluster, &near, "near"), [home[0].as_str(); 2]);
}

#[test]
fn attributes_without_an_index_are_spread_over_too() {
    let rack = |id: &str, rack: &str| {
        let mut instance = instance(id, "a", 1024, 1024);
        instance.attributes.insert("rack".to_owned(), Some(rack.to_owned()));
        instance
    };
    let mut cluster = cluster(vec![rack("1", "x"), rack("2", "x"), rack("3", "x"), rack("4", "y")]);
    let strategies = vec![
        Strategy::parse("spread", Some("attribute:rack")).unwrap(),
        Strategy::Binpack(PackedResource::Cpu),
    ];
    let request = PlacementRequest { count: 4, strategies, ..request(1, 1) };
    let placed = place_and_keep(&mut cluster, &request, "t");
    assert_eq!(placed.iter().filter(|id| *id == "4").count(), 2);
}

#[test]
fn seeds_decide_between_equals() {
    let mut cluster = cluster((0..50).map(|n| instance(&n.to_string(), "a", 1024, 1024)).collect());
    let with =
        |cluster: &mut Cluster, seed| place(cluster, &PlacementRequest { seed, ..request(1, 1) }).placed;
    assert_eq!(with(&mut cluster, 7), with(&mut cluster, 7));
    let different: std::collections::BTreeSet<_> = (0..50).map(|seed| with(&mut cluster, seed)).collect();
    assert!(different.len() > 10);
}

#[test]
fn strategies_are_parsed_as_ecs_writes_them() {
    let zone = Strategy::Spread(SpreadField::Attribute(ZONE_ATTRIBUTE.to_owned()));
    assert_eq!(Strategy::parse("spread", Some("attribute:ecs.availability-zone")), Some(zone));
    assert_eq!(Strategy::parse("spread", Some("instanceId")), Some(Strategy::Spread(SpreadField::Instance)));
    assert_eq!(Strategy::parse("spread", Some("host")), Some(Strategy::Spread(SpreadField::Instance)));
    assert_eq!(Strategy::parse("binpack", Some("MEMORY")), Some(Strategy::Binpack(PackedResource::Memory)));
    assert_eq!(Strategy::parse("random", None), Some(Strategy::Random));
    for (kind, field) in
        [("spread", None), ("spread", Some("zone")), ("binpack", Some("ports")), ("first", None)]
    {
        assert_eq!(Strategy::parse(kind, field), None);
    }
}

#[test]
fn a_removed_instance_takes_its_tasks_along_and_its_slot_is_reused() {
    let mut cluster = cluster(vec![instance("i1", "a", 1024, 1024)]);
    place_and_keep(&mut cluster, &PlacementRequest { count: 3, ..request(100, 100) }, "t");
    assert_eq!(cluster.remaining(&"i1".into()).unwrap().cpu, 724);
    assert_eq!(cluster.remove_instance(&"i1".into()).len(), 3);
    assert!(cluster.is_empty() && cluster.tasks().next().is_none());
    cluster.put_instance(instance("i2", "b", 10, 10));
    assert_eq!(cluster.remaining(&"i2".into()).unwrap().cpu, 10);
}

#[test]
fn a_change_of_registration_keeps_what_the_tasks_take() {
    let mut cluster = cluster(vec![instance("i", "a", 1024, 1024)]);
    let with_port = PlacementRequest {
        demand: Demand { cpu: 100, memory: 50, gpus: 0, ports: tcp(&[80]) },
        ..request(0, 0)
    };
    place_and_keep(&mut cluster, &with_port, "t");
    cluster.put_instance(instance("i", "b", 2048, 512));
    let remaining = cluster.remaining(&"i".into()).unwrap();
    assert_eq!((remaining.cpu, remaining.memory), (1948, 462));
    assert_eq!(remaining.ports, tcp(&[22, 80]));
    cluster.remove_task(&"t-0".into());
    assert_eq!(cluster.remaining(&"i".into()).unwrap().ports, tcp(&[22]));
}

fn strategy() -> impl proptest::strategy::Strategy<Value = Vec<Strategy>> {
    let zone = || Strategy::Spread(SpreadField::Attribute(ZONE_ATTRIBUTE.to_owned()));
    prop_oneof![
        Just(Vec::new()),
        Just(vec![Strategy::Random]),
        Just(vec![Strategy::Spread(SpreadField::Instance)]),
        Just(Strategy::service_defaults()),
        Just(vec![zone(), Strategy::Binpack(PackedResource::Memory)]),
        Just(vec![Strategy::Binpack(PackedResource::Cpu), Strategy::Spread(SpreadField::Instance)]),
        Just(vec![Strategy::Spread(SpreadField::Instance), Strategy::Binpack(PackedResource::Memory)]),
    ]
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random clusters, requests and ends of tasks: never overcommitted, every refusal true, the first
    /// strategy followed, nothing left behind.
    #[test]
    fn placements_keep_their_promises(
        instances in prop::collection::vec((0..3_u8, 0..2000_u32, 0..2000_u32, prop::bool::weighted(0.8)), 1..20),
        requests in prop::collection::vec(
            (1..6_u32, 0..600_u32, 0..600_u32, prop::option::of(8000..8003_u16), strategy(), any::<bool>(), any::<u64>()),
            1..12,
        ),
    ) {
        let mut cluster = Cluster::new();
        for (index, (zone, cpu, memory, connected)) in instances.iter().enumerate() {
            let mut instance = instance(&format!("i{index}"), &format!("z{zone}"), *cpu, *memory);
            instance.agent_connected = *connected;
            cluster.put_instance(instance);
        }
        for (number, (count, cpu, memory, port, strategies, keep, seed)) in requests.into_iter().enumerate() {
            let demand = Demand { cpu, memory, gpus: 0, ports: tcp(port.as_slice()) };
            let request = PlacementRequest { count, demand, strategies, seed, ..request(0, 0) };
            let first = place(&mut cluster, &PlacementRequest { count: 1, ..request.clone() });
            let candidates: Vec<InstanceId> = cluster
                .instances()
                .map(|instance| instance.id.clone())
                .filter(|id| fits(&cluster, &request, id).is_ok())
                .collect();
            // A place is found exactly when there is one, and it is one of the best by the first strategy.
            prop_assert_eq!(first.placed.is_empty(), candidates.is_empty());
            if let (Some(chosen), Some(strategy)) = (first.placed.first(), request.strategies.first()) {
                let measure = |id: &InstanceId| measure(&cluster, &request, strategy, id);
                prop_assert_eq!(Some(measure(chosen)), candidates.iter().map(measure).min());
            }
            let placement = place(&mut cluster, &request);
            prop_assert_eq!(placement.placed.len() as u32 + placement.unplaced, count);
            if placement.unplaced > 0 {
                prop_assert_eq!(placement.refusals.len(), cluster.instances().count());
            }
            if keep {
                place_and_keep(&mut cluster, &request, &format!("t{number}"));
            }
            for instance in cluster.instances() {
                let remaining = cluster.remaining(&instance.id).unwrap();
                prop_assert!(remaining.cpu >= 0 && remaining.memory >= 0 && remaining.ports.len() <= MAX_PORTS);
                let on_it: Vec<_> = cluster.tasks().filter(|task| task.instance == instance.id).collect();
                let used: u32 = on_it.iter().map(|task| task.demand.cpu).sum();
                prop_assert_eq!(remaining.cpu, i64::from(instance.registered.cpu) - i64::from(used));
                let ports: usize = on_it.iter().map(|task| task.demand.ports.len()).sum();
                prop_assert_eq!(remaining.ports.len(), ports + 1);
            }
        }
        let tasks: Vec<_> = cluster.tasks().map(|task| task.id.clone()).collect();
        for task in tasks {
            cluster.remove_task(&task);
        }
        for instance in cluster.instances() {
            let remaining = cluster.remaining(&instance.id).unwrap();
            prop_assert_eq!(remaining.cpu, i64::from(instance.registered.cpu));
            prop_assert_eq!(&remaining.ports, &tcp(&[22]));
        }
    }
}

/// What a strategy wants to be least, straight from its definition.
fn measure(cluster: &Cluster, request: &PlacementRequest, strategy: &Strategy, id: &InstanceId) -> i64 {
    let zone = |id: &InstanceId| cluster.instance(id).unwrap().attributes[ZONE_ATTRIBUTE].clone();
    let tasks = cluster.tasks().filter(|task| task.group == request.group);
    match strategy {
        Strategy::Random => 0,
        Strategy::Binpack(PackedResource::Cpu) => cluster.remaining(id).unwrap().cpu,
        Strategy::Binpack(PackedResource::Memory) => cluster.remaining(id).unwrap().memory,
        Strategy::Spread(SpreadField::Instance) => tasks.filter(|task| task.instance == *id).count() as i64,
        Strategy::Spread(SpreadField::Attribute(_)) => {
            tasks.filter(|task| zone(&task.instance) == zone(id)).count() as i64
        }
    }
}
