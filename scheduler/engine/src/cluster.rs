//! The cluster as placement sees it: instances, what they registered, and the tasks that take from it.
//!
//! Kept in memory by the scheduler and changed one event at a time, with indexes that make a placement cheap
//! in a large cluster. Invariant: what remains on an instance is what it registered less the tasks on it.

mod member;
mod spread;

use std::collections::{BTreeMap, HashMap};

use crate::ids::{Group, InstanceId, TaskId};
use crate::pool::Pool;
use crate::resources::{Demand, Registered, Remaining};
pub(crate) use member::Member;
use spread::GroupTasks;
pub(crate) use spread::Spread;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceStatus {
    Active,
    Draining,
    /// Registering, deregistering or gone.
    Inactive,
}

/// A container instance as it registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    /// The machine's own id, for the subject `ec2InstanceId`; may be empty.
    pub ec2_instance_id: String,
    pub status: InstanceStatus,
    pub agent_connected: bool,
    pub agent_version: String,
    pub registered_at_ms: i64,
    pub registered: Registered,
    /// By name; an attribute may have no value.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Whether its agent listens on the ports of the cluster's services.
    pub listens: bool,
}

/// A task that takes resources: from its placement until its desired status is STOPPED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedTask {
    pub id: TaskId,
    pub instance: InstanceId,
    pub group: Group,
    pub demand: Demand,
    /// Whether it has reached RUNNING, for the subject `runningTasksCount`.
    pub running: bool,
}

/// The zone of an instance, if it has one.
pub(crate) type Zone = Option<String>;

/// The place of an instance in the tables here; reused after it left.
pub(crate) type Slot = usize;

