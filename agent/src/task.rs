//! A task's life: a pure state machine, and what performs its effects on the host.

mod dependency;
pub(crate) mod event;
mod machine;
mod plan;
mod refusal;
pub(crate) mod state;
