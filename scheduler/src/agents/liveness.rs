//! When each instance was last heard of, by a monotonic clock.
//!
//! Kept in memory: after a start every instance counts as heard at the moment when agents could connect.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use registry_runtime::Clock;

use crate::ids::InstanceId;

#[derive(Clone)]
pub(crate) struct Liveness {
    clock: Clock,
    heard: Arc<Mutex<Heard>>,
}

struct Heard {
    since: Duration,
    instances: HashMap<InstanceId, Duration>,
}

impl Liveness {
    pub(crate) fn new(clock: Clock) -> Self {
        let heard = Heard { since: clock.monotonic(), instances: HashMap::new() };
        Self { clock, heard: Arc::new(Mutex::new(heard)) }
    }

    /// From now on agents can connect: nobody was silent before.
    pub(crate) fn begin(&self) {
        self.heard.lock().since = self.clock.monotonic();
    }

    pub(crate) fn touch(&self, instance: &InstanceId) {
        let now = self.clock.monotonic();
        let mut heard = self.heard.lock();
        match heard.instances.get_mut(instance) {
            Some(last) => *last = now,
            None => {
                heard.instances.insert(instance.clone(), now);
            }
        }
    }

    /// Whether it has said anything since agents could connect.
    pub(crate) fn was_heard(&self, instance: &InstanceId) -> bool {
        let heard = self.heard.lock();
        heard.instances.get(instance).is_some_and(|last| *last >= heard.since)
    }

    pub(crate) fn silence(&self, instance: &InstanceId) -> Duration {
        let heard = self.heard.lock();
        let last = heard.instances.get(instance).copied().unwrap_or(heard.since).max(heard.since);
        self.clock.monotonic().saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use super::Liveness;
    use crate::ids::InstanceId;
    use registry_runtime::Clock;
    use std::time::Duration;

    #[test]
    fn silence_counts_from_the_start_or_the_last_word() {
        let clock = Clock::manual(0);
        let liveness = Liveness::new(clock.clone());
        let (one, other) = (InstanceId::new("a"), InstanceId::new("b"));
        clock.advance(Duration::from_secs(100));
        liveness.begin();
        clock.advance(Duration::from_secs(10));
        assert!(!liveness.was_heard(&one));
        liveness.touch(&one);
        assert!(liveness.was_heard(&one));
        clock.advance(Duration::from_secs(5));
        assert_eq!(
            (liveness.silence(&one), liveness.silence(&other)),
            (Duration::from_secs(5), Duration::from_secs(15))
        );
    }
}
