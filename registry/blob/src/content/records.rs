//! Reading records: verified, in place, from whichever replica has them well.

use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::{Buffer, Pool};
use crate::cipher::{BadTag, Cipher};
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
        loop {
            let Some((mut buffer, replica, end)) = self.fetch(pool, first, end, tried).await? else {
                continue;
            };
            let mut filled = 0;
            let mut next = first;
            while next < end {
                match self.open(cipher, &mut buffer, first, next, filled) {
                    Ok(opened) => filled += opened,
                    Err(_) => break,
                }
                next += 1;
            }
            self.judge(replica, first, next, end, tried);
            if next > first {
                return Ok((buffer.freeze(0..filled), next - first));
            }
        }
    }

    /// The same records as they are stored, verified all the same.
    pub(super) async fn read_sealed(
        &self,
        cipher: &Cipher,
        pool: &Arc<Pool>,
        first: u64,
        end: u64,
        tried: &mut Tried,
    ) -> Result<(Bytes, u64), BlobError> {
        loop {
            let Some((mut buffer, replica, end)) = self.fetch(pool, first, end, tried).await? else {
                continue;
            };
            let len = (self.stored(end - 1).end - record_offset(first)) as usize;
            let sealed = Bytes::copy_from_slice(&buffer[..len]);
            let mut next = first;
            while next < end && self.check(cipher, &mut buffer, first, next) {
                next += 1;
            }
            self.judge(replica, first, next, end, tried);
            if next > first {
                let good = self.stored(next - 1).end - record_offset(first);
                return Ok((sealed.slice(..good as usize), next - first));
            }
        }
    }

    /// One read of the next replica: the buffer, the replica and the last record read. `None` when that
    /// replica could not give it.
    async fn fetch(
        &self,
        pool: &Arc<Pool>,
        first: u64,
        end: u64,
        tried: &mut Tried,
    ) -> Result<Option<(Buffer, usize, u64)>, BlobError> {
        let end = end.min(first + pool.span_records());
        let offset = record_offset(first);
        let len = (self.stored(end - 1).end - offset) as usize;
        let replica = self.readers.pick(tried).ok_or_else(|| tried.verdict(self.file_id))?;
        let read = self.readers.read(replica, offset, pool.take(len), len, tried).await;
        Ok(read.map(|buffer| (buffer, replica, end)))
    }

    /// Opens record `index` of a buffer that begins with record `first`; its plaintext goes to `filled`.
    fn open(
        &self,
        cipher: &Cipher,
        buffer: &mut Buffer,
        first: u64,
        index: u64,
        filled: usize,
    ) -> Result<usize, BadTag> {
        let stored = self.stored(index);
        let run = self.runs.of(index).expect("runs begin with record 0");
        let aad = record::associated_data(self.file_id, run, index);
        let at = (stored.start - record_offset(first)) as usize;
        let stored_len = (stored.end - stored.start) as usize;
        record::open_into(cipher, &aad, buffer, at, stored_len, filled)
    }

    /// Whether record `index` holds, its checksum included. What the buffer held of it is lost.
    fn check(&self, cipher: &Cipher, buffer: &mut Buffer, first: u64, index: u64) -> bool {
        let stored = self.stored(index);
        let (at, len) =
            ((stored.start - record_offset(first)) as usize, (stored.end - stored.start) as usize);
        record::check_crc(&buffer[at..at + len]).is_ok()
            && self.open(cipher, buffer, first, index, at).is_ok()
    }

    /// Notes how far a replica's bytes held: to `next` of `first..end`.
    fn judge(&self, replica: usize, first: u64, next: u64, end: u64, tried: &mut Tried) {
        if next > first {
            *tried = Tried::default();
        }
        if next == end {
            self.readers.prefer(replica);
        } else {
            self.readers.reject(replica, self.stored(next), tried);
        }
    }
}
