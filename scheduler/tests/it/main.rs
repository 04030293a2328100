//! The scheduler over its real edges: HTTP, signatures, SQLite and the agents' websockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod addresses;
mod agents;
mod api;
mod authorization;
mod joining;
mod services;
mod support;
mod tasks;
