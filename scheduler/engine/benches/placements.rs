//! Placements a second in clusters of growing size, each placement kept.
//!
//! Run with `cargo bench -p scheduler-engine`.

#![allow(clippy::print_stdout)] // a benchmark prints its result

use std::time::Instant;

use scheduler_engine::{
    Cluster, Demand, Instance, InstanceStatus, PackedResource, PlacedTask, PlacementRequest, Registered,
    Strategy, place,
};

fn main() {
    for instances in [100, 1_000, 10_000] {
        for (name, strategies) in [
            ("random", vec![Strategy::Random]),
            ("service default", Strategy::service_defaults()),
            ("binpack memory", vec![Strategy::Binpack(PackedResource::Memory)]),
        ] {
            measure(instances, name, &strategies);
        }
    }
}

/// Fills a cluster to nine tenths with tasks of 100 services.
fn measure(instances: usize, name: &str, strategies: &[Strategy]) {
    let mut cluster = Cluster::new();
    for index in 0..instances {
        cluster.put_instance(instance(index));
    }
    let tasks = instances * 16 * 9 / 10;
    let began = Instant::now();
    for number in 0..tasks {
        let request = PlacementRequest {
            group: format!("service:{}", number % 100).into(),
            count: 1,
            demand: Demand { cpu: 256, memory: 512, ..Demand::default() },
            wants_listened_port: false,
            required_attributes: Vec::new(),
            constraints: Vec::new(),
            strategies: strategies.to_vec(),
            seed: number as u64,
        };
        let placement = place(&mut cluster, &request);
        let Some(instance) = placement.placed.into_iter().next() else { panic!("the cluster has room") };
        let PlacementRequest { group, demand, .. } = request;
        cluster.add_task(PlacedTask {
            id: format!("task-{number}").into(),
            instance,
            group,
            demand,
            running: true,
        });
    }
    let each = began.elapsed() / tasks as u32;
    let per_second = 1.0 / each.as_secs_f64();
    println!("{instances:>6} instances, {name:<15} {per_second:>9.0} placements a second ({each:?} each)");
}

fn instance(index: usize) -> Instance {
    let attributes = [
        ("ecs.availability-zone", ["us-east-1a", "us-east-1b", "us-east-1c"][index % 3]),
        ("ecs.os-type", "linux"),
        ("ecs.cpu-architecture", "x86_64"),
    ];
    Instance {
        id: format!("instance-{index}").into(),
        ec2_instance_id: String::new(),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1.0.0".to_owned(),
        registered_at_ms: 0,
        registered: Registered { cpu: 4096, memory: 8192, ..Registered::default() },
        attributes: attributes.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into(),
        listens: false,
    }
}
