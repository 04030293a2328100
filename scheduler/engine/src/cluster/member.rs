//! One instance with what is left on it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Instance, InstanceStatus, Zone};
use crate::ids::Group;
use crate::placement::ZONE_ATTRIBUTE;
use crate::pool::Room;
use crate::query::Subject;
use crate::resources::{Demand, Ports, Remaining};

/// An instance with its tasks.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance: Instance,
    remaining: Remaining,
    /// Ports with their number of holders: tasks that were found running may share one by mistake.
    tcp: BTreeMap<u16, u32>,
    udp: BTreeMap<u16, u32>,
    /// Tasks by group. Most instances hold few groups.
    groups: BTreeMap<Group, u32>,
    running_tasks: u32,
}

impl Member {
    pub(super) fn new(instance: Instance) -> Member {
        let mut member = Member {
            instance,
            remaining: Remaining::default(),
            tcp: BTreeMap::new(),
            udp: BTreeMap::new(),
            groups: BTreeMap::new(),
            running_tasks: 0,
        };
        member.start_from_registered();
        member
    }

    pub(crate) fn remaining(&self) -> &Remaining {
        &self.remaining
    }

    /// The groups of its tasks with their numbers.
    pub(super) fn groups(&self) -> &BTreeMap<Group, u32> {
        &self.groups
    }

    pub(crate) fn tasks_of(&self, group: &Group) -> u32 {
        self.groups.get(group).copied().unwrap_or(0)
    }

    /// What the query language sees of it.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { instance: &self.instance, groups: &self.groups, running_tasks: self.running_tasks }
    }

    pub(crate) fn zone(&self) -> Zone {
        self.instance.attributes.get(ZONE_ATTRIBUTE).cloned().flatten()
    }

    /// Takes a task's resources; the number of tasks of its group that are now there.
    pub(super) fn take(&mut self, group: &Group, demand: &Demand) -> u32 {
        self.subtract(demand);
        let count = self.groups.entry(group.clone()).or_insert(0);
        *count += 1;
        *count
    }

    /// Gives them back; the number that is left, or `None` when there was no task of the group.
    pub(super) fn give_back(&mut self, group: &Group, demand: &Demand) -> Option<u32> {
        let count = self.groups.get_mut(group)?;
        *count -= 1;
        let count = *count;
        if count == 0 {
            self.groups.remove(group);
        }
        self.remaining.cpu += i64::from(demand.cpu);
        self.remaining.memory += i64::from(demand.memory);
        self.remaining.gpus += i64::from(demand.gpus);
        release(&mut self.tcp, &demand.ports.tcp, &mut self.remaining.ports.tcp);
        release(&mut self.udp, &demand.ports.udp, &mut self.remaining.ports.udp);
        Some(count)
    }

    /// Takes over what the instance registered anew; if its resources changed, what remains is counted anew
    /// from the tasks that are there.
    pub(super) fn change<'a>(&mut self, instance: Instance, tasks: impl Iterator<Item = &'a Demand>) {
        let changed = self.instance.registered != instance.registered;
        self.instance = instance;
        if changed {
            self.start_from_registered();
            tasks.for_each(|demand| self.subtract(demand));
        }
    }

    pub(super) fn count_running(&mut self, by: i32) {
        self.running_tasks = self.running_tasks.saturating_add_signed(by);
    }

    fn start_from_registered(&mut self) {
        let registered = &self.instance.registered;
        let (cpu, memory, gpus) = (registered.cpu.into(), registered.memory.into(), registered.gpus.into());
        let reserved = registered.reserved.clone();
        self.remaining = Remaining { cpu, memory, gpus, ports: Ports::default() };
        self.tcp.clear();
        self.udp.clear();
        self.hold(&reserved);
    }

    fn subtract(&mut self, demand: &Demand) {
        self.remaining.cpu -= i64::from(demand.cpu);
        self.remaining.memory -= i64::from(demand.memory);
        self.remaining.gpus -= i64::from(demand.gpus);
        self.hold(&demand.ports);
    }

    fn hold(&mut self, ports: &Ports) {
        for (holders, ports) in [(&mut self.tcp, &ports.tcp), (&mut self.udp, &ports.udp)] {
            for &port in ports {
                *holders.entry(port).or_insert(0) += 1;
            }
        }
        self.remaining.ports.add(ports);
    }

    /// Room for the indexes: none where no task may go.
    pub(super) fn room(&self) -> Room {
        if self.instance.status == InstanceStatus::Active && self.instance.agent_connected {
            Room { cpu: self.remaining.cpu, memory: self.remaining.memory }
        } else {
            Room::NONE
        }
    }
}

fn release(holders: &mut BTreeMap<u16, u32>, ports: &BTreeSet<u16>, taken: &mut BTreeSet<u16>) {
    for port in ports {
        match holders.get_mut(port) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                holders.remove(port);
                taken.remove(port);
            }
        }
    }
}
