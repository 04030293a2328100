//! How often one caller may ask: a steady rate, and a burst on top of it.
//!
//! Callers that ask no more are forgotten, so that memory is bounded by who asks, not by who ever asked.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// How many seconds of the steady rate may be asked for at once.
const BURST_SECONDS: u32 = 10;

/// After so many questions those are forgotten who have asked nothing for a while.
const FORGET_EVERY: u32 = 1 << 16;

/// Counts the requests of callers, each known by a `K`.
pub struct Throttle<K: Clone + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    asked: AtomicU32,
}

impl<K: Clone + Eq + Hash> Throttle<K> {
    pub fn new(per_second: NonZeroU32) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::new(BURST_SECONDS).unwrap_or(NonZeroU32::MIN));
        let limiter = RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        Self { limiter, clock: DefaultClock::default(), asked: AtomicU32::new(0) }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// How long to wait before the next one, when there were too many.
    pub fn ask(&self, caller: &K) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(caller).map_err(|early| early.wait_time_from(self.clock.now()))
    }
}

/// What counts as one client: an address, or for IPv6 the /64 that one customer gets.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::{FORGET_EVERY, Throttle, network_of};

    #[test]
    fn whoever_asks_too_often_is_told_how_long_to_wait() {
        let throttle = Throttle::new(NonZeroU32::new(2).unwrap());
        let refused = (0..100).filter(|_| throttle.ask(&"a").is_err()).count();
        assert!((75..=80).contains(&refused), "{refused}");
        let wait = throttle.ask(&"a").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(throttle.ask(&"b").is_ok(), "others are not counted with it");
    }

    #[test]
    fn those_who_ask_no_more_are_forgotten() {
        let throttle = Throttle::new(NonZeroU32::MAX);
        for caller in 0..FORGET_EVERY * 2 {
            throttle.ask(&caller).unwrap();
        }
        assert!(throttle.limiter.len() < FORGET_EVERY as usize * 3 / 2, "{}", throttle.limiter.len());
    }

    #[test]
    fn one_customer_is_one_client() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::2:3"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.2"), network("192.0.2.1"));
    }
}
