//! A change in the making: reads the state, steps it on, and can take everything back.

use std::sync::Arc;

use super::{Change, Key, Record, State};
use crate::ids::{ClusterName, InstanceId, ServiceKey, TaskId};
use crate::model::{Errand, Event, Instance, OutboxEntry, Service, Task};

/// ECS keeps a hundred events of a service.
const MOST_EVENTS: usize = 100;

pub(crate) struct Draft<'a> {
    state: &'a mut State,
    changes: Vec<Change>,
    undo: Vec<Change>,
    /// The time of everything in this change, milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a mut State, now_ms: i64) -> Self {
        Self { state, changes: Vec::new(), undo: Vec::new(), now_ms }
    }

    pub(crate) fn state(&self) -> &State {
        self.state
    }

    /// Finds places for a request; nothing is placed yet. None when the cluster has no instance.
    pub(crate) fn place(
        &mut self,
        cluster: &ClusterName,
        request: &scheduler_engine::PlacementRequest,
    ) -> Option<scheduler_engine::Placement> {
        let placement = self.state.placement.get_mut(cluster).filter(|cluster| !cluster.is_empty())?;
        Some(scheduler_engine::place(placement, request))
    }

    pub(crate) fn put(&mut self, record: Record) {
        self.step(Change::Put(record));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.step(Change::Remove(key));
    }

    fn step(&mut self, change: Change) {
        self.undo.push(self.state.apply(&change));
        self.changes.push(change);
    }

    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Takes back everything since a mark.
    pub(super) fn roll_back(&mut self, mark: usize) {
        for change in self.undo.drain(mark..).rev() {
            self.state.apply(&change);
        }
        self.changes.truncate(mark);
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    pub(crate) fn put_task(&mut self, task: Task) -> Arc<Task> {
        let task = Arc::new(task);
        self.put(Record::Task(Arc::clone(&task)));
        task
    }

    /// Changes a task and raises its version. None when there is no such task.
    pub(crate) fn edit_task(&mut self, id: &TaskId, edit: impl FnOnce(&mut Task)) -> Option<Arc<Task>> {
        let mut task = Task::clone(self.state.task(id)?);
        edit(&mut task);
        task.version += 1;
        Some(self.put_task(task))
    }

    /// Changes an instance and raises its version.
    pub(crate) fn edit_instance(
        &mut self,
        id: &InstanceId,
        edit: impl FnOnce(&mut Instance),
    ) -> Option<Arc<Instance>> {
        let mut instance = Instance::clone(self.state.instance(id)?);
        edit(&mut instance);
        instance.version += 1;
        let instance = Arc::new(instance);
        self.put(Record::Instance(Arc::clone(&instance)));
        Some(instance)
    }

    pub(crate) fn edit_service(
        &mut self,
        key: &ServiceKey,
        edit: impl FnOnce(&mut Service),
    ) -> Option<Arc<Service>> {
        let mut service = Service::clone(self.state.service(key)?);
        edit(&mut service);
        let service = Arc::new(service);
        self.put(Record::Service(Arc::clone(&service)));
        Some(service)
    }

    /// Puts a task into its instance's outbox. The order is that of the calls.
    pub(crate) fn enqueue(&mut self, instance: &InstanceId, task: &TaskId, errand: Errand) {
        let last = self.state.outbox(instance).next_back().map_or(0, |entry| entry.sequence);
        // Agents ignore numbers that do not grow, also across restarts: the clock carries them on.
        let sequence = self.now_ms.max(last + 1);
        self.put(Record::Outbox(Arc::new(OutboxEntry {
            instance: instance.clone(),
            sequence,
            task: task.clone(),
            errand,
        })));
    }

    /// Adds to a service's history and forgets what is too old.
    pub(crate) fn add_event(&mut self, service: &ServiceKey, message: String) {
        let event = Event { id: uuid::Uuid::new_v4().to_string(), created_at: self.now_ms, message };
        self.put(Record::Event(service.clone(), Arc::new(event)));
        let surplus: Vec<String> = {
            let count = self.state.events(service).count();
            self.state
                .events(service)
                .take(count.saturating_sub(MOST_EVENTS))
                .map(|event| event.id.clone())
                .collect()
        };
        for id in surplus {
            self.remove(Key::Event(service.clone(), id));
        }
    }
}
