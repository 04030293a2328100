//! The ECS side of Berth: clusters, task definitions, tasks and services, and the hosts that run them.
//!
//! The cluster is in memory; every change is one work of the ledger, durable before anybody sees it. What
//! to do is decided by the pure engine; this crate asks it, acts, talks to agents and answers the API.
//! Invariant: a task runs where it was placed and nowhere else, and only that place is heard about it.

mod addresses;
mod agents;
mod config;
mod core;
mod definition;
#[cfg(test)]
mod fixture;
mod fleet;
mod http;
mod ids;
mod images;
mod launch;
mod lead;
mod model;
mod names;
mod reconcile;
mod scheduler;
mod state;
mod store;
mod term;

pub use config::SchedulerConfig;
pub use fleet::Fleet;
pub use images::{ImageError, Images, ResolvedImage, WantedImage};
pub use lead::Leader;
pub use scheduler::{Scheduler, SchedulerError};
pub use scheduler_protocol::{JOIN_PATH, WEBSOCKET_PATH};
pub use store::StoreError;
