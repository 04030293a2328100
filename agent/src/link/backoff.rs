//! Pauses between attempts: growing, bounded, and jittered, so that hosts do not come back in step.

use std::time::Duration;

use registry_runtime::random_bytes;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
const GROWTH: f64 = 1.5;

pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST, longest: LONGEST }
    }

    /// For a single call that is repeated until it is heard.
    pub(super) fn of_submissions() -> Self {
        Self { next: Duration::from_millis(30), longest: Duration::from_secs(30) }
    }

    /// The next pause: between half of the present step and one and a half of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.next;
        self.next = step.mul_f64(GROWTH).min(self.longest);
        let random = f64::from(u16::from_be_bytes(random_bytes())) / f64::from(u16::MAX);
        step.mul_f64(0.5 + random)
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..30).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= Duration::from_millis(375));
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(15)));
        assert!(pauses[20..].windows(2).any(|pair| pair[0] != pair[1]));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(375));
    }
}
