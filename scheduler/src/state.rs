//! The whole cluster in memory, and the changes that move it from one state to the next.
//!
//! There are two copies of it: the one that the ledger works on, and the committed one that readers see.
//! The same changes are applied to both and written to the store, so that none can differ from the others.

mod change;
mod draft;
mod ledger;
#[cfg(test)]
mod tests;

pub(crate) use change::{Change, Key, Record, service_of};
pub(crate) use draft::Draft;
pub(crate) use ledger::{Clerk, Hooks, Ledger};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use scheduler_engine as engine;

use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId, ServiceKey, TaskId};
use crate::model::{ClientToken, Cluster, Event, Instance, OutboxEntry, Service, Task, TaskDefinition};

/// Records share their memory between the copies.
#[derive(Default)]
pub(crate) struct State {
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    definitions: BTreeMap<DefinitionKey, Arc<TaskDefinition>>,
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    services: BTreeMap<ServiceKey, Arc<Service>>,
    events: HashMap<ServiceKey, VecDeque<Arc<Event>>>,
    tasks: HashMap<TaskId, Arc<Task>>,
    outbox: BTreeMap<(InstanceId, i64), Arc<OutboxEntry>>,
    tokens: HashMap<String, Arc<ClientToken>>,
    /// Every task of a cluster, stopped ones too.
    tasks_of_cluster: HashMap<ClusterName, BTreeSet<TaskId>>,
    /// Tasks that are not stopped.
    live_on_instance: HashMap<InstanceId, BTreeSet<TaskId>>,
    live_of_service: HashMap<ServiceKey, BTreeSet<TaskId>>,
    /// Ports on which agents listen for services, with the number of those.
    listened: HashMap<ClusterName, BTreeMap<u16, u32>>,
    /// The same instances and tasks as placement sees them.
    placement: HashMap<ClusterName, engine::Cluster>,
}

impl State {
    pub(crate) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    pub(crate) fn definition(&self, key: &DefinitionKey) -> Option<&Arc<TaskDefinition>> {
        self.definitions.get(key)
    }

    pub(crate) fn definitions(&self) -> impl DoubleEndedIterator<Item = &Arc<TaskDefinition>> {
        self.definitions.values()
    }

    /// The revisions of one family, oldest first.
    pub(crate) fn revisions(&self, family: &Family) -> impl DoubleEndedIterator<Item = &Arc<TaskDefinition>> {
        let first = DefinitionKey { family: family.clone(), revision: 0 };
        let last = DefinitionKey { family: family.clone(), revision: i64::MAX };
        self.definitions.range(first..=last).map(|(_, definition)| definition)
    }

    pub(crate) fn instance(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(id)
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    pub(crate) fn instances_of(&self, cluster: &ClusterName) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values().filter(move |instance| instance.cluster == *cluster)
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    pub(crate) fn services_of(&self, cluster: &ClusterName) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().filter(move |service| service.key.cluster == *cluster)
    }

    /// Oldest first.
    pub(crate) fn events(&self, key: &ServiceKey) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.events.get(key).into_iter().flatten()
    }

    pub(crate) fn task(&self, id: &TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(id)
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    pub(crate) fn tasks_of(&self, cluster: &ClusterName) -> impl Iterator<Item = &Arc<Task>> {
        self.resolve(self.tasks_of_cluster.get(cluster))
    }

    pub(crate) fn live_tasks_on(&self, instance: &InstanceId) -> impl Iterator<Item = &Arc<Task>> {
        self.resolve(self.live_on_instance.get(instance))
    }

    pub(crate) fn live_tasks_of(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<Task>> {
        self.resolve(self.live_of_service.get(service))
    }

    fn resolve<'a>(&'a self, ids: Option<&'a BTreeSet<TaskId>>) -> impl Iterator<Item = &'a Arc<Task>> {
        ids.into_iter().flatten().filter_map(|id| self.tasks.get(id))
    }

    /// What is still to be delivered to an instance, in order.
    pub(crate) fn outbox(&self, instance: &InstanceId) -> impl DoubleEndedIterator<Item = &Arc<OutboxEntry>> {
        let range = (instance.clone(), i64::MIN)..=(instance.clone(), i64::MAX);
        self.outbox.range(range).map(|(_, entry)| entry)
    }

    /// The cluster as placement sees it. None while it has no instances.
    pub(crate) fn placement(&self, cluster: &ClusterName) -> Option<&engine::Cluster> {
        self.placement.get(cluster)
    }

    /// Whether agents of the cluster listen on one of these ports for a service.
    pub(crate) fn is_listened(&self, cluster: &ClusterName, ports: &[u16]) -> bool {
        self.listened.get(cluster).is_some_and(|known| ports.iter().any(|port| known.contains_key(port)))
    }

    pub(crate) fn token(&self, key: &str) -> Option<&Arc<ClientToken>> {
        self.tokens.get(key)
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = &Arc<ClientToken>> {
        self.tokens.values()
    }

    /// A copy with the same records.
    fn copy(&self) -> State {
        let mut copy = State::default();
        // Instances before the tasks on them.
        let records = self
            .clusters
            .values()
            .cloned()
            .map(Record::Cluster)
            .chain(self.definitions.values().cloned().map(Record::Definition))
            .chain(self.instances.values().cloned().map(Record::Instance))
            .chain(self.services.values().cloned().map(Record::Service))
            .chain(self.tasks.values().cloned().map(Record::Task))
            .chain(self.outbox.values().cloned().map(Record::Outbox))
            .chain(self.tokens.values().cloned().map(Record::Token));
        for record in records {
            copy.apply(&Change::Put(record));
        }
        copy.events = self.events.clone();
        copy
    }
}
