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
    Manual { start_ms: i64, now_ms: Arc<AtomicI64> },
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Clock {
        Clock(Source::System { started: Instant::now() })
    }

    /// A clock that stands at `start_ms` until it is advanced. Clones share it.
    pub fn manual(start_ms: i64) -> Clock {
        Clock(Source::Manual { start_ms, now_ms: Arc::new(AtomicI64::new(start_ms)) })
    }

    /// Milliseconds since the Unix epoch. May jump with the wall clock.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Source::Manual { now_ms, .. } => now_ms.load(Ordering::SeqCst),
        }
    }

    /// Time since the clock was made; for intervals, which must not follow a jump of the wall clock.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual { start_ms, .. } => {
                Duration::from_millis(u64::try_from(self.now_ms() - start_ms).unwrap_or_default())
            }
        }
    }

    /// Moves a manual clock forward; the system's clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { now_ms, .. } = &self.0 {
            now_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
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
    fn system_clock_knows_the_century() {
        assert!(Clock::system().now_ms() > 1_700_000_000_000);
    }
}
