//! What is large, and what comes all at once: memory stays bounded, and nobody is turned away.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{Hasher, Server, eventually, eventually_within, sha256};

use crate::bucket::Bucket;

const MIB: u64 = 1 << 20;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pieces that a stream is made of, each unlike the others.
struct Stream {
    piece: Vec<u8>,
    number: u64,
}

impl Stream {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = (0..MIB / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { piece: words.collect(), number: 0 }
    }

    /// The next mebibyte.
    fn next(&mut self) -> &[u8] {
        self.piece[..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        &self.piece
    }
}

/// One request over a connection of its own, whose body is written by `send` and whose answer's body goes to `receive`.
/// Its status.
fn exchange(
    server: &Server,
    request: &str,
    length: u64,
    send: impl FnOnce(&mut TcpStream),
    mut receive: impl FnMut(&[u8]),
) -> u16 {
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
        server.authority(),
        server.http().authorization().unwrap(),
    );
    stream.write_all(head.as_bytes()).unwrap();
    send(&mut stream);
    let mut answer = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line.trim_end() != "" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    loop {
        let bytes = answer.fill_buf().unwrap();
        if bytes.is_empty() {
            return status;
        }
        receive(bytes);
        let length = bytes.len();
        answer.consume(length);
    }
}

/// A blob of so many mebibytes, pushed in one PATCH and pulled again. By how much the server's memory was above what
/// it is at rest, in MiB.
fn large_blob(mebibytes: u64) -> u64 {
    let mut server = Server::start();
    let http = server.http();
    http.push_blob("app", b"{}");
    let idle = server.process().memory_kib().0;
    server.process().forget_highest_memory();

    let begun = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").unwrap();
    let (mut stream, mut hasher, begin) = (Stream::new(), Hasher::default(), Instant::now());
    let send = |connection: &mut TcpStream| {
        for _ in 0..mebibytes {
            let piece = stream.next();
            hasher.update(piece);
            connection.write_all(piece).unwrap();
        }
    };
    let patched = exchange(&server, &format!("PATCH {location}"), mebibytes * MIB, send, |_| {});
    assert_eq!(patched, 202);
    let digest = hasher.finish();
    let closed = http.put(&format!("{location}?digest=sha256:{digest}"), &[], b"");
    assert_eq!(closed.status, 201, "{closed:?}");
    let pushed = begin.elapsed();

    let (mut hasher, mut received, begin) = (Hasher::default(), 0, Instant::now());
    let path = format!("GET /v2/app/blobs/sha256:{digest}");
    let read = exchange(
        &server,
        &path,
        0,
        |_| {},
        |bytes| {
            hasher.update(bytes);
            received += bytes.len() as u64;
        },
    );
    assert_eq!((read, received, hasher.finish()), (200, mebibytes * MIB, digest));
    let grown = server.process().memory_kib().1.saturating_sub(idle) / 1024;
    println!(
        "{mebibytes} MiB: pushed in {pushed:?}, pulled in {:?}, {grown} MiB above idle",
        begin.elapsed()
    );
    grown
}

#[test]
fn a_blob_passes_in_bounded_memory() {
    let grown = large_blob(256);
    assert!(grown < 64, "grew by {grown} MiB");
}

#[test]
#[ignore = "long: ten gibibytes are pushed and pulled"]
fn ten_gibibytes_pass_in_bounded_memory() {
    let grown = large_blob(10 << 10);
    assert!(grown < 64, "grew by {grown} MiB");
}

/// An image of three layers of so many mebibytes each; the paths to pull for it.
fn push_image(server: &Server, mebibytes: u64) -> Vec<String> {
    let http = server.http();
    let mut stream = Stream::new();
    let descriptor = |bytes: &[u8]| {
        let digest = format!("sha256:{}", sha256(bytes));
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": bytes.len()})
    };
    let mut layers = Vec::new();
    for _ in 0..3 {
        let layer: Vec<u8> = (0..mebibytes).flat_map(|_| stream.next().to_vec()).collect();
        http.push_blob("app", &layer);
        layers.push(descriptor(&layer));
    }
    http.push_blob("app", b"{}");
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(b"{}"), "layers": layers});
    let put =
        http.put("/v2/app/manifests/latest", &[("content-type", MANIFEST)], manifest.to_string().as_bytes());
    assert_eq!(put.status, 201, "{put:?}");
    let layers = layers.iter().map(|layer| format!("/v2/app/blobs/{}", layer["digest"].as_str().unwrap()));
    ["/v2/app/manifests/latest".to_owned()].into_iter().chain(layers).collect()
}

