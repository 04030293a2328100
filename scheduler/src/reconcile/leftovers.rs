//! Forgets what is over, and repeats what was not obeyed.

use std::collections::HashMap;

use crate::ids::{ServiceKey, TaskId};
use crate::model::{DesiredStatus, Errand, InstanceStatus, ServiceStatus};
use crate::state::{Draft, Key};

/// Records that are removed in one go; the rest waits for the next.
const BATCH: usize = 200;
/// Stopped tasks in memory; more of them are forgotten before their time.
const MOST_STOPPED: usize = 20_000;
const LEAST_VISIBLE_MS: i64 = 3600 * 1000;
/// A client token is remembered for a day, as ECS does.
const KEEP_TOKENS_MS: i64 = 24 * 3600 * 1000;
/// Deleted services and instances stay visible for so long.
const KEEP_INACTIVE_MS: i64 = 24 * 3600 * 1000;
/// A task that was told to stop and did not is told again after so long.
const REPEAT_STOP_MS: i64 = 3 * 60 * 1000;

/// Removes stopped tasks, used tokens, deleted services and deregistered instances that are old enough.
pub(super) fn forget(draft: &mut Draft<'_>, keep_tasks_ms: i64) {
    let now_ms = draft.now_ms;
    let state = draft.state();
    let tasks = old_tasks(draft, keep_tasks_ms);
    let tokens = state.tokens().filter(|token| now_ms - token.created_at > KEEP_TOKENS_MS);
    let tokens = tokens.take(BATCH).map(|token| Key::Token(token.key.clone()));
    let mut keys: Vec<Key> = tasks.into_iter().chain(tokens).collect();
    for service in state.services().filter(|service| service.status == ServiceStatus::Inactive) {
        if now_ms - service.primary().updated_at > KEEP_INACTIVE_MS {
            keys.extend(events_of(draft, &service.key));
            keys.push(Key::Service(service.key.clone()));
        }
    }
    for instance in draft.state().instances() {
        if instance.deregistered_at.is_some_and(|at| now_ms - at > KEEP_INACTIVE_MS) {
            let undelivered = draft.state().outbox(&instance.id);
            keys.extend(undelivered.map(|entry| Key::Outbox(entry.instance.clone(), entry.sequence)));
            keys.push(Key::Instance(instance.id.clone()));
        }
    }
    for key in keys {
        draft.remove(key);
    }
}

/// Stopped tasks that are too old, or the oldest of too many; none before ECS's own hour is over.
fn old_tasks(draft: &Draft<'_>, keep_ms: i64) -> Vec<Key> {
    let now_ms = draft.now_ms;
    let mut stopped: Vec<(i64, &TaskId)> =
        draft.state().tasks().filter_map(|task| Some((task.stopped_at?, &task.id))).collect();
    stopped.sort_unstable();
    let surplus = stopped.len().saturating_sub(MOST_STOPPED);
    let goes = |(place, (at, _)): &(usize, &(i64, &TaskId))| {
        now_ms - at > keep_ms || (*place < surplus && now_ms - at > LEAST_VISIBLE_MS)
    };
    stopped.iter().enumerate().filter(goes).take(BATCH).map(|(_, (_, id))| Key::Task((*id).clone())).collect()
}

fn events_of(draft: &Draft<'_>, key: &ServiceKey) -> Vec<Key> {
    draft.state().events(key).map(|event| Key::Event(key.clone(), event.id.clone())).collect()
}

/// Tells agents again to stop tasks that should long have stopped.
pub(super) fn repeat_stops(draft: &mut Draft<'_>, told: &mut HashMap<TaskId, i64>) {
    let now_ms = draft.now_ms;
    let state = draft.state();
    let overdue: Vec<_> = state
        .instances()
        .filter(|instance| instance.connected && instance.status != InstanceStatus::Inactive)
        .flat_map(|instance| {
            let tasks = state.live_tasks_on(&instance.id);
            tasks
                .filter(|task| task.desired_status == DesiredStatus::Stopped)
                .map(|task| (instance.id.clone(), task))
        })
        .filter(|(_, task)| {
            let last = told.get(&task.id).copied().or(task.stopping_at).unwrap_or(now_ms);
            now_ms - last > REPEAT_STOP_MS
        })
        .filter(|(instance, task)| !state.outbox(instance).any(|entry| entry.task == task.id))
        .map(|(instance, task)| (instance, task.id.clone()))
        .collect();
    told.retain(|id, _| draft.state().task(id).is_some_and(|task| !task.is_stopped()));
    for (instance, task) in overdue {
        draft.enqueue(&instance, &task, Errand::Stop);
        told.insert(task, now_ms);
    }
}

#[cfg(test)]
mod tests;
