//! What hostile inputs do to a good object, shared by the tests and the fuzz target.
//!
//! An input is a program that changes the object: flips, cuts, copies, and checksums made good again, so that the
//! changes get past them; or, with the first byte 255, the whole object. Invariant: a read gives the blob's own bytes
//! or an error, and an object that is as it was is never refused.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use registry_blob::{ContentStore, Domain, KeyRow, MemoryStore, ReplicaId, Replicated, Sealed};
use registry_runtime::{KeyError, KeyProvider, Secret};
use registry_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

const LENGTHS: [usize; 5] = [0, 1, 65_536, 65_537, 150_000];

/// Good objects, and what reads them.
pub(crate) struct Opener {
    runtime: Runtime,
    memory: MemoryStore,
    samples: Vec<Sample>,
}

struct Sample {
    content: Bytes,
    sealed: Sealed,
    stored: Vec<u8>,
}

/// What a read of a changed object was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Refused,
    Unchanged,
}

struct OneSecret;

impl KeyProvider for OneSecret {
    fn secret(&self, _domain: &str, _epoch: u32) -> Result<Secret, KeyError> {
        Ok(Secret::new(vec![7; 32]))
    }

    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.secret(domain, epoch)
    }
}

impl Opener {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let memory = MemoryStore::default();
        let samples = LENGTHS.iter().map(|len| runtime.block_on(sample(&memory, *len))).collect();
        Self { runtime, memory, samples }
    }

    /// Runs one program and reads what became of the object.
    ///
    /// # Panics
    /// When changed bytes are served, or an unchanged object is refused.
    pub(crate) fn run(&self, data: &[u8]) -> Option<Read> {
        let (kind, program) = data.split_first()?;
        let sample = &self.samples[usize::from(*kind) % self.samples.len()];
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
        self.memory.tamper(row.file_id, |object| *object = stored);
        let read = self.runtime.block_on(async {
            let blob = store(&self.memory).await.open(&row, &sample.sealed.digest).await?;
            blob.read_all(1 << 20).await
        });
        match read {
            Ok(bytes) => {
                assert!(bytes == sample.content, "changed bytes were served");
                Some(Read::Unchanged)
            }
            Err(error) => {
                assert!(!is_whole, "an unchanged object is refused: {error}");
                Some(Read::Refused)
            }
        }
    }
}

/// A store that has nothing open.
async fn store(memory: &MemoryStore) -> ContentStore {
    let replicas = Replicated::single(ReplicaId::new("one"), Arc::new(memory.clone()));
    let store = ContentStore::new(replicas, Arc::new(OneSecret));
    store.activate(&Domain::new("default"), 1).await.expect("the secret is there");
    store
}

async fn sample(memory: &MemoryStore, len: usize) -> Sample {
    let content: Bytes = (0..len).map(|at| ((at * 31) >> 3) as u8).collect();
    let digest = Digest::from_hash(Algorithm::Sha256, &Sha256::digest(&content));
    let store = store(memory).await;
    let begun = store.begin(&Domain::new("default"), "upload", Algorithm::Sha256).await;
    let mut upload = begun.expect("memory takes it");
    upload.write(content.clone()).await.expect("memory takes it");
    let sealed = upload.finish(&digest).await.expect("the digest is its own");
    let stored = memory.bytes(sealed.row.file_id).expect("it was just written");
    Sample { content, sealed, stored }
}

/// Where record `index` lies in an object whose blob has `total` bytes.
fn record(total: usize, index: usize) -> Range<usize> {
    let start = 128 + index * 65_568;
    start..start + (total - index * 65_536).min(65_536) + 32
}

/// Puts the checksum at the end of a stretch right.
fn mend(stretch: &mut [u8]) {
    if let Some((body, crc)) = stretch.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(body).to_be_bytes();
    }
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
