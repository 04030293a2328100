//! Placing tasks on instances: resources, then constraints, then strategies in their order.
//!
//! Pure: the seed is an argument, and the cluster is as before when `place` returns. Invariant: a placement
//! never overcommits, and every instance that was refused says why.

mod choose;
mod refusal;

pub use refusal::{Reason, Refusal, fits, suits};

use crate::cluster::Cluster;
use crate::ids::{Group, InstanceId};
use crate::query::Expression;
use crate::resources::Demand;

/// An attribute an instance must have, with any value or with this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredAttribute {
    pub name: String,
    pub value: Option<String>,
}

/// A condition that binds.
#[derive(Debug, Clone)]
pub enum Constraint {
    /// No two tasks of the group on one instance.
    DistinctInstance,
    /// The instance must satisfy an expression of the cluster query language.
    MemberOf(Expression),
}

/// What tasks are spread over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpreadField {
    /// `instanceId` or `host`.
    Instance,
    /// `attribute:<name>`: this is the name.
    Attribute(String),
}

/// What instances are filled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedResource {
    Cpu,
    Memory,
}

/// A wish, followed as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Fewest tasks of the group in the bucket.
    Spread(SpreadField),
    /// Least left of the resource that still fits.
    Binpack(PackedResource),
    Random,
}

/// The attribute that says in which zone an instance is.
pub const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";

impl Strategy {
    /// What services without a strategy get: spread over zones, then over instances.
    pub fn service_defaults() -> Vec<Strategy> {
        vec![
            Strategy::Spread(SpreadField::Attribute(ZONE_ATTRIBUTE.to_owned())),
            Strategy::Spread(SpreadField::Instance),
        ]
    }

    /// From ECS's `type` and `field`; `None` when ECS knows no such strategy.
    pub fn parse(kind: &str, field: Option<&str>) -> Option<Strategy> {
        let lower = field.map(str::to_ascii_lowercase);
        match (kind, lower.as_deref()) {
            ("random", None | Some("")) => Some(Strategy::Random),
            ("spread", Some("instanceid" | "host")) => Some(Strategy::Spread(SpreadField::Instance)),
            ("spread", Some(_)) => {
                let name = field?.strip_prefix("attribute:").filter(|name| !name.is_empty())?;
                Some(Strategy::Spread(SpreadField::Attribute(name.to_owned())))
            }
            ("binpack", Some("cpu")) => Some(Strategy::Binpack(PackedResource::Cpu)),
            ("binpack", Some("memory")) => Some(Strategy::Binpack(PackedResource::Memory)),
            _ => None,
        }
    }
}

/// `count` equal tasks that are to be placed.
#[derive(Debug, Clone)]
pub struct PlacementRequest {
    pub group: Group,
    pub count: u32,
    pub demand: Demand,
    /// Whether one of the ports is that of a service for which agents listen: theirs cannot be had.
    pub wants_listened_port: bool,
    pub required_attributes: Vec<RequiredAttribute>,
    pub constraints: Vec<Constraint>,
    /// Empty for standalone tasks means random.
    pub strategies: Vec<Strategy>,
    /// Decides between instances that are equally good.
    pub seed: u64,
}

/// Where tasks go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// One entry a task, up to `count` of them.
    pub placed: Vec<InstanceId>,
    /// Tasks for which no place was found.
    pub unplaced: u32,
    /// When some were not placed: every instance, with the first reason that stands against it.
    pub refusals: Vec<Refusal>,
}

impl Placement {
    /// The refused instance that came closest to fitting.
    pub fn closest(&self) -> Option<&Refusal> {
        self.refusals.iter().max_by_key(|refusal| refusal.reason.closeness())
    }
}

/// Finds places for the tasks of a request, one after the other, each with those before it in place. Changes
/// the cluster while it looks, and leaves it as it was.
pub fn place(cluster: &mut Cluster, request: &PlacementRequest) -> Placement {
    let mut slots = Vec::new();
    let mut random = choose::Random::new(request.seed);
    while (slots.len() as u64) < u64::from(request.count) {
        let Some(slot) = choose::choose(cluster, request, &mut random) else { break };
        cluster.occupy(slot, &request.group, &request.demand);
        slots.push(slot);
    }
    let unplaced = request.count - slots.len() as u32;
    // Asked while the placed ones are in place: that is what stood against the rest.
    let refusals = if unplaced > 0 { refusal::refusals(cluster, request) } else { Vec::new() };
    let placed = slots.iter().map(|&slot| cluster.id_of(slot)).collect();
    for &slot in slots.iter().rev() {
        cluster.vacate(slot, &request.group, &request.demand);
    }
    Placement { placed, unplaced, refusals }
}

#[cfg(test)]
mod tests;
