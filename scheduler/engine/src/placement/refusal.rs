//! Why an instance cannot take a task, in ECS's own words.
//!
//! Invariant: an instance is refused exactly when it has a reason, and the placement uses this same function.

use std::fmt;

use super::{Constraint, PlacementRequest};
use crate::cluster::{Cluster, InstanceStatus, Member, Slot};
use crate::ids::InstanceId;
use crate::resources::MAX_PORTS;

/// The first thing that stands against an instance, from the coarsest to the finest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The instance is not of this cluster.
    Missing,
    /// Not ACTIVE: draining or deregistered.
    Inactive,
    /// The agent is not connected.
    Agent,
    /// A required attribute is missing.
    Attribute,
    MemberOf,
    DistinctInstance,
    Cpu,
    Memory,
    Gpus,
    Ports,
}

impl Reason {
    /// The string in `failures[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Missing => "MISSING",
            Reason::Inactive => "INACTIVE",
            Reason::Agent => "AGENT",
            Reason::Attribute => "ATTRIBUTE",
            Reason::MemberOf => "MemberOf placement constraint unsatisfied.",
            Reason::DistinctInstance => "DistinctInstance placement constraint unsatisfied.",
            Reason::Cpu => "RESOURCE:CPU",
            Reason::Memory => "RESOURCE:MEMORY",
            Reason::Gpus => "RESOURCE:GPU",
            Reason::Ports => "RESOURCE:PORTS",
        }
    }

    /// How far the instance got: larger is closer.
    pub(crate) fn closeness(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An instance and what stands against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub instance: InstanceId,
    pub reason: Reason,
}

/// Whether one more task of the request fits on this instance (StartTask).
pub fn fits(cluster: &Cluster, request: &PlacementRequest, instance: &InstanceId) -> Result<(), Reason> {
    let slot = cluster.slot_of(instance).ok_or(Reason::Missing)?;
    check(cluster, request, slot)
}

/// Whether an instance is one for tasks of the request, by its status, attributes, GPUs and `memberOf` constraints:
/// whatever is free there at the moment, and whether its agent is connected or not.
pub fn suits(cluster: &Cluster, request: &PlacementRequest, instance: &InstanceId) -> bool {
    let member = cluster.slot_of(instance).map(|slot| cluster.member(slot));
    member.is_some_and(|member| {
        member.instance.status == InstanceStatus::Active
            && member.instance.registered.gpus >= request.demand.gpus
            && check_kind(request, member).is_ok()
    })
}

/// The one check of everything that binds.
pub(super) fn check(cluster: &Cluster, request: &PlacementRequest, slot: Slot) -> Result<(), Reason> {
    let member = cluster.member(slot);
    let instance = &member.instance;
    if instance.status != InstanceStatus::Active {
        return Err(Reason::Inactive);
    }
    if !instance.agent_connected {
        return Err(Reason::Agent);
    }
    check_kind(request, member)?;
    let distinct = request.constraints.iter().any(|one| matches!(one, Constraint::DistinctInstance));
    if distinct && member.tasks_of(&request.group) > 0 {
        return Err(Reason::DistinctInstance);
    }
    let (demand, remaining) = (&request.demand, member.remaining());
    if i64::from(demand.cpu) > remaining.cpu {
        return Err(Reason::Cpu);
    }
    if i64::from(demand.memory) > remaining.memory {
        return Err(Reason::Memory);
    }
    if i64::from(demand.gpus) > remaining.gpus {
        return Err(Reason::Gpus);
    }
    if request.wants_listened_port && instance.listens {
        return Err(Reason::Ports);
    }
    let ports = &demand.ports;
    let free = ports.is_disjoint(&remaining.ports) && ports.len() + remaining.ports.len() <= MAX_PORTS;
    if ports.is_empty() || free { Ok(()) } else { Err(Reason::Ports) }
}

/// What an instance is, as opposed to what is on it.
fn check_kind(request: &PlacementRequest, member: &Member) -> Result<(), Reason> {
    for required in &request.required_attributes {
        match member.instance.attributes.get(&required.name) {
            Some(value) if required.value.is_none() || *value == required.value => {}
            _ => return Err(Reason::Attribute),
        }
    }
    for constraint in &request.constraints {
        match constraint {
            Constraint::MemberOf(expression) if !expression.matches(&member.subject()) => {
                return Err(Reason::MemberOf);
            }
            Constraint::MemberOf(_) | Constraint::DistinctInstance => {}
        }
    }
    Ok(())
}

/// Every instance with its reason; one that would fit (another task took the last place) is left out.
pub(super) fn refusals(cluster: &Cluster, request: &PlacementRequest) -> Vec<Refusal> {
    let slots = cluster.slots();
    let refused = slots.filter_map(|slot| {
        let reason = check(cluster, request, slot).err()?;
        Some(Refusal { instance: cluster.id_of(slot), reason })
    });
    refused.collect()
}
