//! A decision that allows touches no allocator. A binary of its own, because the allocator is counted.

#[path = "../../benches/decision/fixture.rs"]
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use policies::{PolicySet, Principal, Request, evaluate};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged.
#[allow(unsafe_code, reason = "a global allocator cannot be written without it")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test here: another one's allocations would be counted too.
#[test]
fn allowing_allocates_nothing() {
    let identity = fixture::policies();
    let context = fixture::context();
    let principal = Principal::User { account: fixture::ACCOUNT, arn: fixture::USER };
    let request = Request {
        action: "ecr:PutImage",
        resource: fixture::REPOSITORY,
        resource_account: fixture::ACCOUNT,
        principal: &principal,
        context: &context,
    };
    let set = PolicySet { identity: &identity, boundary: &identity[19..], ..PolicySet::default() };
    // The test harness allocates in a thread of its own, now and then: one quiet run is the proof.
    let quiet = (0..10).any(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let decision = evaluate(&request, &set);
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert!(decision.allowed());
        after == before
    });
    assert!(quiet, "each of ten decisions allocated");
}
