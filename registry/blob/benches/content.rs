//! What content costs: GB/s and CPU seconds per GiB, sealed and durable against plain.
//!
//! `cargo bench -p registry-blob [-- FOLDER]`; the folder (default: the system's temporary one) should lie
//! on the disk that is meant. Figures are medians; nothing here asserts a time.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use registry_blob::{BlobStore, ContentStore, Domain, FsStore, MemoryStore, ReplicaId, Replicated, Sealed};
use registry_runtime::{KeyError, KeyProvider, Secret};
use registry_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};

const MIB: usize = 1024 * 1024;
const GIB: f64 = (1024 * MIB) as f64;

struct OneSecret;

impl KeyProvider for OneSecret {
    fn secret(&self, _domain: &str, _epoch: u32) -> Result<Secret, KeyError> {
        Ok(Secret::new(vec![7; 32]))
    }

    fn create(&self, domain: &str, epoch: u32) -> Result<Secret, KeyError> {
        self.secret(domain, epoch)
    }
}

/// CPU seconds of this process, user and system.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Runs `work` on `bytes` bytes a few times and prints the medians.
async fn measure<F: Future<Output = ()>>(
    name: &str,
    bytes: usize,
    rounds: usize,
    mut work: impl FnMut() -> F,
) {
    work().await;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        work().await;
        cpus.push(cpu_seconds() - cpu);
        walls.push(wall.elapsed().as_secs_f64());
    }
    walls.sort_by(f64::total_cmp);
    cpus.sort_by(f64::total_cmp);
    let (wall, cpu) = (walls[rounds / 2], cpus[rounds / 2]);
    println!(
        "{name:48} {:7.2} GB/s {:8.3} CPU s/GiB {:10.1} µs",
        bytes as f64 / wall / 1e9,
        cpu * GIB / bytes as f64,
        wall * 1e6
    );
}

async fn store_over(store: Arc<dyn BlobStore>) -> ContentStore {
    let content = ContentStore::new(Replicated::single(ReplicaId::new("local"), store), Arc::new(OneSecret));
    content.activate(&Domain::new(Domain::DEFAULT), 1).await.expect("the secret is there");
    content
}

async fn push(content: &ContentStore, bytes: &Bytes, digest: &Digest, piece: usize) -> Sealed {
    let domain = Domain::new(Domain::DEFAULT);
    let mut upload = content.begin(&domain, "upload", Algorithm::Sha256).await.expect("begins");
    let mut from = 0;
    while from < bytes.len() {
        let to = bytes.len().min(from + piece);
        upload.write(bytes.slice(from..to)).await.expect("writes");
        from = to;
    }
    upload.finish(digest).await.expect("finishes")
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &Sha256::digest(bytes))
}

async fn sealing(content: &ContentStore, large: &Bytes, label: &str) {
    for (name, len, rounds) in [("10 MiB", 10 * MIB, 15), ("256 MiB", large.len(), 3)] {
        let bytes = large.slice(..len);
        let digest = sha256(&bytes);
        measure(&format!("{label}: hash, seal, write {name}"), len, rounds, || async {
            let sealed = push(content, &bytes, &digest, 128 * 1024).await;
            content.delete(sealed.row.file_id).await.expect("deletes");
        })
        .await;
    }
    let manifest = large.slice(..2000);
    let digest = sha256(&manifest);
    measure(&format!("{label}: push of 2,000 bytes"), 2000, 101, || async {
        let sealed = push(content, &manifest, &digest, MIB).await;
        content.delete(sealed.row.file_id).await.expect("deletes");
    })
    .await;
}

async fn opening(content: &ContentStore, large: &Bytes, label: &str) {
    let digest = sha256(large);
    let sealed = push(content, large, &digest, MIB).await;
    let blob = content.open(&sealed.row, &digest).await.expect("opens");
    measure(&format!("{label}: sequential read and open, 256 MiB"), large.len(), 7, || async {
        let mut stream = blob.stream(0..blob.len());
        while let Some(piece) = stream.next().await {
            std::hint::black_box(piece.expect("verifies"));
        }
    })
    .await;
    let small = push(content, &large.slice(..MIB), &sha256(&large[..MIB]), MIB).await;
    measure(&format!("{label}: open and read 1 MiB, header cached"), MIB, 301, || async {
        let blob = content.open(&small.row, &small.digest).await.expect("opens");
        let mut stream = blob.stream(0..blob.len());
        while let Some(piece) = stream.next().await {
            std::hint::black_box(piece.expect("verifies"));
        }
    })
    .await;
    let mut seed = 1u64;
    measure(&format!("{label}: random 4 KiB"), 4096, 2001, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = (seed >> 33) % (blob.len() / 4096) * 4096;
        let blob = &blob;
        async move {
            let piece = blob.stream(from..from + 4096).next().await.expect("a piece").expect("verifies");
            std::hint::black_box(piece);
        }
    })
    .await;
}

