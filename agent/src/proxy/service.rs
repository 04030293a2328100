//! One service's port on this host: its listeners, and the tasks behind it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use scheduler_protocol::ProxyProtocol;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

use super::balancer::{Balancer, Claim, Load, Target};

/// Connections of one service that wait for a task: the places of others are not for them.
const MOST_WAITING: usize = 512;

pub(super) struct Service {
    pub(super) port: u16,
    balancer: Mutex<Balancer>,
    proxy_protocol: Mutex<Option<ProxyProtocol>>,
    /// Marked whenever the targets are other ones, for connections that wait for one.
    changed: watch::Sender<()>,
    /// Places for connections that no task takes at the moment.
    waiting: Arc<Semaphore>,
    listeners: Mutex<Vec<AbortHandle>>,
    /// Why it cannot be listened on, by address.
    failures: Mutex<BTreeMap<IpAddr, String>>,
}

impl Service {
    pub(super) fn new(port: u16) -> Self {
        Self {
            port,
            balancer: Mutex::default(),
            proxy_protocol: Mutex::default(),
            changed: watch::Sender::new(()),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            listeners: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub(super) fn keep(&self, listener: AbortHandle) {
        self.listeners.lock().push(listener);
    }

    pub(super) fn set_proxy_protocol(&self, version: Option<ProxyProtocol>) {
        *self.proxy_protocol.lock() = version;
    }

    pub(super) fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        *self.proxy_protocol.lock()
    }

    /// Returns the loads of the targets that are gone.
    pub(super) fn set_targets(&self, targets: Vec<Target>) -> Vec<Arc<Load>> {
        let gone = self.balancer.lock().set(targets);
        self.changed.send_replace(());
        gone
    }

    /// A place among the connections that wait for a task; none when there are too many of them already.
    pub(super) fn wait_for_task(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }

    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn claim(&self, tried: &[SocketAddr]) -> Option<Claim> {
        self.balancer.lock().claim(tried, Instant::now())
    }

    pub(super) fn note(&self, address: SocketAddr, connected: bool) {
        self.balancer.lock().note(address, connected, Instant::now());
    }

    /// Ends the listeners; connections go on. Returns the loads of all targets.
    pub(super) fn close(&self) -> Vec<Arc<Load>> {
        self.stop_listening();
        self.set_targets(Vec::new())
    }

    pub(super) fn stop_listening(&self) {
        for listener in self.listeners.lock().drain(..) {
            listener.abort();
        }
    }

    /// True when that is news.
    pub(super) fn set_failure(&self, address: IpAddr, failure: Option<String>) -> bool {
        let mut failures = self.failures.lock();
        let before = match failure.clone() {
            Some(why) => failures.insert(address, why),
            None => failures.remove(&address),
        };
        before != failure
    }

    pub(super) fn failure(&self) -> Option<String> {
        let failures = self.failures.lock();
        let texts: Vec<&str> = failures.values().map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}
