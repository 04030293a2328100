//! Decides when which reconciler looks, and wakes agents' sessions after a commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::leftovers::{forget, repeat_stops};
use super::liveness::check_leases;
use super::services::reconcile_service;
use crate::addresses::Directory;
use crate::agents::{Liveness, Sessions};
use crate::config::SchedulerConfig;
use crate::ids::{ServiceKey, TaskId};
use crate::state::{Change, Draft, Hooks, Key, Record, State, service_of};

/// Every service is looked at so often even if nothing happens.
const SWEEP_MS: i64 = 30_000;

pub(crate) struct Reconciler {
    config: SchedulerConfig,
    liveness: Liveness,
    sessions: Sessions,
    directory: Directory,
    memory: Mutex<Memory>,
}

/// What need not survive a restart.
#[derive(Default)]
struct Memory {
    wake: HashMap<ServiceKey, i64>,
    swept_at: i64,
    told_to_stop: HashMap<TaskId, i64>,
}

impl Reconciler {
    pub(crate) fn new(
        config: SchedulerConfig,
        liveness: Liveness,
        sessions: Sessions,
        directory: Directory,
    ) -> Arc<Self> {
        Arc::new(Self { config, liveness, sessions, directory, memory: Mutex::default() })
    }

    fn look_at(&self, draft: &mut Draft<'_>, services: BTreeSet<ServiceKey>) {
        for key in services {
            let wake = reconcile_service(draft, &key);
            let mut memory = self.memory.lock();
            match wake {
                Some(at) => memory.wake.insert(key, at),
                None => memory.wake.remove(&key),
            };
        }
    }
}

impl Hooks for Reconciler {
    fn reconcile(&self, draft: &mut Draft<'_>, changed: &[Change]) {
        let mut services = BTreeSet::new();
        for change in changed {
            match change {
                Change::Put(Record::Service(service)) => {
                    services.insert(service.key.clone());
                }
                Change::Put(Record::Task(task)) => services.extend(service_of(task)),
                // More room, or less: whoever waits for a place looks again.
                Change::Put(Record::Instance(instance)) => {
                    services.extend(
                        draft.state().services_of(&instance.cluster).map(|service| service.key.clone()),
                    );
                }
                Change::Put(
                    Record::Cluster(_)
                    | Record::Definition(_)
                    | Record::Event(..)
                    | Record::Outbox(_)
                    | Record::Token(_),
                )
                | Change::Remove(_) => {}
            }
        }
        self.look_at(draft, services);
    }

    fn tick(&self, draft: &mut Draft<'_>) {
        check_leases(draft, &self.liveness, self.config.lease);
        let now_ms = draft.now_ms;
        let (due, sweep) = {
            let mut memory = self.memory.lock();
            let sweep = now_ms - memory.swept_at >= SWEEP_MS;
            if sweep {
                memory.swept_at = now_ms;
            }
            let due = memory.wake.iter().filter(|(_, at)| **at <= now_ms).map(|(key, _)| key.clone());
            (due.collect::<BTreeSet<_>>(), sweep)
        };
        if sweep {
            forget(draft, i64::try_from(self.config.keep_stopped_tasks.as_millis()).unwrap_or(i64::MAX));
            repeat_stops(draft, &mut self.memory.lock().told_to_stop);
            let all = draft.state().services().map(|service| service.key.clone()).collect();
            self.look_at(draft, all);
        } else {
            self.look_at(draft, due);
        }
    }

    fn committed(&self, changes: &[Change], state: &State) {
        // Before an agent looks into its outbox: a stop in it may have to wait.
        for cluster in self.directory.note(changes, state) {
            self.sessions.nudge_all(state, &cluster);
        }
        for change in changes {
            match change {
                Change::Put(Record::Outbox(entry)) => self.sessions.nudge(&entry.instance),
                Change::Put(Record::Instance(instance))
                    if instance.status == crate::model::InstanceStatus::Inactive =>
                {
                    self.sessions.close(&instance.id);
                }
                Change::Remove(Key::Instance(id)) => self.sessions.close(id),
                _ => {}
            }
        }
    }
}
