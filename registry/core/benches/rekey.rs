//! Rolling a key over a million blobs: how long every row takes to be wrapped anew, while pushes and pulls go on.
//!
//! `cargo bench -p registry-core --bench rekey [-- ROWS]`. Prints seconds, rows a second, CPU, the slowest push and
//! pull meanwhile, and what was written below the content's folder; nothing here asserts a time.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a benchmark ends where something fails")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use registry_blob::{ContentStore, FsStore, MemoryStore, ReplicaId, Replicated};
use registry_core::{NewRepository, NewUpload, PushTarget, Registry, RegistryConfig, Repository};
use registry_metadata::{KeyRow, Metadata, blobs};
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::Database;
use registry_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};

const ROWS: u32 = 1_000_000;
/// Rows of one transaction while the table is filled.
const BATCH: u32 = 5000;
/// Rows of one age.
const PUSHES_A_MILLISECOND: u32 = 3;

fn main() {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROWS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(rows));
}

async fn measure(rows: u32) {
    let folder = tempfile::tempdir().unwrap();
    let content_folder = folder.path().join("content");
    let id = ReplicaId::new("one");
    FsStore::initialize(&content_folder, "cluster", &id).unwrap();
    let store = FsStore::open(&content_folder, "cluster", &id);
    let keys = Arc::new(LocalKeys::open(&folder.path().join("keys")).unwrap());
    let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
    let content = ContentStore::new(Replicated::single(id, Arc::new(store)), Arc::clone(&keys) as _);
    let database = Database::open_sqlite(&folder.path().join("berth.db")).await.unwrap();
    let metadata = Metadata::open(database).await.unwrap();
    let config = RegistryConfig::default();
    let registry = Registry::open(metadata.clone(), content, sealer, Clock::system(), config).await.unwrap();
    let repository =
        registry.create_repository(&"app".parse().unwrap(), NewRepository::default()).await.unwrap();
    let digest = push(&registry, &repository, b"the blob that all rows are made of").await;

    let begun = Instant::now();
    fill(&metadata, &repository, keys, rows).await;
    println!("{rows} key rows made in {:.1} s", begun.elapsed().as_secs_f64());

    let over = Arc::new(AtomicBool::new(false));
    let (pushing, pulling) = {
        let (registry, repository) = (registry.clone(), repository.clone());
        let (pushes, pulls) = (Arc::clone(&over), Arc::clone(&over));
        let of_push = (registry.clone(), repository.clone());
        (
            tokio::spawn(async move {
                let (mut slowest, mut count) = (Duration::ZERO, 0u32);
                while !pushes.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    push(&of_push.0, &of_push.1, &count.to_be_bytes().repeat(1000)).await;
                    slowest = slowest.max(begun.elapsed());
                    count += 1;
                }
                (slowest, count)
            }),
            tokio::spawn(async move {
                let (mut slowest, mut count) = (Duration::ZERO, 0u32);
                while !pulls.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    pull(&registry, &repository, &digest).await;
                    slowest = slowest.max(begun.elapsed());
                    count += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                (slowest, count)
            }),
        )
    };
    let before = bytes_below(&content_folder);
    let (begun, cpu) = (Instant::now(), self::cpu());
    registry.rotate_key("default").await.unwrap();
    let wrapped = registry.rewrap_keys().await.unwrap();
    let (took, cpu_now) = (begun.elapsed().as_secs_f64(), self::cpu());
    over.store(true, Ordering::SeqCst);
    let ((slowest_push, pushes), (slowest_pull, pulls)) = (pushing.await.unwrap(), pulling.await.unwrap());
    println!("{wrapped} keys wrapped anew in {took:.2} s: {:.0} a second", wrapped as f64 / took);
    println!("CPU of all that: {:.2} s", cpu_now - cpu);
    println!("meanwhile {pushes} pushes, the slowest {} ms", slowest_push.as_millis());
    println!("meanwhile {pulls} pulls, the slowest {} ms", slowest_pull.as_millis());
    println!("content grew by {} bytes, of those pushes alone", bytes_below(&content_folder) - before);
    let begun = Instant::now();
    registry.shred_keys("default").await.unwrap();
    println!("the old epoch was shredded in {:.2} s", begun.elapsed().as_secs_f64());
}

/// Rows as so many blobs have them, whose content lies in memory for a moment: rolling needs the rows alone.
async fn fill(metadata: &Metadata, repository: &Repository, keys: Arc<LocalKeys>, rows: u32) {
    let name = repository.domain.as_str();
    let of_blob = registry_blob::Domain::new(name);
    for first in (0..rows).step_by(BATCH as usize) {
        let memory = Arc::new(MemoryStore::default());
        let replicas = Replicated::single(ReplicaId::new("memory"), memory);
        let content = ContentStore::new(replicas, Arc::clone(&keys) as _);
        content.activate(&of_blob, 1).await.unwrap();
        let mut made = Vec::new();
        for number in first..rows.min(first + BATCH) {
            let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
            let digest = Digest::from_hash(Algorithm::Sha256, &Sha256::digest(&bytes));
            let mut upload = content.begin(&of_blob, "bench", Algorithm::Sha256).await.unwrap();
            upload.write(bytes).await.unwrap();
            let row = upload.finish(&digest).await.unwrap().row;
            let key = KeyRow {
                file_id: *row.file_id.as_bytes(),
                dek_id: row.dek_id,
                total_len: row.total_len,
                object_len: row.object_len,
                footer_sha256: row.footer_sha256,
                epoch: row.epoch,
                wrap_nonce: row.wrap_nonce,
                wrapped: row.wrapped,
            };
            made.push((digest, key, i64::from(number / PUSHES_A_MILLISECOND)));
        }
        let domain = repository.domain.clone();
        metadata
            .write(move |tx| {
                for (digest, key, made_at_ms) in &made {
                    blobs::put_key(tx, &domain, digest, key, *made_at_ms)?;
                }
                Ok::<_, registry_metadata::Error>(())
            })
            .await
            .unwrap();
    }
}

async fn push(registry: &Registry, repository: &Repository, bytes: &[u8]) -> Digest {
    let target = PushTarget::Existing(repository.clone());
    let new = NewUpload { target: &target, principal: "bench", algorithm: Algorithm::Sha256 };
    let digest = Digest::from_hash(Algorithm::Sha256, &Sha256::digest(bytes));
    let body = Box::pin(stream::iter([Ok(Bytes::copy_from_slice(bytes))]));
    registry.upload_whole(new, body, &digest).await.unwrap();
    digest
}

async fn pull(registry: &Registry, repository: &Repository, digest: &Digest) {
    let blob = registry.blob(repository, digest).await.unwrap();
    let size = blob.size();
    let read: Vec<Bytes> = blob.read(0..size).await.unwrap().try_collect().await.unwrap();
    assert_eq!(read.concat().len() as u64, size);
}

/// CPU seconds of this process so far, from /proc.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // In hundredths, on every Linux.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
