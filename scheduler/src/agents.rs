//! The hosts' side of the scheduler: their websockets, what is delivered over them, and how they join.
//!
//! Whoever speaks for an instance is the principal that registered it, whatever policies say. Messages are
//! made at the moment of sending, so that no secret and no credential lies in an outbox.

mod binding;
mod control;
mod credentials;
mod delivery;
mod host;
mod join;
mod live_tasks;
mod liveness;
mod payload;
mod sessions;
mod telemetry;
mod upgrade;

pub(crate) use binding::{bound_instance, instance_of_task, own_instance_only};
pub(crate) use host::{enrol_directly, host_of};
pub(crate) use join::{Invitation, create_token, join};
pub(crate) use live_tasks::{Follower, TasksOfCluster};
pub(crate) use liveness::Liveness;
pub(crate) use sessions::Sessions;
pub(crate) use upgrade::websocket;
