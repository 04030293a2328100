//! The registry measured as a whole process beside its peers: requests a second, latency, and above all the
//! server's CPU per request or per GiB. Every server gets the same requests in turns, in the same run.
//!
//! `cargo bench --bench registry` compares with Debian's docker-registry. Other binaries are named by path:
//! `cargo bench --bench registry -- --peer distribution=/path/to/registry --peer zot=/path/to/zot`.
//! `--rounds N` and `--only TEXT` choose how often and which. Berth runs with encryption, authentication and
//! durable writes on; the peers as their defaults are: plain, open, and as durable as they are.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and fails by panicking"
)]

mod client;
mod peer;
mod report;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use client::Connection;
use peer::Peer;
use report::{Measured, Report};

/// One kind of request, done many times over several connections.
struct Workload {
    name: &'static str,
    /// Requests in one round.
    requests: usize,
    connections: usize,
    /// Bytes of content a request moves; 0 where CPU is reported per request.
    bytes: u64,
    request: fn(&mut Connection, usize),
}

const MIB: usize = 1 << 20;

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "manifest GET by tag",
        requests: 20_000,
        connections: 8,
        bytes: 0,
        request: manifest_by_tag,
    },
    Workload {
        name: "manifest GET by digest",
        requests: 20_000,
        connections: 8,
        bytes: 0,
        request: manifest_by_digest,
    },
    Workload {
        name: "blob GET 1 MiB",
        requests: 2_000,
        connections: 4,
        bytes: MIB as u64,
        request: blob_1_mib,
    },
    Workload {
        name: "blob GET 100 MiB",
        requests: 40,
        connections: 2,
        bytes: 100 * MIB as u64,
        request: blob_100_mib,
    },
    Workload {
        name: "push 10 MiB blobs",
        requests: 60,
        connections: 4,
        bytes: 10 * MIB as u64,
        request: push_10_mib,
    },
    Workload { name: "manifest PUT", requests: 1_000, connections: 8, bytes: 0, request: manifest_put },
    Workload { name: "tag list of 500", requests: 2_000, connections: 8, bytes: 0, request: tag_list },
];

fn main() {
    let mut rounds = 3;
    let mut only = String::new();
    let mut peers = vec![Peer::berth()];
    let mut named = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().unwrap().parse().unwrap(),
            "--only" => only = arguments.next().unwrap(),
            "--peer" => named.push(arguments.next().unwrap()),
            // What cargo itself passes.
            _ => {}
        }
    }
    peers.push(Peer::distribution("docker-registry", "/usr/bin/docker-registry"));
    for peer in &named {
        let (kind, path) = peer.split_once('=').expect("--peer KIND=PATH");
        peers.push(match kind {
            "distribution" => Peer::distribution(kind, path),
            "zot" => Peer::zot(path),
            _ => panic!("--peer takes distribution=PATH or zot=PATH"),
        });
    }

    let mut report = Report::default();
    for peer in &peers {
        prepare(&mut peer.connect());
    }
    for workload in WORKLOADS.iter().filter(|workload| workload.name.contains(&only)) {
        for _ in 0..rounds {
            for peer in &peers {
                report.add(workload.name, peer.name(), measure(workload, peer));
            }
        }
    }
    for peer in &peers {
        report.memory(peer.name(), peer.memory_kib());
    }
    report.print();
}

/// Runs one round of a workload against one server.
fn measure(workload: &Workload, peer: &Peer) -> Measured {
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    let base = ROUND.fetch_add(1, Ordering::Relaxed) * 1_000_000;
    let next = AtomicUsize::new(0);
    let mut connections: Vec<Connection> = (0..workload.connections).map(|_| peer.connect()).collect();
    let cpu = peer.cpu();
    let begin = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                let next = &next;
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= workload.requests {
                            return latencies;
                        }
                        let begin = Instant::now();
                        (workload.request)(connection, base + index);
                        latencies.push(begin.elapsed());
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    Measured {
        requests: workload.requests,
        bytes: workload.bytes * workload.requests as u64,
        wall: begin.elapsed(),
        cpu: peer.cpu() - cpu,
        latencies,
    }
}

const REPOSITORY: &str = "bench/app";

/// Pushes what the reading workloads read.
fn prepare(connection: &mut Connection) {
    connection.push(REPOSITORY, &client::content(1, MIB));
    connection.push(REPOSITORY, &client::content(2, 100 * MIB));
    connection.push(REPOSITORY, CONFIG);
    connection.put_manifest(REPOSITORY, "latest", &manifest(0));
    connection.push("bench/tags", &client::content(1, MIB));
    connection.push("bench/tags", CONFIG);
    for tag in 0..500 {
        connection.put_manifest("bench/tags", &format!("v{tag:03}"), &manifest(0));
    }
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

/// A manifest that names the 1 MiB blob; each number gives other bytes.
fn manifest(number: usize) -> Vec<u8> {
    let layer = client::content(1, MIB);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{}","size":{}}}],"annotations":{{"number":"{number}"}}}}"#,
        test_support::sha256(CONFIG),
        CONFIG.len(),
        client::digest_of(1, &layer),
        layer.len()
    )
    .into_bytes()
}

fn manifest_by_tag(connection: &mut Connection, _: usize) {
    connection.get(&format!("/v2/{REPOSITORY}/manifests/latest"), 200);
}

fn manifest_by_digest(connection: &mut Connection, _: usize) {
    let digest = client::once("manifest", || test_support::sha256(&manifest(0)));
    connection.get(&format!("/v2/{REPOSITORY}/manifests/sha256:{digest}"), 200);
}

fn blob_1_mib(connection: &mut Connection, _: usize) {
    let digest = client::digest_of(1, &client::content(1, MIB));
    connection.get(&format!("/v2/{REPOSITORY}/blobs/sha256:{digest}"), 200);
}

fn blob_100_mib(connection: &mut Connection, _: usize) {
    let digest = client::digest_of(2, &client::content(2, 100 * MIB));
    connection.get(&format!("/v2/{REPOSITORY}/blobs/sha256:{digest}"), 200);
}

fn push_10_mib(connection: &mut Connection, index: usize) {
    connection.push(REPOSITORY, &client::numbered(index, 10 * MIB));
}

fn manifest_put(connection: &mut Connection, index: usize) {
    connection.put_manifest(REPOSITORY, &format!("n{index}"), &manifest(index));
}

fn tag_list(connection: &mut Connection, _: usize) {
    connection.get("/v2/bench/tags/tags/list", 200);
}