#[derive(Debug, Default)]
pub struct Cluster {
    members: Vec<Option<Member>>,
    free: Vec<Slot>,
    by_id: HashMap<InstanceId, Slot>,
    tasks: HashMap<TaskId, PlacedTask>,
    groups: HashMap<Group, GroupTasks>,
    pub(crate) all: Pool,
    /// The same by zone, because that is what services are spread over by default.
    pub(crate) zones: BTreeMap<Zone, Pool>,
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster::default()
    }

    /// Adds an instance, or takes over what has changed of one (status, connection, attributes, resources).
    pub fn put_instance(&mut self, instance: Instance) {
        match self.by_id.get(&instance.id) {
            Some(&slot) => {
                self.leave_pools(slot);
                self.change_instance(slot, instance);
                self.enter_pools(slot);
            }
            None => self.add_instance(instance),
        }
    }

    /// Removes an instance and the tasks on it, whose ids it returns.
    pub fn remove_instance(&mut self, id: &InstanceId) -> Vec<TaskId> {
        let on_it = self.tasks.values().filter(|task| task.instance == *id);
        let tasks: Vec<TaskId> = on_it.map(|task| task.id.clone()).collect();
        for task in &tasks {
            self.remove_task(task);
        }
        if let Some(slot) = self.by_id.remove(id) {
            self.leave_pools(slot);
            self.members[slot] = None;
            self.free.push(slot);
        }
        tasks
    }

    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.slot_of(id).map(|slot| &self.member(slot).instance)
    }

    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.members.iter().flatten().map(|member| &member.instance)
    }

    /// What is left on an instance, and the ports in use or reserved there.
    pub fn remaining(&self, id: &InstanceId) -> Option<&Remaining> {
        self.slot_of(id).map(|slot| self.member(slot).remaining())
    }

    /// Whether an instance satisfies an expression (the `filter` of ListContainerInstances).
    pub fn matches(&self, id: &InstanceId, expression: &crate::query::Expression) -> bool {
        self.slot_of(id).is_some_and(|slot| expression.matches(&self.member(slot).subject()))
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Puts a task on its instance, whether it fits or not: it is there. A task on an unknown instance, or one
    /// that is already known, is not counted again; then this answers false.
    pub fn add_task(&mut self, task: PlacedTask) -> bool {
        let Some(slot) = self.slot_of(&task.instance) else { return false };
        if self.tasks.contains_key(&task.id) {
            return false;
        }
        self.occupy(slot, &task.group, &task.demand);
        if task.running {
            self.count_running(slot, 1);
        }
        self.tasks.insert(task.id.clone(), task);
        true
    }

    /// Frees what a task took: when its desired status becomes STOPPED.
    pub fn remove_task(&mut self, id: &TaskId) -> Option<PlacedTask> {
        let task = self.tasks.remove(id)?;
        if let Some(slot) = self.slot_of(&task.instance) {
            self.vacate(slot, &task.group, &task.demand);
            if task.running {
                self.count_running(slot, -1);
            }
        }
        Some(task)
    }

    pub fn task(&self, id: &TaskId) -> Option<&PlacedTask> {
        self.tasks.get(id)
    }

    pub fn tasks(&self) -> impl Iterator<Item = &PlacedTask> {
        self.tasks.values()
    }

    pub(crate) fn slot_of(&self, id: &InstanceId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.members.iter().enumerate().filter(|(_, member)| member.is_some()).map(|(slot, _)| slot)
    }

    pub(crate) fn id_of(&self, slot: Slot) -> InstanceId {
        self.member(slot).instance.id.clone()
    }

    pub(crate) fn member(&self, slot: Slot) -> &Member {
        self.members[slot].as_ref().expect("slots in the indexes are occupied")
    }

    fn member_mut(&mut self, slot: Slot) -> &mut Member {
        self.members[slot].as_mut().expect("slots in the indexes are occupied")
    }

    pub(crate) fn group(&self, group: &Group) -> Option<&GroupTasks> {
        self.groups.get(group)
    }

    /// Takes a task's resources from an instance.
    pub(crate) fn occupy(&mut self, slot: Slot, group: &Group, demand: &Demand) {
        let member = self.member_mut(slot);
        let (count, zone) = (member.take(group, demand), member.zone());
        self.move_in_group(slot, group, &zone, count - 1, count);
        self.refresh_room(slot, &zone);
    }

    /// Gives them back.
    pub(crate) fn vacate(&mut self, slot: Slot, group: &Group, demand: &Demand) {
        let member = self.member_mut(slot);
        let (Some(count), zone) = (member.give_back(group, demand), member.zone()) else { return };
        self.move_in_group(slot, group, &zone, count + 1, count);
        self.refresh_room(slot, &zone);
    }

    fn add_instance(&mut self, instance: Instance) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.by_id.insert(instance.id.clone(), slot);
        self.members[slot] = Some(Member::new(instance));
        self.enter_pools(slot);
    }

    fn change_instance(&mut self, slot: Slot, instance: Instance) {
        let id = instance.id.clone();
        let on_it = self.tasks.values().filter(|task| task.instance == id);
        let member = self.members[slot].as_mut().expect("slots in the indexes are occupied");
        member.change(instance, on_it.map(|task| &task.demand));
    }

    fn count_running(&mut self, slot: Slot, by: i32) {
        self.member_mut(slot).count_running(by);
    }

    fn move_in_group(&mut self, slot: Slot, group: &Group, zone: &Zone, from: u32, to: u32) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.clone(), GroupTasks::default());
        }
        let tasks = self.groups.get_mut(group).expect("was just made sure of");
        tasks.all.move_slot(slot, from, to);
        if !tasks.zones.contains_key(zone) {
            tasks.zones.insert(zone.clone(), Spread::default());
        }
        tasks.zones.get_mut(zone).expect("was just made sure of").move_slot(slot, from, to);
        if tasks.all.tasks == 0 {
            self.groups.remove(group);
        }
    }

    fn refresh_room(&mut self, slot: Slot, zone: &Zone) {
        let room = self.member(slot).room();
        self.all.update(slot, room);
        if let Some(pool) = self.zones.get_mut(zone) {
            pool.update(slot, room);
        }
    }

    fn enter_pools(&mut self, slot: Slot) {
        let member = self.member(slot);
        let (room, zone, groups) = (member.room(), member.zone(), member.groups().clone());
        self.all.insert(slot, room);
        self.zones.entry(zone.clone()).or_default().insert(slot, room);
        for (group, count) in groups {
            self.move_in_group(slot, &group, &zone, 0, count);
        }
    }

    fn leave_pools(&mut self, slot: Slot) {
        let member = self.member(slot);
        let (zone, groups) = (member.zone(), member.groups().clone());
        self.all.remove(slot);
        if let Some(pool) = self.zones.get_mut(&zone) {
            pool.remove(slot);
            if pool.len() == 0 {
                self.zones.remove(&zone);
            }
        }
        for (group, count) in groups {
            self.move_in_group(slot, &group, &zone, count, 0);
        }
    }
}
