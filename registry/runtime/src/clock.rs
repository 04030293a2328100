//! The time, as a value that is passed in.
//!
//! Tests use a clock that stands still until it is advanced. Invariant: `monotonic` never goes back, whatever
//! happens to the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant },
    Manual(Arc<Manual>),
}

/// A clock of tests: what passed, and how far the wall clock is from it.
#[derive(Debug)]
struct Manual {
    passed_ms: AtomicI64,
    wall_ms: AtomicI64,
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Clock {
        Clock(Source::System { started: Instant::now() })
    }

    /// A clock that stands at `start_ms` until it is advanced. Clones share it.
    pub fn manual(start_ms: i64) -> Clock {
        let manual = Manual { passed_ms: AtomicI64::new(0), wall_ms: AtomicI64::new(start_ms) };
        Clock(Source::Manual(Arc::new(manual)))
    }

    /// Milliseconds since the Unix epoch. May jump with the wall clock.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Source::Manual(manual) => manual.wall_ms.load(Ordering::SeqCst),
        }
    }

    /// Time since the clock was made; for intervals, which must not follow a jump of the wall clock.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual(manual) => {
                let passed_ms = manual.passed_ms.load(Ordering::SeqCst);
                Duration::from_millis(u64::try_from(passed_ms).unwrap_or_default())
            }
        }
    }

    /// Moves a manual clock forward; the system's clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            manual.passed_ms.fetch_add(by_ms, Ordering::SeqCst);
            manual.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Sets a manual wall clock forward or back, as a correction of a machine's clock does; no time passes.
    pub fn jump(&self, by_ms: i64) {
        if let Source::Manual(manual) = &self.0 {
            manual.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_advanced() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_000, Duration::ZERO));
        other.advance(Duration::from_secs(2));
        assert_eq!((clock.now_ms(), clock.monotonic()), (3_000, Duration::from_secs(2)));
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_no_time_that_passes() {
        let clock = Clock::manual(5_000);
        clock.advance(Duration::from_secs(1));
        clock.jump(-3_000);
        assert_eq!((clock.now_ms(), clock.monotonic()), (3_000, Duration::from_secs(1)));
    }

    #[test]
    fn system_clock_knows_the_century() {
        assert!(Clock::system().now_ms() > 1_700_000_000_000);
    }
}
