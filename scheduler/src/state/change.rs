//! One step of the state: a record put or removed. Applying one returns the step that undoes it.

use std::sync::Arc;

use super::State;
use crate::addresses::listening_port;
use crate::ids::{ClusterName, DefinitionKey, InstanceId, ServiceKey, TaskId};
use crate::model::{
    ClientToken, Cluster, Event, Instance, InstanceStatus, OutboxEntry, Service, Task, TaskDefinition,
};
use crate::reconcile::{engine_instance, engine_task};

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Record),
    Remove(Key),
}

#[derive(Clone, Debug)]
pub(crate) enum Record {
    Cluster(Arc<Cluster>),
    Definition(Arc<TaskDefinition>),
    Instance(Arc<Instance>),
    Service(Arc<Service>),
    Event(ServiceKey, Arc<Event>),
    Task(Arc<Task>),
    Outbox(Arc<OutboxEntry>),
    Token(Arc<ClientToken>),
}

#[derive(Clone, Debug)]
pub(crate) enum Key {
    Cluster(ClusterName),
    Definition(DefinitionKey),
    Instance(InstanceId),
    Service(ServiceKey),
    Event(ServiceKey, String),
    Task(TaskId),
    Outbox(InstanceId, i64),
    Token(String),
}

impl State {
    /// Applies a change; the answer is the change that undoes it.
    pub(crate) fn apply(&mut self, change: &Change) -> Change {
        match change {
            Change::Put(record) => self.put(record.clone()),
            Change::Remove(key) => self.remove(key.clone()),
        }
    }

    fn put(&mut self, record: Record) -> Change {
        fn undo<T>(before: Option<T>, record: impl FnOnce(T) -> Record, key: Key) -> Change {
            before.map_or(Change::Remove(key), |before| Change::Put(record(before)))
        }
        match record {
            Record::Cluster(cluster) => {
                let key = cluster.name.clone();
                undo(self.clusters.insert(key.clone(), cluster), Record::Cluster, Key::Cluster(key))
            }
            Record::Definition(definition) => {
                let key = definition.key.clone();
                undo(
                    self.definitions.insert(key.clone(), definition),
                    Record::Definition,
                    Key::Definition(key),
                )
            }
            Record::Instance(instance) => {
                let key = instance.id.clone();
                self.place_instance(&instance);
                undo(self.instances.insert(key.clone(), instance), Record::Instance, Key::Instance(key))
            }
            Record::Service(service) => {
                let key = service.key.clone();
                let before = self.services.insert(key.clone(), Arc::clone(&service));
                self.listen(&key.cluster, before.as_deref(), Some(&service));
                undo(before, Record::Service, Key::Service(key))
            }
            Record::Event(key, event) => {
                let events = self.events.entry(key.clone()).or_default();
                let id = event.id.clone();
                // An event that comes back by undoing is the oldest one.
                match events.front() {
                    Some(oldest) if oldest.created_at > event.created_at => events.push_front(event),
                    _ => events.push_back(event),
                }
                Change::Remove(Key::Event(key, id))
            }
            Record::Task(task) => {
                let key = task.id.clone();
                let before = self.tasks.insert(key.clone(), Arc::clone(&task));
                if let Some(before) = &before {
                    self.unindex(before);
                }
                self.index(&task);
                undo(before, Record::Task, Key::Task(key))
            }
            Record::Outbox(entry) => {
                let key = (entry.instance.clone(), entry.sequence);
                let before = self.outbox.insert(key.clone(), entry);
                undo(before, Record::Outbox, Key::Outbox(key.0, key.1))
            }
            Record::Token(token) => {
                let key = token.key.clone();
                undo(self.tokens.insert(key.clone(), token), Record::Token, Key::Token(key))
            }
        }
    }