/// So many clients pull the image at once, each `times`, and ask again where a server that is starved of processors
/// says so, as every client does. Bytes a second.
fn pull(server: &Server, paths: &[String], clients: u64, times: u64, image: u64) -> f64 {
    let (received, put_off, begin) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                for path in (0..times).flat_map(|_| paths) {
                    let count = |bytes: &[u8]| {
                        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    };
                    let get = || exchange(server, &format!("GET {path}"), 0, |_| {}, count);
                    eventually_within(Duration::from_secs(60), path, || match get() {
                        200 => Some(()),
                        503 => {
                            put_off.fetch_add(1, Ordering::Relaxed);
                            None
                        }
                        status => panic!("{path}: {status}"),
                    });
                }
            });
        }
    });
    assert!(received.load(Ordering::Relaxed) >= clients * times * image, "every pull is whole");
    println!("{clients} clients were put off {} times", put_off.load(Ordering::Relaxed));
    received.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// Pulls of one image by a few clients and then by many: the share of the few's throughput that is left, and by how
/// many MiB memory grew.
fn crowd(many: u64, mebibytes: u64, times: u64) -> (f64, u64) {
    const FEW: u64 = 16;
    let mut server = Server::start();
    let (paths, image) = (push_image(&server, mebibytes), 3 * mebibytes * MIB);
    pull(&server, &paths, 1, 1, image);
    let idle = server.process().memory_kib().0;
    server.process().forget_highest_memory();
    let by_few = pull(&server, &paths, FEW, times * many / FEW, image);
    let few_grown = server.process().memory_kib().1.saturating_sub(idle) / 1024;
    server.process().forget_highest_memory();
    let by_many = pull(&server, &paths, many, times, image);
    let grown = server.process().memory_kib().1.saturating_sub(idle) / 1024;
    let mib = |rate: f64| rate / MIB as f64;
    println!("{FEW} pulls at once: {:.0} MiB/s, {few_grown} MiB above idle", mib(by_few));
    println!("{many} pulls at once: {:.0} MiB/s, {grown} MiB above idle", mib(by_many));
    (by_many / by_few, grown)
}

#[test]
fn many_pulls_at_once_all_succeed_in_bounded_memory() {
    let (_, grown) = crowd(64, 2, 1);
    assert!(grown < 64, "grew by {grown} MiB");
}

#[test]
#[ignore = "long: 256 pulls at once of one image, again and again"]
fn two_hundred_and_fifty_six_pulls_at_once_do_not_collapse() {
    let (share, grown) = crowd(256, 8, 4);
    assert!(share >= 0.5, "{share:.2} of the throughput of a few is left");
    assert!(grown < 128, "grew by {grown} MiB");
}

/// How often the bucket was asked for bytes of an object.
fn reads(bucket: &Bucket) -> usize {
    let log = std::fs::read_to_string(bucket.folder.path().join("access.log")).unwrap_or_default();
    log.lines().filter(|line| line.contains("s3_GetObject objects/")).count()
}

#[test]
fn cold_pulls_at_once_of_one_blob_ask_the_bucket_once_for_each_piece() {
    const PULLS: usize = 64;
    let bucket = Bucket::start();
    let config = format!("replicas = [\"s3://bucket\"]\n{}", bucket.config());
    let mut server = Server::builder().config(&config).start();
    let mut stream = Stream::new();
    let blob: Vec<u8> = (0..6).flat_map(|_| stream.next().to_vec()).collect();
    let path = format!("/v2/app/blobs/{}", server.http().push_blob("app", &blob));
    server.stop();
    server.start_again();
    let before = reads(&bucket);
    std::thread::scope(|scope| {
        for _ in 0..PULLS {
            let http = server.http();
            let (path, blob) = (&path, &blob);
            scope.spawn(move || assert!(http.get(path).body == *blob));
        }
    });
    // Seven pieces of a mebibyte hold the object.
    eventually("the bucket has noted what it was asked", || (reads(&bucket) >= before + 7).then_some(()));
    let asked = reads(&bucket) - before;
    assert!(asked <= 9, "{PULLS} pulls asked {asked} times");
}
