//! Plaintext in, sealed records out, one buffer at a time.
//!
//! The open record's plaintext lies where it will be sealed: a byte is copied once between the socket
//! and the file. A record is sealed as soon as it is full; only the last one of a blob is shorter.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::buffer::{Buffer, PAGE, Pool};
use crate::cipher::{Cipher, NONCE_LEN, random};
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::format::header::Header;
use crate::format::runs::{RunId, Runs};
use crate::format::{MAX_RUNS, RECORD_LEN, RECORD_OVERHEAD, RECORD_STRIDE, record};

pub(super) struct Sealing {
    pool: Arc<Pool>,
    file_id: FileId,
    buffer: Option<Buffer>,
    /// Header and sealed records in the buffer, bytes.
    sealed_len: usize,
    /// Plaintext of the open record, behind them.
    open_len: usize,
    /// Records sealed since the upload began.
    records: u64,
    /// SHA-256 over nonce ‖ tag of all of them.
    seals: Sha256,
    runs: Runs,
    /// The run of this stretch, once a record was sealed in it.
    run: Option<RunId>,
}

impl Sealing {
    pub(super) fn begin(pool: Arc<Pool>, file_id: FileId) -> Self {
        Self::go_on(pool, file_id, 0, Sha256::new(), Runs::default(), &[])
    }

    /// A new stretch of an upload that has `records` sealed and `open` not.
    pub(super) fn go_on(
        pool: Arc<Pool>,
        file_id: FileId,
        records: u64,
        seals: Sha256,
        runs: Runs,
        open: &[u8],
    ) -> Self {
        let mut this =
            Self { pool, file_id, buffer: None, sealed_len: 0, open_len: 0, records, seals, runs, run: None };
        this.push(open);
        this
    }

    /// Bytes that the open record still takes; 0 only until it is sealed.
    pub(super) fn room(&self) -> usize {
        RECORD_LEN - self.open_len
    }

    pub(super) fn is_record_full(&self) -> bool {
        self.open_len == RECORD_LEN
    }

    /// Adds at most `room` bytes to the open record.
    pub(super) fn push(&mut self, plaintext: &[u8]) {
        if plaintext.is_empty() {
            return;
        }
        let at = self.sealed_len + NONCE_LEN + self.open_len;
        let buffer = self.buffer.get_or_insert_with(|| self.pool.take_span());
        buffer[at..at + plaintext.len()].copy_from_slice(plaintext);
        self.open_len += plaintext.len();
    }

    /// Seals the open record, unless it is empty. Before it is full only at the blob's end.
    pub(super) fn seal(&mut self, cipher: &Cipher, header: &Header) -> Result<(), BlobError> {
        let Some(buffer) = self.buffer.as_mut().filter(|_| self.open_len > 0) else { return Ok(()) };
        if self.records == 0 {
            // The header goes in front of the first record, which lies at the front of the buffer.
            let header = header.as_bytes();
            buffer.copy_within(NONCE_LEN..NONCE_LEN + self.open_len, header.len() + NONCE_LEN);
            buffer[..header.len()].copy_from_slice(header);
            self.sealed_len = header.len();
        }
        let run = match self.run {
            Some(run) => run,
            None => {
                let run = random();
                if !self.runs.begin(self.records, run) {
                    return Err(BlobError::TooManyPieces { limit: MAX_RUNS });
                }
                *self.run.insert(run)
            }
        };
        let aad = record::associated_data(self.file_id, &run, self.records);
        let end = self.sealed_len + self.open_len + RECORD_OVERHEAD;
        record::seal(cipher, &aad, &mut buffer[self.sealed_len..end], &mut self.seals);
        self.sealed_len = end;
        self.open_len = 0;
        self.records += 1;
        Ok(())
    }

    /// Whether the buffer has no room for another record.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| self.sealed_len + RECORD_STRIDE > buffer.len())
    }

    /// Takes the whole pages of what is sealed, between two records; the rest goes on in another buffer. A driver
    /// may write whole pages past the page cache.
    pub(super) fn take_pages(&mut self) -> Bytes {
        debug_assert_eq!(self.open_len, 0);
        let Some(buffer) = self.buffer.take_if(|_| self.sealed_len >= PAGE) else { return Bytes::new() };
        let (end, rest) = (self.sealed_len, self.sealed_len % PAGE);
        self.sealed_len = rest;
        if rest > 0 {
            self.buffer.insert(self.pool.take_span())[..rest].copy_from_slice(&buffer[end - rest..end]);
        }
        buffer.freeze(0..end - rest)
    }

    /// Takes what is sealed; the open record goes on in a buffer of its own.
    pub(super) fn take(&mut self) -> Bytes {
        let Some(buffer) = self.buffer.take_if(|_| self.sealed_len > 0) else { return Bytes::new() };
        let sealed = 0..std::mem::take(&mut self.sealed_len);
        let open_len = std::mem::take(&mut self.open_len);
        if open_len > 0 {
            let from = sealed.end + NONCE_LEN;
            self.push(&buffer[from..from + open_len]);
        }
        buffer.freeze(sealed)
    }

    /// Everything sealed, then `end`: in one piece where it fits.
    pub(super) fn take_with(&mut self, end: &[u8]) -> (Bytes, Bytes) {
        debug_assert_eq!(self.open_len, 0);
        match self.buffer.as_mut().filter(|buffer| self.sealed_len + end.len() <= buffer.len()) {
            Some(buffer) => {
                buffer[self.sealed_len..self.sealed_len + end.len()].copy_from_slice(end);
                self.sealed_len += end.len();
                (Bytes::new(), self.take())
            }
            None => (self.take(), Bytes::copy_from_slice(end)),
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(super) fn seals(&self) -> &Sha256 {
        &self.seals
    }

    /// The open record's plaintext.
    pub(super) fn open(&self) -> &[u8] {
        let from = self.sealed_len + NONCE_LEN;
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[from..from + self.open_len])
    }
}
