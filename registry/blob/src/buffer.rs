//! Buffers for the bulk of the data, used again and again.
//!
//! A megabyte fresh from the allocator costs 256 page faults, more than opening what is read into it.
//! Large buffers in use are counted: past a budget, readers and writers make do with one record at a time,
//! so that a crowd of slow clients holds little memory. A buffer of the pool begins at a page, as writing past the
//! page cache wants it.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::format::{HEADER_LEN, RECORD_STRIDE};

/// Records of one span: what one large buffer holds.
pub(crate) const SPAN_RECORDS: usize = 16;
/// What disks ask of addresses, offsets and lengths that are written past the page cache; some ask for less.
pub(crate) const PAGE: usize = 4096;
/// Size of a large buffer: a span of records, behind a header or what was left over of a page.
pub(crate) const LARGE: usize = PAGE + SPAN_RECORDS * RECORD_STRIDE;
/// Size of a small buffer: one record, behind the same.
pub(crate) const SMALL: usize = PAGE + RECORD_STRIDE;
const _: () = assert!(HEADER_LEN <= PAGE, "the header fits before the records");

/// Large buffers that may be in use before new spans are small ones, about as many MiB.
const LARGE_BUDGET: usize = 32;
/// Idle buffers kept: 8 MiB of large ones, 2 MiB of small ones.
const IDLE_LARGE: usize = 8;
const IDLE_SMALL: usize = 32;

/// Idle buffers of both sizes.
#[derive(Default)]
pub(crate) struct Pool {
    large: Mutex<Vec<Vec<u8>>>,
    small: Mutex<Vec<Vec<u8>>>,
    large_in_use: AtomicUsize,
}

impl Pool {
    /// Records that the next span of a reader may have.
    pub(crate) fn span_records(&self) -> u64 {
        if self.large_in_use.load(Ordering::Relaxed) < LARGE_BUDGET { SPAN_RECORDS as u64 } else { 1 }
    }

    /// A buffer for the next span of a writer.
    pub(crate) fn take_span(self: &Arc<Self>) -> Buffer {
        self.take(if self.span_records() > 1 { LARGE } else { SMALL })
    }

    /// A buffer of at least `len` bytes, with whatever it held before. Past [`LARGE`] (the footer of an
    /// upload in very many pieces) it is none of the pool's.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        if len > LARGE {
            return Buffer::new(len);
        }
        let (idle, size) = if len <= SMALL {
            (&self.small, SMALL)
        } else {
            self.large_in_use.fetch_add(1, Ordering::Relaxed);
            (&self.large, LARGE)
        };
        // Where an allocation begins is the allocator's choice: a page more has room for its first whole page.
        let bytes = idle.lock().pop().unwrap_or_else(|| vec![0; size + PAGE]);
        let address = bytes.as_ptr().addr();
        let start = address.next_multiple_of(PAGE) - address;
        Buffer { bytes, within: start..start + size, pool: Some(Arc::clone(self)) }
    }

    fn give_back(&self, bytes: Vec<u8>, size: usize) {
        let (idle, most) = match size {
            LARGE => {
                self.large_in_use.fetch_sub(1, Ordering::Relaxed);
                (&self.large, IDLE_LARGE)
            }
            SMALL => (&self.small, IDLE_SMALL),
            _ => return,
        };
        let mut idle = idle.lock();
        if idle.len() < most {
            idle.push(bytes);
        }
    }
}

/// A stretch of memory that goes back to its pool when dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    /// What is used of the bytes.
    within: Range<usize>,
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// A buffer of its own, of exactly `len` zero bytes.
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], within: 0..len, pool: None }
    }

    /// The bytes of `range`, shared from here on; the memory returns to the pool with the last of them.
    pub fn freeze(self, range: Range<usize>) -> Bytes {
        if range.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(self).slice(range)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.within.clone()]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.within.clone()]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(std::mem::take(&mut self.bytes), self.within.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{IDLE_LARGE, LARGE, LARGE_BUDGET, PAGE, Pool, SMALL};

    #[test]
    fn buffer_returns_with_the_last_of_its_bytes() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(SMALL + 1);
        assert_eq!(buffer.len(), LARGE);
        assert!(buffer.as_ptr().addr().is_multiple_of(PAGE));
        buffer[7] = 9;
        let bytes = buffer.freeze(7..9);
        let half = bytes.slice(0..1);
        drop(bytes);
        assert_eq!(pool.large.lock().len(), 0);
        assert_eq!(half[0], 9);
        drop(half);
        assert_eq!(pool.large.lock().len(), 1);
    }

    #[test]
    fn idle_buffers_are_bounded() {
        let pool = Arc::new(Pool::default());
        let many: Vec<_> = (0..IDLE_LARGE + 3).map(|_| pool.take(LARGE)).collect();
        drop(many);
        assert_eq!(pool.large.lock().len(), IDLE_LARGE);
    }

    #[test]
    fn past_the_budget_spans_are_small_until_buffers_come_back() {
        let pool = Arc::new(Pool::default());
        let mut large: Vec<_> = (0..LARGE_BUDGET).map(|_| pool.take_span()).collect();
        assert!(large.iter().all(|buffer| buffer.len() == LARGE));
        assert_eq!((pool.span_records(), pool.take_span().len()), (1, SMALL));
        drop(large.pop().unwrap().freeze(0..10));
        assert_eq!((pool.span_records(), pool.take_span().len()), (16, LARGE));
    }
}
