//! Which instances have a control connection at this server. The newest one counts.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ids::{ClusterName, InstanceId};
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<InstanceId, Handle>,
}

#[derive(Clone)]
struct Handle {
    number: u64,
    nudged: Arc<Notify>,
    closed: CancellationToken,
}

/// A session's own end of its entry; leaving it takes the entry away.
pub(crate) struct Registration {
    sessions: Sessions,
    instance: InstanceId,
    handle: Handle,
}

impl Sessions {
    /// Enters a session. One that the same instance had before is closed.
    pub(crate) fn register(&self, instance: &InstanceId) -> Registration {
        let mut table = self.0.lock();
        table.next += 1;
        let handle = Handle { number: table.next, nudged: Arc::default(), closed: CancellationToken::new() };
        if let Some(before) = table.open.insert(instance.clone(), handle.clone()) {
            before.closed.cancel();
        }
        Registration { sessions: self.clone(), instance: instance.clone(), handle }
    }

    /// There is something to deliver to the instance.
    pub(crate) fn nudge(&self, instance: &InstanceId) {
        if let Some(handle) = self.0.lock().open.get(instance) {
            handle.nudged.notify_one();
        }
    }

    /// There is something to tell every agent of a cluster.
    pub(crate) fn nudge_all(&self, state: &State, cluster: &ClusterName) {
        let table = self.0.lock();
        for instance in state.instances_of(cluster) {
            if let Some(handle) = table.open.get(&instance.id) {
                handle.nudged.notify_one();
            }
        }
    }

    pub(crate) fn close(&self, instance: &InstanceId) {
        if let Some(handle) = self.0.lock().open.get(instance) {
            handle.closed.cancel();
        }
    }
}

impl Registration {
    pub(crate) fn nudged(&self) -> Arc<Notify> {
        Arc::clone(&self.handle.nudged)
    }

    pub(crate) fn closed(&self) -> CancellationToken {
        self.handle.closed.clone()
    }

    /// Whether no newer session has taken over.
    pub(crate) fn is_current(&self) -> bool {
        let table = self.sessions.0.lock();
        table.open.get(&self.instance).is_some_and(|handle| handle.number == self.handle.number)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.sessions.0.lock();
        if table.open.get(&self.instance).is_some_and(|handle| handle.number == self.handle.number) {
            table.open.remove(&self.instance);
        }
    }
}
