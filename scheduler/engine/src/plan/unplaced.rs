//! Why a service's task found no place, with the way out where one can be seen.
//!
//! The usual stuck rollout: the new task wants the static host port that the old one holds. Invariant: a fix
//! is only named when it would help.

use super::{Event, ServiceState};
use crate::placement::{Placement, PlacementRequest, Reason};

/// The event for a placement of the service's PRIMARY deployment that left tasks without a place.
pub fn unplaced_event(service: &ServiceState, request: &PlacementRequest, placement: &Placement) -> Event {
    let closest = placement.closest();
    let fix = match closest.map(|refusal| refusal.reason) {
        Some(Reason::Ports) => port_fix(service, request, placement),
        Some(Reason::DistinctInstance) => distinct_fix(service, placement),
        _ => None,
    };
    Event::Unplaced {
        service: service.name.clone(),
        closest: closest.map(|refusal| (refusal.instance.clone(), refusal.reason)),
        fix,
    }
}

fn port_fix(service: &ServiceState, request: &PlacementRequest, placement: &Placement) -> Option<String> {
    let ports = &request.demand.ports;
    let ports: Vec<String> = ports.tcp.iter().chain(&ports.udp).map(u16::to_string).collect();
    let ports = ports.join(", ");
    if request.wants_listened_port {
        return Some(format!(
            "Of host port {ports} one is the port on which agents listen for a service: use a dynamic host port \
             (hostPort 0), or another port."
        ));
    }
    let own = held_by_own_tasks(service, placement, Reason::Ports);
    let lowest = lower_bound_that_moves(service);
    match (own, lowest) {
        (true, Some(lowest)) => Some(format!(
            "The service's own tasks hold host port {ports} on every instance that would fit, and \
             minimumHealthyPercent {} does not allow to stop one first. Set minimumHealthyPercent to {lowest}, or use a dynamic host port (hostPort 0), or add an instance.",
            service.minimum_healthy_percent
        )),
        (true, None) => Some(format!(
            "Each instance has host port {ports} once: use a dynamic host port (hostPort 0), or add an instance."
        )),
        (false, _) => Some(format!(
            "Host port {ports} is taken: use a dynamic host port (hostPort 0), or another port."
        )),
    }
}

fn distinct_fix(service: &ServiceState, placement: &Placement) -> Option<String> {
    let own = held_by_own_tasks(service, placement, Reason::DistinctInstance);
    let lowest = lower_bound_that_moves(service).filter(|_| own)?;
    Some(format!(
        "Every instance that would fit has a task of the service, and minimumHealthyPercent {} does not allow to \
         stop one first. Set minimumHealthyPercent to {lowest}, or add an instance.",
        service.minimum_healthy_percent
    ))
}

/// Whether a task of the service that is to be replaced runs where this reason stands against a new one.
fn held_by_own_tasks(service: &ServiceState, placement: &Placement, reason: Reason) -> bool {
    let refused = placement.refusals.iter().filter(|refusal| refusal.reason == reason);
    let mut refused = refused.map(|refusal| &refusal.instance);
    refused.any(|instance| service.tasks.iter().any(|task| task.instance.as_ref() == Some(instance)))
}

/// The largest minimumHealthyPercent with which one task may stop before its successor runs; `None` when tasks
/// are not being replaced, or when the percentage is not what holds them.
fn lower_bound_that_moves(service: &ServiceState) -> Option<u32> {
    let primary = &service.deployments.first()?.id;
    let replacing = service.tasks.iter().any(|task| task.deployment != *primary || task.draining);
    let desired = service.desired_count;
    let held = service.lower_bound() >= desired;
    (replacing && held && desired > 0).then(|| (desired - 1) * 100 / desired)
}
