//! How many connections one address holds, so that one stranger never takes every place.
//!
//! Counted by /64 for IPv6, which is what one customer gets. Loopback and proxies speak for many and are not
//! counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::throttle::network_of;

/// The connections of every address.
#[derive(Clone)]
pub(super) struct Crowd {
    limit: usize,
    shared: Arc<[IpAddr]>,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection, counted for as long as it is held.
pub(super) struct Guest {
    counted: Option<(Crowd, IpAddr)>,
}

impl Crowd {
    pub(super) fn new(limit: usize, shared: &[IpAddr]) -> Self {
        Self { limit, shared: shared.into(), held: Arc::default() }
    }

    /// Counts a connection of `address`; `None` when it has enough of them.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Guest> {
        let address = address.to_canonical();
        if address.is_loopback() || self.shared.contains(&address) {
            return Some(Guest { counted: None });
        }
        let network = network_of(address);
        let mut held = self.held.lock();
        let count = held.entry(network).or_insert(0);
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Guest { counted: Some((self.clone(), network)) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some((crowd, network)) = &self.counted else { return };
        let mut held = crowd.held.lock();
        if let Some(count) = held.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                held.remove(network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Crowd, Guest};

    #[test]
    fn an_address_holds_so_many_and_no_more() {
        let crowd = Crowd::new(2, &["192.0.2.9".parse().unwrap()]);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let enough = |address: &str| enter(address).is_none();
        let first = enter("192.0.2.1");
        let _second = enter("::ffff:192.0.2.1");
        assert!(enough("192.0.2.1") && !enough("192.0.2.2"));
        drop(first);
        assert!(!enough("192.0.2.1"));

        let _six: Vec<Option<Guest>> = vec![enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(enough("2001:db8::3") && !enough("2001:db8:0:1::3"));

        for shared in ["127.0.0.1", "::1", "192.0.2.9"] {
            let many: Vec<_> = (0..10).filter_map(|_| enter(shared)).collect();
            assert_eq!(many.len(), 10, "{shared}");
        }
        assert_eq!(crowd.held.lock().len(), 2, "who left is forgotten");
    }
}
