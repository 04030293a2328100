//! Waiting for a condition with a deadline; tests never just sleep.

use std::time::{Duration, Instant};

/// Polls `condition` until it gives a value; panics with `what` after 30 s.
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(30), what, condition)
}

/// Polls `condition` until it gives a value; panics with `what` when the time is over.
pub fn eventually_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
