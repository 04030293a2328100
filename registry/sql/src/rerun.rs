//! Runs closures twice at random, for tests of the rooms above.
//!
//! A closure may run again whenever a group of transactions is rolled back, which is rare; a closure with side
//! effects would pass every ordinary test. Invariant: the first run leaves nothing in the database.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// A coin, repeatable from its seed, and what was seen of the closures; absent in production.
#[derive(Default)]
pub(crate) struct Rerun {
    state: Option<Mutex<u64>>,
    walks: Mutex<BTreeSet<&'static str>>,
}

impl Rerun {
    pub(crate) fn seeded(seed: u64) -> Rerun {
        Rerun { state: Some(Mutex::new(seed | 1)), walks: Mutex::default() }
    }

    pub(crate) fn is_seeded(&self) -> bool {
        self.state.is_some()
    }

    /// Notes a statement that goes through a whole table, or a whole index.
    pub(crate) fn note_walk(&self, sql: &'static str) {
        self.walks.lock().insert(sql);
    }

    pub(crate) fn walks(&self) -> Vec<&'static str> {
        self.walks.lock().iter().copied().collect()
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
