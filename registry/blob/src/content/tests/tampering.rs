//! No bit of an object can change unseen, and no part of one stands for another.
//!
//! Flips that hit a record are checked at the record, where 65,536 of them take a second; everything else
//! goes through the whole read path. The long form flips every bit of every size at the record too.

use bytes::Bytes;
use registry_types::Algorithm;
use sha2::Digest as _;

use super::{content, digest_of, domain, pull, push, replica, store_over};
use crate::content::ContentStore;
use crate::content::opened::Opened;
use crate::error::BlobError;
use crate::format::{Layout, RECORD_STRIDE, record, record_offset};
use crate::key_row::Sealed;
use crate::pace::Pace;
use crate::store::memory::MemoryStore;

struct Fixture {
    memory: MemoryStore,
    store: ContentStore,
    bytes: Bytes,
    sealed: Sealed,
    stored: Vec<u8>,
}

impl Fixture {
    async fn new(len: usize) -> Self {
        Self::with(content(len)).await
    }

    async fn with(bytes: Bytes) -> Self {
        let memory = MemoryStore::default();
        let store = store_over(&memory).await;
        let sealed = push(&store, &bytes).await.unwrap();
        let stored = memory.bytes(sealed.row.file_id).unwrap();
        Self { memory, store, bytes, sealed, stored }
    }

    /// Reads the blob when the replica holds `stored` for it.
    async fn pull(&self, stored: &[u8]) -> Result<Vec<u8>, BlobError> {
        self.place(stored);
        pull(&self.store, &self.sealed.row, &self.sealed.digest).await
    }

    fn place(&self, stored: &[u8]) {
        self.store.inner.opened.clear();
        self.memory.tamper(self.sealed.row.file_id, |object| {
            object.clear();
            object.extend_from_slice(stored);
        });
    }

    /// What both kinds of scrub say of the copy that is there.
    async fn scrub(&self) -> (bool, bool) {
        let (store, row) = (&self.store, &self.sealed.row);
        let plain = store.verify_plain(&replica(), row, &Pace::unbounded()).await.unwrap();
        let keyed =
            store.verify_keyed(&replica(), row, &self.sealed.digest, &Pace::unbounded()).await.unwrap();
        (plain.is_some(), keyed.is_some())
    }

    /// The read fails, and both scrubs say so.
    async fn assert_found(&self, stored: &[u8], what: &str) {
        let pulled = self.pull(stored).await;
        assert!(pulled.is_err(), "{what} was read");
        assert_eq!(self.scrub().await, (true, true), "{what} passed a scrub");
    }

    fn layout(&self) -> Layout {
        Layout { total_len: self.sealed.row.total_len }
    }

    /// Offsets of the object that lie in no record's ciphertext.
    fn structure(&self) -> Vec<usize> {
        let records = (0..self.layout().records()).flat_map(|index| {
            let start = record_offset(index) as usize;
            let end = start + self.layout().record_len(index) + 32;
            (start..start + 12).chain(end - 20..end)
        });
        let footer = self.layout().footer_offset() as usize..self.stored.len();
        (0..128).chain(records).chain(footer).collect()
    }

    /// Whether an offset lies in the checksum of a record, which a read does not use: the tag covers
    /// everything that it would.
    fn is_record_crc(&self, offset: usize) -> bool {
        (0..self.layout().records()).any(|index| {
            let end = record_offset(index) as usize + self.layout().record_len(index) + 32;
            (end - 4..end).contains(&offset)
        })
    }
}

const SIZES: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 300 * 1024];

