//! The scheduler over its real edges: HTTP, signatures, SQLite and the agents' websockets.

mod agents;
mod api;
mod authorization;
mod joining;
mod services;
mod support;
mod tasks;