/// A push much larger than what it may take in memory, before anything large is allocated.
async fn bounded_memory(content: &ContentStore) {
    let chunk: Bytes =
        (0..MIB).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into();
    let mut hash = Sha256::new();
    (0..1024).for_each(|_| hash.update(&chunk));
    let digest = Digest::from_hash(Algorithm::Sha256, &hash.finalize());
    let before = peak_memory_mib();
    let domain = Domain::new(Domain::DEFAULT);
    let mut upload = content.begin(&domain, "upload", Algorithm::Sha256).await.expect("begins");
    for _ in 0..1024 {
        upload.write(chunk.clone()).await.expect("writes");
    }
    let sealed = upload.finish(&digest).await.expect("finishes");
    println!("{:48} {:7.1} MiB", "fs: memory that a push of 1 GiB adds", peak_memory_mib() - before);
    content.delete(sealed.row.file_id).await.expect("deletes");
}

/// The most memory this process ever had.
fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// Reads of a file that is not in the page cache.
async fn cold(content: &ContentStore, large: &Bytes, root: &Path) {
    let sealed = push(content, large, &sha256(large), MIB).await;
    let name = sealed.row.file_id.to_string();
    let path = root.join("objects").join(&name[..1]).join(&name[1..2]).join(&name);
    measure("fs: sequential, cold, 256 MiB", large.len(), 3, || async {
        let file = std::fs::File::open(&path).expect("opens");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("evicts");
        let blob = content.open(&sealed.row, &sealed.digest).await.expect("opens");
        let mut stream = blob.stream(0..blob.len());
        while let Some(piece) = stream.next().await {
            std::hint::black_box(piece.expect("verifies"));
        }
    })
    .await;
}

async fn floors(large: &Bytes, folder: &Path) {
    measure("floor: SHA-256 alone", large.len(), 3, || async {
        std::hint::black_box(sha256(large));
    })
    .await;
    let path = folder.join("plain");
    std::fs::write(&path, large).expect("writes");
    let file = std::fs::File::open(&path).expect("opens");
    let mut buffer = vec![0; MIB];
    measure("floor: plain pread of 1 MiB, 256 MiB", large.len(), 7, || {
        use std::os::unix::fs::FileExt;
        for at in 0..large.len() / MIB {
            file.read_exact_at(&mut buffer, (at * MIB) as u64).expect("reads");
            std::hint::black_box(&buffer);
        }
        async {}
    })
    .await;
    measure("floor: plain write of 1 MiB, fdatasync, 256 MiB", large.len(), 3, || {
        use std::io::Write;
        let mut file = std::fs::File::create(&path).expect("creates");
        for chunk in large.chunks(MIB) {
            file.write_all(chunk).expect("writes");
        }
        file.sync_data().expect("syncs");
        async {}
    })
    .await;
}

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder to work in");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let root = folder.path().join("replica");
    let id = ReplicaId::new("local");
    FsStore::initialize(&root, "bench", &id).expect("a new replica");
    let files = runtime.block_on(store_over(Arc::new(FsStore::open(&root, "bench", &id))));
    let content = files.clone();
    let first = async { tokio::spawn(async move { bounded_memory(&content).await }).await };
    runtime.block_on(first).expect("no panic");
    let large: Bytes =
        (0..256 * MIB).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into();
    let work = async move {
        floors(&large, folder.path()).await;
        sealing(&files, &large, "fs").await;
        opening(&files, &large, "fs").await;
        cold(&files, &large, &root).await;
        let memory = store_over(Arc::new(MemoryStore::default())).await;
        opening(&memory, &large, "memory").await;
    };
    runtime.block_on(async { tokio::spawn(work).await.expect("no panic") });
}
