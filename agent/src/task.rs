//! A task's life: a pure state machine, and what performs its effects on the host.

mod body;
pub(crate) mod context;
mod dependency;
mod driver;
pub(crate) mod event;
mod machine;
mod perform;
pub(crate) mod plan;
mod prepare;
mod refusal;
mod report;
pub(crate) mod state;

pub(crate) use driver::{Driver, Progress, Reporter, accepted_key, progress_key, stop_key};
