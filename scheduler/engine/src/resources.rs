//! What instances have and tasks take: CPU units, MiB of memory, GPUs and host ports, all integers.
//!
//! Invariant: nothing is overcommitted; a port is held by one task.

use std::collections::BTreeSet;

/// Ports an instance may have taken or reserved, of both protocols together.
pub const MAX_PORTS: usize = 100;

/// Host ports by protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports {
    pub tcp: BTreeSet<u16>,
    pub udp: BTreeSet<u16>,
}

impl Ports {
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    pub fn len(&self) -> usize {
        self.tcp.len() + self.udp.len()
    }

    pub fn is_disjoint(&self, other: &Ports) -> bool {
        self.tcp.is_disjoint(&other.tcp) && self.udp.is_disjoint(&other.udp)
    }

    pub(crate) fn add(&mut self, other: &Ports) {
        self.tcp.extend(&other.tcp);
        self.udp.extend(&other.udp);
    }
}

/// What an instance registered. `reserved` are ports that no task may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// 1024 a vCPU.
    pub cpu: u32,
    /// MiB.
    pub memory: u32,
    pub gpus: u32,
    pub reserved: Ports,
}

/// What one task takes, as ECS counts it: its own `cpu` and `memory` if set, else the sums over its containers
/// (`memoryReservation` before `memory`); static host ports only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    pub cpu: u32,
    pub memory: u32,
    pub gpus: u32,
    pub ports: Ports,
}

/// What is left on an instance. `ports` are the ones in use or reserved, as ECS reports them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remaining {
    /// Below zero only when an instance registered less than its tasks take, after a change of the machine.
    pub cpu: i64,
    pub memory: i64,
    pub gpus: i64,
    pub ports: Ports,
}
