//! How fast work in the background may read: a bound in bytes a second that all of it shares.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may be taken at once, before the rate counts.
const BURST: Duration = Duration::from_millis(250);

/// A rate, shared by whoever takes from it.
pub struct Pace {
    /// 0: no bound.
    bytes_per_second: u64,
    /// Until when everything taken so far is paid for.
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub fn unbounded() -> Self {
        Self::new(0)
    }

    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_until: Mutex::new(None) }
    }

    /// Waits until `bytes` may be read.
    pub async fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let now = Instant::now();
        let begin = {
            let mut paid_until = self.paid_until.lock();
            let begin = paid_until.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
            *paid_until = Some(begin + cost);
            begin
        };
        if begin > now {
            sleep_until(begin).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_takes_its_time() {
        let pace = Pace::new(1_000_000);
        let start = Instant::now();
        for _ in 0..100 {
            pace.take(100_000).await;
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(9_500)..Duration::from_millis(10_100)).contains(&took), "{took:?}");
        Pace::unbounded().take(u64::MAX).await;
        assert_eq!(start.elapsed(), took);
    }
}
