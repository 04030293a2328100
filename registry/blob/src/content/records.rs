//! Reading records: verified, in place, from whichever replica has them well.

use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::Pool;
use crate::cipher::Cipher;
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::format::runs::Runs;
use crate::format::{Layout, RECORD_OVERHEAD, record, record_offset};
use crate::replicate::readers::{ReadSet, Tried};

/// The records of one object.
pub(super) struct Records {
    pub(super) file_id: FileId,
    pub(super) layout: Layout,
    pub(super) runs: Runs,
    pub(super) readers: ReadSet,
}

impl Records {
    /// Where record `index` lies in the object, bytes.
    pub(super) fn stored(&self, index: u64) -> std::ops::Range<u64> {
        let start = record_offset(index);
        start..start + (self.layout.record_len(index) + RECORD_OVERHEAD) as u64
    }

    /// The plaintext of records from `first` on, at most to `end` and at most a span: one read of one
    /// replica. What does not verify there is asked of the others by the next call, which is given the
    /// same `tried`; when none is left, nothing is released and the error says why.
    pub(super) async fn read(
        &self,
        cipher: &Cipher,
        pool: &Arc<Pool>,
        first: u64,
        end: u64,
        tried: &mut Tried,
    ) -> Result<(Bytes, u64), BlobError> {
        let end = end.min(first + pool.span_records());
        let offset = record_offset(first);
        let len = (self.stored(end - 1).end - offset) as usize;
        loop {
            let replica = self.readers.pick(tried).ok_or_else(|| tried.verdict(self.file_id))?;
            let Some(mut buffer) = self.readers.read(replica, offset, pool.take(len), len, tried).await
            else {
                continue;
            };
            let mut filled = 0;
            let mut next = first;
            while next < end {
                let stored = self.stored(next);
                let run = self.runs.of(next).expect("runs begin with record 0");
                let aad = record::associated_data(self.file_id, run, next);
                let at = (stored.start - offset) as usize;
                let stored_len = (stored.end - stored.start) as usize;
                match record::open_into(cipher, &aad, &mut buffer, at, stored_len, filled) {
                    Ok(opened) => filled += opened,
                    Err(_) => break,
                }
                next += 1;
            }
            if next > first {
                *tried = Tried::default();
            }
            if next == end {
                self.readers.prefer(replica);
            } else {
                self.readers.reject(replica, self.stored(next), tried);
            }
            if next > first {
                return Ok((buffer.freeze(0..filled), next - first));
            }
        }
    }
}
