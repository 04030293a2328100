//! The agent of a host: it takes tasks from the scheduler and runs them on the host's container engine.
//!
//! A task is driven by a pure state machine; what is accepted is saved before it is acknowledged, and a
//! restart of the agent touches no container. What tasks may have of the host is the operator's to open.

mod cgroup;
mod config;
mod endpoints;
mod engine;
mod error;
mod host;
mod host_access;
mod join;
mod link;
mod logs;
mod manager;
mod ports;
mod proxy;
mod pull;
mod resources;
mod run;
mod store;
mod task;
#[cfg(test)]
mod testing;

pub use config::{AgentConfig, AgentSettings, Bounds, HostAccess, HostNamespace, OnLostLease, TaskEndpoint};
pub use error::AgentError;
pub use join::{Invitation, JoinedConfig, join, joined};
pub use run::run;
