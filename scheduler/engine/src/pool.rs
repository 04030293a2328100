//! Instances ordered for a search by what is left on them.
//!
//! A tree over the largest rooms finds the next instance where a task fits in about a logarithm of their
//! number, however many are full; two ordered sets give the tightest fit. Invariant: the room known here is the
//! room in the cluster, or none for an instance that takes no tasks.

use std::collections::{BTreeSet, HashMap};

use crate::cluster::Slot;
use crate::placement::PackedResource;

/// CPU units and MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
}

impl Room {
    /// Less than any demand.
    pub(crate) const NONE: Room = Room { cpu: -1, memory: -1 };

    fn holds(self, need: Room) -> bool {
        self.cpu >= need.cpu && self.memory >= need.memory
    }

    fn max(self, other: Room) -> Room {
        Room { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    fn get(self, resource: PackedResource) -> i64 {
        match resource {
            PackedResource::Cpu => self.cpu,
            PackedResource::Memory => self.memory,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Slots by position; positions are dense.
    slots: Vec<Slot>,
    positions: HashMap<Slot, usize>,
    /// A binary tree in an array: node n has children 2n and 2n+1, leaves begin at `leaves`. A node holds the
    /// largest CPU and the largest memory beneath it, perhaps of two instances.
    tree: Vec<Room>,
    leaves: usize,
    by_cpu: BTreeSet<(i64, Slot)>,
    by_memory: BTreeSet<(i64, Slot)>,
}

impl Pool {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn insert(&mut self, slot: Slot, room: Room) {
        if self.slots.len() == self.leaves {
            self.grow();
        }
        let position = self.slots.len();
        self.slots.push(slot);
        self.positions.insert(slot, position);
        self.by_cpu.insert((room.cpu, slot));
        self.by_memory.insert((room.memory, slot));
        self.set_leaf(position, room);
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        let Some(position) = self.positions.remove(&slot) else { return };
        let room = self.tree[self.leaves + position];
        self.by_cpu.remove(&(room.cpu, slot));
        self.by_memory.remove(&(room.memory, slot));
        let last = self.slots.len() - 1;
        let last_room = self.tree[self.leaves + last];
        self.slots.swap_remove(position);
        self.set_leaf(last, Room::NONE);
        if position != last {
            self.positions.insert(self.slots[position], position);
            self.set_leaf(position, last_room);
        }
    }

    pub(crate) fn update(&mut self, slot: Slot, room: Room) {
        let Some(&position) = self.positions.get(&slot) else { return };
        let before = self.tree[self.leaves + position];
        if before.cpu != room.cpu {
            self.by_cpu.remove(&(before.cpu, slot));
            self.by_cpu.insert((room.cpu, slot));
        }
        if before.memory != room.memory {
            self.by_memory.remove(&(before.memory, slot));
            self.by_memory.insert((room.memory, slot));
        }
        if before != room {
            self.set_leaf(position, room);
        }
    }

    /// The first slot with room that is accepted, looking from position `start` on and then from the beginning.
    pub(crate) fn find(
        &self,
        start: usize,
        need: Room,
        accept: &mut dyn FnMut(Slot) -> bool,
    ) -> Option<Slot> {
        if self.slots.is_empty() {
            return None;
        }
        let start = start % self.slots.len();
        self.find_in(1, 0, self.leaves, start..self.slots.len(), need, accept)
            .or_else(|| self.find_in(1, 0, self.leaves, 0..start, need, accept))
    }

    /// Slots with at least `need` of a resource, the tightest first, each with what it has.
    pub(crate) fn tightest(
        &self,
        resource: PackedResource,
        need: Room,
    ) -> impl Iterator<Item = (i64, Slot)> + '_ {
        let order = match resource {
            PackedResource::Cpu => &self.by_cpu,
            PackedResource::Memory => &self.by_memory,
        };
        order.range((need.get(resource), 0)..).copied()
    }

    fn find_in(
        &self,
        node: usize,
        first: usize,
        width: usize,
        range: std::ops::Range<usize>,
        need: Room,
        accept: &mut dyn FnMut(Slot) -> bool,
    ) -> Option<Slot> {
        if first >= range.end || first + width <= range.start || !self.tree[node].holds(need) {
            return None;
        }
        if width == 1 {
            let slot = self.slots[first];
            return accept(slot).then_some(slot);
        }
        let half = width / 2;
        self.find_in(2 * node, first, half, range.clone(), need, accept)
            .or_else(|| self.find_in(2 * node + 1, first + half, half, range, need, accept))
    }

    fn set_leaf(&mut self, position: usize, room: Room) {
        let mut node = self.leaves + position;
        self.tree[node] = room;
        while node > 1 {
            node /= 2;
            let largest = self.tree[2 * node].max(self.tree[2 * node + 1]);
            if self.tree[node] == largest {
                break;
            }
            self.tree[node] = largest;
        }
    }

    fn grow(&mut self) {
        let rooms: Vec<Room> = self.tree.get(self.leaves..).unwrap_or_default().to_vec();
        self.leaves = (self.leaves * 2).max(1);
        self.tree = vec![Room::NONE; self.leaves * 2];
        for (position, room) in rooms.into_iter().enumerate() {
            self.set_leaf(position, room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(cpu: i64, memory: i64) -> Room {
        Room { cpu, memory }
    }

    #[test]
    fn find_skips_what_has_no_room_and_goes_round() {
        let mut pool = Pool::default();
        for slot in 0..10 {
            pool.insert(slot, if slot % 3 == 0 { room(100, 100) } else { room(100, 1) });
        }
        let find = |pool: &Pool, start| pool.find(start, room(50, 50), &mut |_| true);
        assert_eq!([find(&pool, 0), find(&pool, 1), find(&pool, 9)], [Some(0), Some(3), Some(9)]);
        pool.update(9, Room::NONE);
        assert_eq!(find(&pool, 7), Some(0));
        for slot in [0, 3, 6] {
            pool.remove(slot);
        }
        assert_eq!(find(&pool, 0), None);
        assert_eq!(pool.len(), 7);
        assert_eq!(pool.find(0, room(50, 1), &mut |slot| slot == 8), Some(8));
    }

    #[test]
    fn tightest_comes_first() {
        let mut pool = Pool::default();
        for (slot, memory) in [30, 10, 20].into_iter().enumerate() {
            pool.insert(slot, room(1, memory));
        }
        let order: Vec<_> = pool.tightest(PackedResource::Memory, room(0, 15)).collect();
        assert_eq!(order, [(20, 2), (30, 0)]);
    }
}
