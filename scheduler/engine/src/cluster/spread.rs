//! How the tasks of one group lie over the instances.
//!
//! Invariant: a slot stands under its number of tasks of the group, and under none when it has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Slot, Zone};

/// Where the tasks of one group are, in the whole cluster or in one zone.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    pub(crate) tasks: u32,
    /// How many slots have a task of the group.
    pub(crate) slots: usize,
    /// Slots by their number of tasks of the group, from 1.
    pub(crate) by_count: BTreeMap<u32, BTreeSet<Slot>>,
}

impl Spread {
    pub(super) fn move_slot(&mut self, slot: Slot, from: u32, to: u32) {
        if let Some(slots) = self.by_count.get_mut(&from) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_count.remove(&from);
            }
        }
        if to > 0 {
            self.by_count.entry(to).or_default().insert(slot);
        }
        self.tasks = self.tasks - from + to;
        self.slots = self.slots + usize::from(from == 0 && to > 0) - usize::from(from > 0 && to == 0);
    }
}

#[derive(Debug, Default)]
pub(crate) struct GroupTasks {
    pub(crate) all: Spread,
    pub(crate) zones: HashMap<Zone, Spread>,
}
