//! Runs closures twice at random, for tests of the rooms above.
//!
//! A closure may run again whenever a group of transactions is rolled back, which is rare; a closure with side
//! effects would pass every ordinary test. Invariant: the first run leaves nothing in the database.

use parking_lot::Mutex;

/// A coin, repeatable from its seed; absent in production.
#[derive(Default)]
pub(crate) struct Rerun {
    state: Option<Mutex<u64>>,
}

impl Rerun {
    pub(crate) fn seeded(seed: u64) -> Rerun {
        Rerun { state: Some(Mutex::new(seed | 1)) }
    }

    /// Whether the closure at hand runs once more.
    pub(crate) fn toss(&self) -> bool {
        let Some(state) = &self.state else { return false };
        let mut state = state.lock();
        // xorshift64: good enough for a coin, and the same on every run with the same seed.
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state & 1 == 1
    }
}
