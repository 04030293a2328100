//! What the scheduler decides, without doing it: where tasks go, and what a service needs next.
//!
//! Pure: no clock, no random source, no I/O; time and seeds are arguments, so a decision can be repeated from
//! its inputs. Invariants: a placement never overcommits an instance; a plan never takes a service below its
//! lower bound of healthy tasks or above its upper bound of tasks.

mod cluster;
mod ids;
mod placement;
mod plan;
mod pool;
mod query;
mod resources;

pub use cluster::{Cluster, Instance, InstanceStatus, PlacedTask};
pub use ids::{DeploymentId, Group, InstanceId, TaskId};
pub use placement::{
    Constraint, PackedResource, Placement, PlacementRequest, Reason, Refusal, RequiredAttribute, SpreadField,
    Strategy, ZONE_ATTRIBUTE, fits, place, suits,
};
pub use plan::{
    Action, CircuitBreaker, Deployment, Event, Health, Plan, Reported, RolloutState, ServiceState,
    StopReason, Task, TaskEnd, TaskPhase, Threshold, plan, unplaced_event,
};
pub use query::{Expression, QueryError, Subject};
pub use resources::{Demand, MAX_PORTS, Ports, Registered, Remaining};
