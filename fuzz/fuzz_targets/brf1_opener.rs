//! The opener of BRF1 objects: whatever a replica holds, a read gives the blob's own bytes or an error.
//!
//! An input is a program that changes a good object: flips, cuts, copies, and checksums made good again, so that
//! the changes get past them; or, with the first byte 255, the whole object.

#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use registry_blob::{ContentStore, Domain, KeyRow, MemoryStore, ReplicaId, Replicated, Sealed};
use registry_runtime::{KeyError, KeyProvider, Secret};
use registry_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

const LENGTHS: [usize; 5] = [0, 1, 65_536, 65_537, 150_000];

struct OneSecret;

impl KeyProvider for OneSecret {
    fn secret(&self, _domain: &str, _epoch: u32) -> Result<Secret, KeyError> {
        Ok(Secret::new(vec![7; 32]))
    }

    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.secret(domain, epoch)
    }
}

struct Sample {
    content: Bytes,
    sealed: Sealed,
    stored: Vec<u8>,
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
static MEMORY: LazyLock<MemoryStore> = LazyLock::new(MemoryStore::default);
static SAMPLES: LazyLock<Vec<Sample>> =
    LazyLock::new(|| RUNTIME.block_on(async { futures(LENGTHS.iter().map(|len| sample(*len))).await }));

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut done = Vec::new();
    for one in all {
        done.push(one.await);
    }
    done
}

/// A store that has nothing open.
async fn store() -> ContentStore {
    let replicas = Replicated::single(ReplicaId::new("one"), Arc::new(MEMORY.clone()));
    let store = ContentStore::new(replicas, Arc::new(OneSecret));
    store.activate(&Domain::new("default"), 1).await.expect("the secret is there");
    store
}

async fn sample(len: usize) -> Sample {
    let content: Bytes = (0..len).map(|at| (at * 31 >> 3) as u8).collect();
    let digest = Digest::from_hash(Algorithm::Sha256, &Sha256::digest(&content));
    let store = store().await;
    let mut upload =
        store.begin(&Domain::new("default"), "fuzz", Algorithm::Sha256).await.expect("memory takes it");
    upload.write(content.clone()).await.expect("memory takes it");
    let sealed = upload.finish(&digest).await.expect("the digest is its own");
    let stored = MEMORY.bytes(sealed.row.file_id).expect("it was just written");
    Sample { content, sealed, stored }
}

/// Where record `index` lies in an object whose blob has `total` bytes.
fn record(total: usize, index: usize) -> std::ops::Range<usize> {
    let start = 128 + index * 65_568;
    start..start + (total - index * 65_536).min(65_536) + 32
}

/// Puts the checksum at the end of a stretch right.
fn mend(stretch: &mut [u8]) {
    if let Some((body, crc)) = stretch.split_last_chunk_mut::<4>() {
        *crc = crc32c(body).to_be_bytes();
    }
}

/// CRC-32C bit by bit: slow, and nothing to be wrong with.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn change(mut program: &[u8], total: usize, stored: &mut Vec<u8>) {
    while let Some((step, rest)) = program.split_first_chunk::<6>() {
        program = rest;
        let place = u32::from_be_bytes([0, step[1], step[2], step[3]]) as usize % stored.len().max(1);
        let amount = usize::from(u16::from_be_bytes([step[4], step[5]]));
        match step[0] % 6 {
            0 => stored.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= step[4]),
            1 => stored.truncate(place),
            2 => stored.resize(stored.len() + amount, step[4]),
            3 if place + amount <= stored.len() => {
                let to = usize::from(step[1]) * 65_568 + 128;
                if to + amount <= stored.len() {
                    stored.copy_within(place..place + amount, to);
                }
            }
            4 if total > 0 => {
                let range = record(total, place % total.div_ceil(65_536));
                if range.end <= stored.len() {
                    mend(&mut stored[range]);
                }
            }
            _ => {
                let footer = 128 + total + 32 * total.div_ceil(65_536);
                if footer < stored.len() {
                    mend(&mut stored[footer..]);
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, program)) = data.split_first() else { return };
    let sample = &SAMPLES[usize::from(*kind) % SAMPLES.len()];
    let mut stored = sample.stored.clone();
    let mut row: KeyRow = sample.sealed.row.clone();
    match *kind {
        255 => {
            stored = program.to_vec();
            row.object_len = stored.len() as u64;
        }
        _ => change(program, sample.content.len(), &mut stored),
    }
    let is_whole = stored == sample.stored;
    MEMORY.tamper(row.file_id, |object| *object = stored);
    let read = RUNTIME.block_on(async {
        let blob = store().await.open(&row, &sample.sealed.digest).await?;
        blob.read_all(1 << 20).await
    });
    match read {
        Ok(bytes) => assert!(bytes == sample.content, "changed bytes were served"),
        Err(error) => assert!(!is_whole, "an unchanged object is refused: {error}"),
    }
});
