//! Which tasks of a service go when there are too many.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{ServiceState, Task, TaskPhase};
use crate::placement::Strategy;

/// Those that do not run yet, then those that do not run yet, then those that are not healthy, then from where most of the
/// service's tasks are. Protected ones never.
pub(super) fn choose_surplus<'a>(
    service: &ServiceState,
    now_ms: i64,
    staying: &[&'a Task],
    surplus: usize,
) -> Vec<&'a Task> {
    let (mut in_zone, mut on_instance) = (HashMap::new(), HashMap::new());
    for task in staying {
        *in_zone.entry(task.zone.as_str()).or_insert(0_u32) += 1;
        *on_instance.entry(&task.instance).or_insert(0_u32) += 1;
    }
    // Packed services empty the instance with the fewest tasks, the others the fullest.
    let packed = matches!(service.strategies.first(), Some(Strategy::Binpack(_)));
    let mut left: Vec<&Task> = staying.iter().filter(|task| !task.protected).copied().collect();
    if left.len() <= surplus {
        return left;
    }
    let mut chosen = Vec::new();
    while chosen.len() < surplus && !left.is_empty() {
        let worst = left.iter().enumerate().min_by_key(|(_, task)| {
            let rank = match task.phase {
                TaskPhase::Running { .. } if service.is_healthy(task, now_ms) => 2,
                TaskPhase::Running { .. } => 1,
                _ => 0,
            };
            let on_instance = i64::from(on_instance[&task.instance]);
            let crowd = if packed {
                (Reverse(0), on_instance)
            } else {
                (Reverse(in_zone[task.zone.as_str()]), -on_instance)
            };
            (rank, crowd, Reverse(task.created_at_ms), task.id.clone())
        });
        let Some((index, task)) = worst else { break };
        *in_zone.entry(task.zone.as_str()).or_insert(1) -= 1;
        *on_instance.entry(&task.instance).or_insert(1) -= 1;
        chosen.push(left.swap_remove(index));
    }
    chosen
}