    fn remove(&mut self, key: Key) -> Change {
        let before = match &key {
            Key::Cluster(name) => self.clusters.remove(name).map(Record::Cluster),
            Key::Definition(definition) => self.definitions.remove(definition).map(Record::Definition),
            Key::Instance(id) => {
                let before = self.instances.remove(id);
                if let Some(cluster) =
                    before.as_ref().and_then(|instance| self.placement.get_mut(&instance.cluster))
                {
                    cluster.remove_instance(&id.as_str().into());
                }
                before.map(Record::Instance)
            }
            Key::Service(service) => {
                let before = self.services.remove(service);
                self.listen(&service.cluster, before.as_deref(), None);
                before.map(Record::Service)
            }
            Key::Event(service, id) => {
                self.remove_event(service, id).map(|event| Record::Event(service.clone(), event))
            }
            Key::Task(id) => {
                let before = self.tasks.remove(id);
                if let Some(task) = &before {
                    self.unindex(task);
                }
                before.map(Record::Task)
            }
            Key::Outbox(instance, sequence) => {
                self.outbox.remove(&(instance.clone(), *sequence)).map(Record::Outbox)
            }
            Key::Token(token) => self.tokens.remove(token).map(Record::Token),
        };
        before.map_or(Change::Remove(key), Change::Put)
    }

    fn remove_event(&mut self, service: &ServiceKey, id: &str) -> Option<Arc<Event>> {
        let events = self.events.get_mut(service)?;
        let at = events.iter().position(|event| event.id == id)?;
        let event = events.remove(at);
        if events.is_empty() {
            self.events.remove(service);
        }
        event
    }

    /// Notes on which port agents listen for a service, before and after a change of it.
    fn listen(&mut self, cluster: &ClusterName, before: Option<&Service>, after: Option<&Service>) {
        let (before, after) = (before.and_then(listening_port), after.and_then(listening_port));
        if before == after {
            return;
        }
        let ports = self.listened.entry(cluster.clone()).or_default();
        if let Some(port) = before {
            match ports.get_mut(&port) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(ports.remove(&port)),
            }
        }
        if let Some(port) = after {
            *ports.entry(port).or_insert(0) += 1;
        }
        if ports.is_empty() {
            self.listened.remove(cluster);
        }
    }

    fn place_instance(&mut self, instance: &Instance) {
        let cluster = self.placement.entry(instance.cluster.clone()).or_default();
        let id = instance.id.as_str().into();
        if instance.status == InstanceStatus::Inactive {
            cluster.remove_instance(&id);
            return;
        }
        let is_new = cluster.instance(&id).is_none();
        cluster.put_instance(engine_instance(instance));
        if is_new {
            let on_it = self.live_on_instance.get(&instance.id).into_iter().flatten();
            for task in on_it.filter_map(|id| self.tasks.get(id)).filter(|task| task.holds_resources()) {
                if let Some(task) = engine_task(task) {
                    cluster.add_task(task);
                }
            }
        }
    }

    fn index(&mut self, task: &Task) {
        self.tasks_of_cluster.entry(task.cluster.clone()).or_default().insert(task.id.clone());
        if task.is_stopped() {
            return;
        }
        if task.holds_resources()
            && let (Some(cluster), Some(placed)) = (self.placement.get_mut(&task.cluster), engine_task(task))
        {
            cluster.add_task(placed);
        }
        if let Some(instance) = &task.instance {
            self.live_on_instance.entry(instance.clone()).or_default().insert(task.id.clone());
        }
        if let Some(key) = service_of(task) {
            self.live_of_service.entry(key).or_default().insert(task.id.clone());
        }
    }

    fn unindex(&mut self, task: &Task) {
        if let Some(cluster) = self.placement.get_mut(&task.cluster) {
            cluster.remove_task(&task.id.as_str().into());
        }
        if let Some(tasks) = self.tasks_of_cluster.get_mut(&task.cluster) {
            tasks.remove(&task.id);
        }
        if let Some(tasks) =
            task.instance.as_ref().and_then(|instance| self.live_on_instance.get_mut(instance))
        {
            tasks.remove(&task.id);
        }
        if let Some(tasks) = service_of(task).and_then(|key| self.live_of_service.get_mut(&key)) {
            tasks.remove(&task.id);
        }
    }
}

/// The service that a task belongs to.
pub(crate) fn service_of(task: &Task) -> Option<ServiceKey> {
    task.service.as_ref().map(|name| ServiceKey { cluster: task.cluster.clone(), name: name.clone() })
}
