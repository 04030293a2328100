//! An executor whose order is drawn: of all work that can go on, one piece at a time, by a seed.
//!
//! Work goes on until it lets others go first, as it does before each transaction and each operation of the store;
//! nothing else moves while it waits for an answer. So everything happens in the order that was drawn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// Work that waits for other work, not for an answer, is passed over after this.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longer than any answer takes.
const STUCK: Duration = Duration::from_secs(60);

/// Numbers from a seed (SplitMix64).
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    /// True once in `times`.
    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

struct Turn {
    server: usize,
    work: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
}

struct Flag {
    can_go_on: AtomicBool,
    /// Woken by itself: it lets others go first.
    has_yielded: AtomicBool,
    executor: Thread,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if thread::current().id() == self.executor.id() {
            self.has_yielded.store(true, Ordering::Release);
        }
        self.can_go_on.store(true, Ordering::Release);
        self.executor.unpark();
    }
}

/// Pieces of work, each of some server.
pub(super) struct Turns {
    pub(super) runtime: Runtime,
    turns: Vec<Turn>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: runtime.unwrap(), turns: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn begin(&mut self, server: usize, work: impl Future<Output = ()> + 'static) {
        let flag = Flag {
            can_go_on: AtomicBool::new(true),
            has_yielded: AtomicBool::new(false),
            executor: thread::current(),
        };
        self.turns.push(Turn { server, work: Box::pin(work), flag: Arc::new(flag) });
    }

    /// The server's process ends: what it had under way is never heard of again.
    pub(super) fn crash(&mut self, server: usize) {
        // Outside of the runtime, so that nothing tidies up after the dead.
        self.turns.retain(|turn| turn.server != server);
    }

    /// Lets one piece of work go on until it waits.
    pub(super) fn step(&mut self, draw: &mut Draw) {
        let began = Instant::now();
        let ready = loop {
            let can_go_on = |turn: &Turn| turn.flag.can_go_on.load(Ordering::Acquire);
            let ready: Vec<usize> = (0..self.turns.len()).filter(|at| can_go_on(&self.turns[*at])).collect();
            if !ready.is_empty() || self.turns.is_empty() {
                break ready;
            }
            assert!(began.elapsed() < STUCK, "nothing goes on");
            thread::park_timeout(PATIENCE);
        };
        let Some(at) = ready.get(draw.below(ready.len().max(1))) else { return };
        let turn = &mut self.turns[*at];
        let waker = Waker::from(Arc::clone(&turn.flag));
        loop {
            turn.flag.can_go_on.store(false, Ordering::Release);
            turn.flag.has_yielded.store(false, Ordering::Release);
            {
                let _inside = self.runtime.enter();
                if turn.work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    drop(self.turns.swap_remove(*at));
                    return;
                }
            }
            let asked = Instant::now();
            while !turn.flag.can_go_on.load(Ordering::Acquire) {
                if asked.elapsed() > PATIENCE {
                    return;
                }
                thread::park_timeout(PATIENCE);
            }
            if turn.flag.has_yielded.load(Ordering::Acquire) {
                return;
            }
        }
    }
}
