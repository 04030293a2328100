//! The lease of this host: how long the scheduler waits for a silent host before it replaces its tasks.
//!
//! By default tasks run on while the scheduler is away. Where the operator wants never two of one task, the
//! agent stops its tasks when the lease has run out, as the scheduler counts on.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use registry_runtime::Clock;

use crate::manager::Manager;

const SILENCE: Duration = Duration::from_secs(60);
const SHORTEST_SILENCE: Duration = Duration::from_secs(15);

pub(super) struct Lease {
    clock: Clock,
    /// Monotonic milliseconds of the last sign of the scheduler.
    heard_ms: AtomicI64,
    /// Zero while it is not known.
    lease_ms: AtomicI64,
}

impl Lease {
    /// `seconds` as the scheduler said in an earlier run of the agent; the time begins now.
    pub(super) fn new(clock: Clock, seconds: Option<i64>) -> Self {
        let lease = Self { heard_ms: AtomicI64::new(0), lease_ms: AtomicI64::new(0), clock };
        lease.set(seconds);
        lease.heard();
        lease
    }

    pub(super) fn set(&self, seconds: Option<i64>) {
        self.lease_ms.store(seconds.unwrap_or(0).saturating_mul(1000), Ordering::SeqCst);
    }

    /// How long a connection may be silent: heartbeats come several times within a lease.
    pub(super) fn silence(&self) -> Duration {
        match u64::try_from(self.lease_ms.load(Ordering::SeqCst)) {
            Ok(lease_ms) if lease_ms > 0 => Duration::from_millis(lease_ms).clamp(SHORTEST_SILENCE, SILENCE),
            _ => SILENCE,
        }
    }

    pub(super) fn heard(&self) {
        self.heard_ms.store(self.monotonic_ms(), Ordering::SeqCst);
    }

    /// Stops the host's tasks whenever the lease has run out.
    pub(super) async fn watch(&self, manager: &Manager) {
        let mut fenced_at_ms = i64::MIN;
        loop {
            let (heard_ms, lease_ms) =
                (self.heard_ms.load(Ordering::SeqCst), self.lease_ms.load(Ordering::SeqCst));
            let left_ms = heard_ms + lease_ms - self.monotonic_ms();
            if lease_ms > 0 && left_ms <= 0 && fenced_at_ms < heard_ms {
                fenced_at_ms = heard_ms;
                manager.fence();
            }
            let pause = if lease_ms > 0 { left_ms.clamp(100, 1000) } else { 1000 };
            tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap_or(1000))).await;
        }
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
    }
}
