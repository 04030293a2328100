//! Buffers for the bulk of the data, used again and again.
//!
//! A megabyte fresh from the allocator costs 256 page faults, more than opening what is read into it.
//! The pool keeps a few idle buffers of two sizes; in use there are as many as there are readers and
//! writers.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::format::{HEADER_LEN, RECORD_STRIDE};

/// Records of one span: what one large buffer holds.
pub(crate) const SPAN_RECORDS: usize = 16;
/// Size of a large buffer: a header and a span of records.
pub(crate) const LARGE: usize = HEADER_LEN + SPAN_RECORDS * RECORD_STRIDE;
/// Size of a small buffer: one record.
pub(crate) const SMALL: usize = RECORD_STRIDE;

/// Idle buffers kept: 8 MiB of large ones, 2 MiB of small ones.
const IDLE_LARGE: usize = 8;
const IDLE_SMALL: usize = 32;

/// Idle buffers of both sizes.
#[derive(Default)]
pub(crate) struct Pool {
    large: Mutex<Vec<Vec<u8>>>,
    small: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A buffer of at least `len` bytes, with whatever it held before. Past [`LARGE`] (the footer of an
    /// upload in very many pieces) it is none of the pool's.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        if len > LARGE {
            return Buffer::new(len);
        }
        let (idle, size) = if len <= SMALL { (&self.small, SMALL) } else { (&self.large, LARGE) };
        let bytes = idle.lock().pop().unwrap_or_else(|| vec![0; size]);
        Buffer { bytes, pool: Some(Arc::clone(self)) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let (idle, most) = match bytes.len() {
            LARGE => (&self.large, IDLE_LARGE),
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
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// A buffer of its own, of exactly `len` zero bytes.
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], pool: None }
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
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{IDLE_LARGE, LARGE, Pool, SMALL};

    #[test]
    fn buffer_returns_with_the_last_of_its_bytes() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(SMALL + 1);
        assert_eq!(buffer.len(), LARGE);
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
}
