//! BRF1: the layout of an object. Header, records, footer, written front to back and then immutable.
//!
//! Integers are big-endian. A format that is written stays readable: a change of any byte here is a new
//! version beside this one.

pub(crate) mod footer;
pub(crate) mod hash_state;
pub(crate) mod header;
pub(crate) mod record;
pub(crate) mod runs;

use thiserror::Error;

pub(crate) const HEADER_LEN: usize = 128;
/// Plaintext bytes of a full record.
pub(crate) const RECORD_LEN: usize = 65_536;
/// What a record adds to its plaintext: nonce, tag, CRC.
pub(crate) const RECORD_OVERHEAD: usize = 32;
/// Stored bytes of a full record.
pub(crate) const RECORD_STRIDE: usize = RECORD_LEN + RECORD_OVERHEAD;
/// Longest object: 10,000 parts of 8 MiB, so that every replica can be an S3 bucket.
pub(crate) const MAX_OBJECT_LEN: u64 = 10_000 * 8 * 1024 * 1024;
/// Runs that a footer may list.
pub(crate) const MAX_RUNS: usize = 65_536;
/// Longest footer: sha512 and all the runs.
pub(crate) const MAX_FOOTER_LEN: usize = 16 + 1 + 64 + 32 + 4 + MAX_RUNS * runs::RUN_LEN + RECORD_OVERHEAD;
/// Longest blob: what leaves room for the longest footer.
pub(crate) const MAX_TOTAL_LEN: u64 =
    (MAX_OBJECT_LEN - HEADER_LEN as u64 - MAX_FOOTER_LEN as u64) / RECORD_STRIDE as u64 * RECORD_LEN as u64;

const _: () = assert!(MAX_TOTAL_LEN > 52_000 * 1024 * 1024, "ECR's own limit fits");

/// Why bytes are not the object, or the part of it, that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FormatError {
    #[error("not a BRF1 header")]
    Header,
    #[error("the header names another object, key or domain")]
    OtherObject,
    #[error("the key does not belong to the object")]
    Commitment,
    #[error("the footer does not open")]
    Footer,
    #[error("the footer is another blob's")]
    OtherBlob,
    #[error("record {0} does not open")]
    Record(u64),
    #[error("a checksum does not hold")]
    Checksum,
    #[error("the object has another length")]
    Length,
}

/// Where the parts of an object lie, given the length of the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) total_len: u64,
}

impl Layout {
    pub(crate) fn records(self) -> u64 {
        self.total_len.div_ceil(RECORD_LEN as u64)
    }

    /// Plaintext length of record `index`.
    pub(crate) fn record_len(self, index: u64) -> usize {
        let before = index * RECORD_LEN as u64;
        (self.total_len - before).min(RECORD_LEN as u64) as usize
    }

    pub(crate) fn footer_offset(self) -> u64 {
        HEADER_LEN as u64 + self.total_len + self.records() * RECORD_OVERHEAD as u64
    }
}

/// Where record `index` begins.
pub(crate) fn record_offset(index: u64) -> u64 {
    HEADER_LEN as u64 + index * RECORD_STRIDE as u64
}

/// Length of an unfinished object that holds `records` full records; the header comes with the first.
pub(crate) fn staged_len(records: u64) -> u64 {
    if records == 0 { 0 } else { record_offset(records) }
}

#[cfg(test)]
mod tests {
    use super::{Layout, MAX_OBJECT_LEN, MAX_TOTAL_LEN, record_offset};

    #[test]
    fn layout_is_the_one_of_the_specification() {
        for (total_len, records, last, footer) in [
            (0, 0, None, 128),
            (1, 1, Some(1), 128 + 1 + 32),
            (65_536, 1, Some(65_536), 128 + 65_536 + 32),
            (65_537, 2, Some(1), 128 + 65_537 + 64),
        ] {
            let layout = Layout { total_len };
            assert_eq!(layout.records(), records);
            assert_eq!(layout.footer_offset(), footer);
            if let Some(last) = last {
                assert_eq!(layout.record_len(records - 1), last);
            }
        }
        assert_eq!(record_offset(3), 128 + 3 * 65_568);
        assert!(MAX_OBJECT_LEN - Layout { total_len: MAX_TOTAL_LEN }.footer_offset() >= 1_500_000);
    }
}
