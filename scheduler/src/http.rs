//! The scheduler's APIs over HTTP: ECS, and Berth's own operations.

pub(crate) mod berth;
pub(crate) mod ecs;