#[tokio::test]
async fn every_bit_outside_ciphertext_is_guarded() {
    for len in SIZES {
        let fixture = Fixture::new(len).await;
        assert_eq!(fixture.pull(&fixture.stored).await.unwrap(), fixture.bytes);
        assert_eq!(fixture.scrub().await, (false, false));
        // The sizes between differ from these in nothing but ciphertext.
        let bits: &[u32] = if len <= 1 || len == 65_537 { &[0, 1, 2, 3, 4, 5, 6, 7] } else { &[1, 6] };
        for offset in fixture.structure() {
            for bit in bits {
                let mut stored = fixture.stored.clone();
                stored[offset] ^= 1 << bit;
                if fixture.is_record_crc(offset) {
                    let pulled = fixture.pull(&stored).await;
                    assert!(pulled.unwrap() == fixture.bytes);
                    assert_eq!(fixture.scrub().await, (true, true));
                } else {
                    fixture.assert_found(&stored, &format!("{len} bytes, offset {offset}, bit {bit}")).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn flips_in_ciphertext_fail_the_whole_path() {
    for len in [1, 65_535, 65_536, 65_537, 300 * 1024, (1 << 20) + 1] {
        let fixture = Fixture::new(len).await;
        let step = (fixture.stored.len() / 40).max(1);
        for offset in (140..fixture.layout().footer_offset() as usize).step_by(step) {
            let mut stored = fixture.stored.clone();
            stored[offset] ^= 1 << (offset % 8);
            if !fixture.is_record_crc(offset) {
                fixture.assert_found(&stored, &format!("{len} bytes, offset {offset}")).await;
            }
        }
    }
}

/// Flips bits of each record's stored bytes: each flip fails the tag (but in the checksum) and the CRC.
async fn flip_records(len: usize, bits_of: impl Fn(u64, usize) -> u8) {
    let fixture = Fixture::new(len).await;
    let opened =
        Opened::open(&fixture.store.inner, &fixture.sealed.row, &fixture.sealed.digest).await.unwrap();
    for index in 0..fixture.layout().records() {
        let place = opened.records.stored(index);
        let stored = &fixture.stored[place.start as usize..place.end as usize];
        let aad = record::associated_data(
            fixture.sealed.row.file_id,
            opened.records.runs.of(index).unwrap(),
            index,
        );
        let opens = |slot: &mut Vec<u8>| {
            let len = slot.len();
            record::open_into(&opened.keys.record, &aad, slot, 0, len, 0).is_ok()
        };
        assert!(opens(&mut stored.to_vec()));
        let mut slot = stored.to_vec();
        for offset in 0..stored.len() {
            let bits = bits_of(index, offset);
            for bit in (0..8).filter(|bit| bits & 1 << bit != 0) {
                slot.copy_from_slice(stored);
                slot[offset] ^= 1 << bit;
                assert!(record::check_crc(&slot).is_err(), "{len} bytes, record {index}, offset {offset}");
                let opened = opens(&mut slot);
                assert_eq!(
                    opened,
                    offset >= stored.len() - 4,
                    "{len} bytes, record {index}, offset {offset}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_bit_of_a_small_record_is_guarded() {
    for len in [1, 2, 100, 1000] {
        flip_records(len, |_, _| 0xff).await;
    }
}

#[tokio::test]
async fn every_byte_of_a_record_is_guarded() {
    flip_records(65_535, |_, offset| 1 << (offset % 8)).await;
    flip_records(65_537, |_, offset| 1 << (offset % 8)).await;
}

#[tokio::test]
async fn bytes_of_further_records_are_guarded() {
    let sampled = |_, offset: usize| if offset.is_multiple_of(11) { 1 << (offset % 8) } else { 0 };
    flip_records(300 * 1024, sampled).await;
    flip_records((1 << 20) + 1, |_, offset| if offset.is_multiple_of(509) { 1 << (offset % 8) } else { 0 })
        .await;
}

#[tokio::test]
#[ignore = "long: twelve million flips of 64 KiB take minutes"]
async fn every_bit_of_every_record_is_guarded() {
    for len in SIZES {
        flip_records(len, |_, _| 0xff).await;
    }
    flip_records((1 << 20) + 1, |_, _| 0xff).await;
}

#[tokio::test]
async fn object_cut_or_extended_anywhere_is_found() {
    for len in [0, 1, 65_537, 300 * 1024] {
        let fixture = Fixture::new(len).await;
        let whole = fixture.stored.len();
        for cut in [0, 1, 127, 128, 129, 160, 65_696, whole / 2, whole - 4, whole - 1] {
            if cut < whole {
                fixture.assert_found(&fixture.stored[..cut], &format!("{len} bytes cut at {cut}")).await;
            }
        }
        for more in [1, 32, 65_568] {
            let mut stored = fixture.stored.clone();
            stored.resize(whole + more, 0);
            fixture.assert_found(&stored, &format!("{len} bytes and {more} more")).await;
        }
    }
}

#[tokio::test]
async fn records_open_only_in_their_own_place() {
    let fixture = Fixture::new(5 * 65_536).await;
    let range = |index: u64| record_offset(index) as usize..record_offset(index + 1) as usize;

    let mut swapped = fixture.stored.clone();
    let (first, second) = (range(1), range(3));
    swapped.copy_within(first.clone(), second.start);
    swapped[first].copy_from_slice(&fixture.stored[second]);
    fixture.place(&swapped);
    assert!(fixture.pull(&swapped).await.is_err());

    let mut repeated = fixture.stored.clone();
    repeated.copy_within(range(1), range(2).start);
    assert!(fixture.pull(&repeated).await.is_err());

    let mut dropped = fixture.stored.clone();
    dropped.drain(range(2));
    fixture.assert_found(&dropped, "a record left out").await;
    // With the length made good again.
    dropped.splice(range(3).end..range(3).end, fixture.stored[range(4)].iter().copied());
    assert_eq!(dropped.len(), fixture.stored.len());
    assert!(fixture.pull(&dropped).await.is_err());
    assert!(fixture.scrub().await.1, "the keyed scrub finds what has good checksums");
}

#[tokio::test]
async fn parts_of_another_object_do_not_fit() {
    let fixture = Fixture::new(3 * 65_536).await;
    let other = push(&fixture.store, &fixture.bytes).await.unwrap();
    let other_stored = fixture.memory.bytes(other.row.file_id).unwrap();
    assert_eq!(other_stored.len(), fixture.stored.len());
    let footer = fixture.layout().footer_offset() as usize;
    for range in [0..128, 128..128 + RECORD_STRIDE, footer..other_stored.len(), 0..other_stored.len()] {
        let mut stored = fixture.stored.clone();
        stored[range.clone()].copy_from_slice(&other_stored[range.clone()]);
        assert!(fixture.pull(&stored).await.is_err(), "{range:?} of another push of the same bytes");
        assert!(fixture.scrub().await.1);
    }
    fixture.place(&fixture.stored);
    // Nor does the row of one open the other.
    for (row, digest) in [
        (crate::KeyRow { file_id: other.row.file_id, ..fixture.sealed.row.clone() }, &other.digest),
        (crate::KeyRow { wrapped: other.row.wrapped, ..fixture.sealed.row.clone() }, &other.digest),
        (crate::KeyRow { total_len: 65_536, ..fixture.sealed.row.clone() }, &other.digest),
        (crate::KeyRow { epoch: 2, ..fixture.sealed.row.clone() }, &other.digest),
        (fixture.sealed.row.clone(), &digest_of(b"another blob", Algorithm::Sha256)),
    ] {
        fixture.store.inner.opened.clear();
        assert!(matches!(fixture.store.open(&row, digest).await.map(|_| ()), Err(BlobError::KeyRow { .. })));
    }
}

#[tokio::test]
async fn row_that_is_not_the_cached_one_is_checked_anew() {
    let fixture = Fixture::new(100).await;
    fixture.store.open(&fixture.sealed.row, &fixture.sealed.digest).await.unwrap();
    let wrong = digest_of(b"another blob", Algorithm::Sha256);
    assert!(fixture.store.open(&fixture.sealed.row, &wrong).await.is_err());
}

/// What an attempt that was given up sealed under the same key, file id and index.
#[tokio::test]
async fn record_of_an_abandoned_attempt_does_not_fit() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let good = content(4 * 65_536);
    let mut bad = good[..65_536].to_vec();
    bad.resize(4 * 65_536, 0xbb);
    let mut upload = store.begin(&domain(), "upload", Algorithm::Sha256).await.unwrap();
    upload.write(good.slice(..65_536)).await.unwrap();
    let state = upload.suspend("first").await.unwrap();

    let attempt = |bytes: Bytes| {
        let (store, state) = (store.clone(), state.clone());
        async move {
            let mut upload = store.resume(&domain(), &state, "upload", "first", 65_536).await.unwrap();
            upload.write(bytes.slice(65_536..)).await.unwrap();
            upload.finish(&digest_of(&bytes, Algorithm::Sha256)).await.unwrap()
        }
    };
    let abandoned = attempt(bad.into()).await;
    let abandoned_bytes = memory.bytes(abandoned.row.file_id).unwrap();
    let sealed = attempt(good.clone()).await;
    assert_eq!(sealed.row.file_id, abandoned.row.file_id);
    assert_eq!(sealed.row.dek_id, abandoned.row.dek_id);
    assert!(pull(&store, &sealed.row, &sealed.digest).await.unwrap() == good);
    let stored = memory.bytes(sealed.row.file_id).unwrap();
    assert_eq!(stored.len(), abandoned_bytes.len());
    for from in [record_offset(1), record_offset(2), record_offset(3), record_offset(4)] {
        let range = from as usize..(from as usize + RECORD_STRIDE).min(stored.len());
        let mut spliced = stored.clone();
        spliced[range.clone()].copy_from_slice(&abandoned_bytes[range]);
        memory.tamper(sealed.row.file_id, |object| *object = spliced);
        store.inner.opened.clear();
        assert!(pull(&store, &sealed.row, &sealed.digest).await.is_err(), "spliced at {from}");
    }
}

#[tokio::test]
async fn checksums_made_good_again_do_not_deceive_the_keyed_check() {
    let fixture = Fixture::new(200_000).await;
    let mut stored = fixture.stored.clone();
    let (start, end) = (record_offset(1) as usize, record_offset(2) as usize);
    stored[start + 100] ^= 4;
    let crc = crc32c::crc32c(&stored[start..end - 4]).to_be_bytes();
    stored[end - 4..end].copy_from_slice(&crc);
    assert!(fixture.pull(&stored).await.is_err());
    assert_eq!(fixture.scrub().await, (false, true));

    // A footer whose hash the row confirms, but which no key opens.
    let mut fixture = fixture;
    let mut stored = fixture.stored.clone();
    let (footer, end) = (fixture.layout().footer_offset() as usize, stored.len());
    stored[footer + 20] ^= 1;
    let crc = crc32c::crc32c(&stored[footer..end - 4]).to_be_bytes();
    stored[end - 4..].copy_from_slice(&crc);
    fixture.sealed.row.footer_sha256 = sha2::Sha256::digest(&stored[footer..]).into();
    assert!(fixture.pull(&stored).await.is_err());
    assert_eq!(fixture.scrub().await, (false, true));
}
