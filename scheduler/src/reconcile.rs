//! Brings what is nearer to what is wanted: services, draining, lost instances, leftovers.
//!
//! Runs inside the ledger, on the same draft as the change that made it necessary, so that a service and
//! its first tasks are one commit. The decisions are the engine's; this room carries them out.

mod images;
mod leftovers;
mod lifecycle;
mod liveness;
mod placement;
mod reconciler;
mod services;
mod snapshot;

pub(crate) use images::resolve_missing_images;
pub(crate) use lifecycle::{
    Report, apply_container_report, apply_report, give_up, give_up_all, note_health, stop_task,
};
pub(crate) use placement::{check_constraints, engine_instance, engine_task, placement_request, strategies};
pub(crate) use reconciler::Reconciler;
pub(crate) use snapshot::percentages;
