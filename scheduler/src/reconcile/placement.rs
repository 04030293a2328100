//! The bridge to the engine's placement: our records as its values, its refusals as ECS's failures.

use std::collections::{BTreeMap, BTreeSet};

use registry_aws::AwsError;
use scheduler_engine as engine;

use crate::addresses::listens;
use crate::definition::check_expression;
use crate::http::ecs::error::invalid;
use crate::launch::Launch;
use crate::model::{Instance, InstanceStatus, PlacementConstraint, PlacementStrategy, Task};
use crate::state::State;

pub(crate) fn engine_instance(instance: &Instance) -> engine::Instance {
    let attributes: BTreeMap<String, Option<String>> = instance
        .all_attributes()
        .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
        .collect();
    engine::Instance {
        id: instance.id.as_str().into(),
        ec2_instance_id: String::new(),
        status: match instance.status {
            InstanceStatus::Active => engine::InstanceStatus::Active,
            InstanceStatus::Draining => engine::InstanceStatus::Draining,
            InstanceStatus::Inactive => engine::InstanceStatus::Inactive,
        },
        agent_connected: instance.connected,
        agent_version: instance.agent_version.clone().unwrap_or_default(),
        registered_at_ms: instance.registered_at,
        registered: engine::Registered {
            cpu: narrow(instance.cpu),
            memory: narrow(instance.memory),
            gpus: u32::try_from(instance.gpus.len()).unwrap_or(u32::MAX),
            reserved: engine::Ports {
                tcp: instance.reserved_tcp.clone(),
                udp: instance.reserved_udp.clone(),
            },
        },
        attributes,
        listens: listens(instance),
    }
}

/// None for a task without a place.
pub(crate) fn engine_task(task: &Task) -> Option<engine::PlacedTask> {
    Some(engine::PlacedTask {
        id: task.id.as_str().into(),
        instance: task.instance.as_ref()?.as_str().into(),
        group: task.group.as_str().into(),
        demand: engine::Demand {
            cpu: narrow(task.cpu),
            memory: narrow(task.memory),
            gpus: task.containers.iter().map(|container| container.gpu_ids.len() as u32).sum(),
            ports: ports(&task.tcp_ports, &task.udp_ports),
        },
        running: task.last_status == crate::model::LastStatus::Running,
    })
}

/// What the engine is asked for `count` tasks of a launch.
///
/// # Errors
/// Of constraints and strategies that ECS does not know.
pub(crate) fn placement_request(
    state: &State,
    launch: &Launch,
    strategies: Vec<engine::Strategy>,
    count: u32,
    seed: u64,
) -> Result<engine::PlacementRequest, AwsError> {
    let demand = launch.demand();
    let of_definition = launch.definition.content.placement_constraints.iter();
    let constraints = of_definition.chain(&launch.constraints).map(constraint).collect::<Result<_, _>>()?;
    let required = launch.definition.requires_attributes.iter().map(|attribute| engine::RequiredAttribute {
        name: attribute.name.clone(),
        value: attribute.value.clone(),
    });
    Ok(engine::PlacementRequest {
        group: launch.group.as_str().into(),
        count,
        demand: engine::Demand {
            cpu: narrow(demand.cpu),
            memory: narrow(demand.memory),
            gpus: demand.gpus,
            ports: ports(&demand.tcp_ports, &demand.udp_ports),
        },
        wants_listened_port: state.is_listened(&launch.cluster, &demand.tcp_ports),
        required_attributes: required.collect(),
        constraints,
        strategies,
        seed,
    })
}

pub(crate) fn constraint(constraint: &PlacementConstraint) -> Result<engine::Constraint, AwsError> {
    match constraint.kind.as_str() {
        "distinctInstance" => Ok(engine::Constraint::DistinctInstance),
        "memberOf" => check_expression(constraint.expression.as_deref()).map(engine::Constraint::MemberOf),
        other => Err(invalid(format!("Invalid placement constraint type: {other}."))),
    }
}

pub(crate) fn strategies(strategies: &[PlacementStrategy]) -> Result<Vec<engine::Strategy>, AwsError> {
    if strategies.len() > 5 {
        return Err(invalid("There can be at most 5 placement strategies."));
    }
    let parse = |strategy: &PlacementStrategy| {
        engine::Strategy::parse(&strategy.kind, strategy.field.as_deref()).ok_or_else(|| {
            invalid(format!(
                "Invalid placement strategy: type {}, field {}.",
                strategy.kind,
                strategy.field.as_deref().unwrap_or("none")
            ))
        })
    };
    strategies.iter().map(parse).collect()
}

pub(crate) fn check_constraints(constraints: &[PlacementConstraint]) -> Result<(), AwsError> {
    if constraints.len() > 10 {
        return Err(invalid("There can be at most 10 placement constraints."));
    }
    constraints.iter().try_for_each(|one| constraint(one).map(drop))
}

fn ports(tcp: &[u16], udp: &[u16]) -> engine::Ports {
    engine::Ports {
        tcp: BTreeSet::from_iter(tcp.iter().copied()),
        udp: BTreeSet::from_iter(udp.iter().copied()),
    }
}

fn narrow(size: i64) -> u32 {
    u32::try_from(size.max(0)).unwrap_or(u32::MAX)
}
