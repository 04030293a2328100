//! What one operation costs the server when 1,000 manifests are stored, and when a million are: the same requests to
//! one server, whose repository is filled between them.
//!
//! `cargo bench --bench stored [-- --manifests N]... [--operations N]`. Rows are written by the registry's own code,
//! straight into the database of the server while it is down; what is read and deleted was pushed. CPU is that of the
//! server process; the first row is what it uses while nobody asks for anything.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use registry_aws::page;
use registry_metadata::{
    Content, ContentKind, KeyRow, Manifest, Metadata, Repository, blobs, manifests, repositories, tags,
};
use registry_sql::Database;
use registry_types::{Digest, MediaType};
use serde_json::{Value, json};
use test_support::{Http, Server, eventually_within, sha256};

const REPOSITORY: &str = "bench/app";
const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"a layer that every image has";
const CONNECTIONS: usize = 4;
/// Manifests of one transaction while the repository is filled.
const BATCH: usize = 1000;

fn main() {
    let (mut sizes, mut operations) = (Vec::new(), 4000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--manifests" => sizes.push(arguments.next().unwrap().parse().unwrap()),
            "--operations" => operations = arguments.next().unwrap().parse().unwrap(),
            // What cargo itself passes.
            _ => {}
        }
    }
    if sizes.is_empty() {
        sizes = vec![1000, 1_000_000];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut server = Server::start();
    let first = prepare(&server.http());
    let mut columns: Vec<Vec<(&str, f64)>> = Vec::new();
    let mut stored = 0;
    for &size in &sizes {
        server.stop();
        let begun = Instant::now();
        runtime.block_on(fill(&server.data().join("berth.db"), stored..size));
        println!("{size} manifests are stored, {:.1} s", begun.elapsed().as_secs_f64());
        stored = size;
        server.start_again();
        columns.push(measure(&mut server, &first, columns.len(), operations));
    }
    print(&sizes, &columns);
}

/// A manifest that is no other's, and names what is there.
fn manifest(number: &str) -> Vec<u8> {
    let descriptor = |kind: &str, bytes: &[u8]| {
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "size": bytes.len(),
            "digest": format!("sha256:{}", sha256(bytes))})
    };
    json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": descriptor("config.v1+json", CONFIG),
        "layers": [descriptor("layer.v1.tar", LAYER)], "annotations": {"number": number}})
    .to_string()
    .into_bytes()
}

/// Pushes what is read later; the digest of its manifest.
fn prepare(http: &Http) -> String {
    http.push_blob(REPOSITORY, CONFIG);
    http.push_blob(REPOSITORY, LAYER);
    put(http, "latest", "first")
}

/// Pushes a manifest; its digest.
fn put(http: &Http, tag: &str, number: &str) -> String {
    let path = format!("/v2/{REPOSITORY}/manifests/{tag}");
    let answer = http.put(&path, &[("content-type", MediaType::OCI_MANIFEST)], &manifest(number));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("docker-content-digest").unwrap().to_owned()
}

/// Stores the rows of these manifests, each with a tag, as so many pushes would.
async fn fill(database: &Path, numbers: std::ops::Range<usize>) {
    let database = Database::open_sqlite(database).await.unwrap();
    let metadata = Metadata::open(database.clone()).await.unwrap();
    let name = REPOSITORY.parse().unwrap();
    let found = metadata.read(move |tx| repositories::by_name(tx, &name)).await;
    let repository: Repository = found.unwrap().unwrap();
    let mut first = numbers.start;
    while first < numbers.end {
        let last = numbers.end.min(first + BATCH);
        let repository = repository.clone();
        let write =
            metadata.write(move |tx| (first..last).try_for_each(|number| store(tx, &repository, number)));
        write.await.unwrap();
        first = last;
    }
    database.close().await;
}

fn store(
    tx: &registry_metadata::Tx<'_>,
    repository: &Repository,
    number: usize,
) -> Result<(), registry_metadata::Error> {
    let of = |bytes: &[u8]| -> Digest { format!("sha256:{}", sha256(bytes)).parse().unwrap() };
    let (digest, uid, now_ms) = (of(&number.to_be_bytes()), &repository.uid, 1_700_000_000_000);
    let media_type = |text: &str| MediaType::from_content_type(text);
    let manifest = Manifest {
        digest: digest.clone(),
        media_type: media_type(MediaType::OCI_MANIFEST),
        size: 500,
        artifact_type: None,
        config_media_type: Some("application/vnd.oci.image.config.v1+json".to_owned()),
        subject: None,
        image_size: (CONFIG.len() + LAYER.len()) as u64,
        pushed_at_ms: now_ms,
        last_pulled_at_ms: None,
    };
    manifests::insert(tx, uid, &manifest)?;
    let content = |kind, bytes: &[u8]| Content {
        kind,
        digest: of(bytes),
        media_type: media_type("application/octet-stream"),
        size: bytes.len() as u64,
    };
    let contents = [content(ContentKind::Config, CONFIG), content(ContentKind::Layer, LAYER)];
    manifests::insert_contents(tx, uid, &digest, &contents)?;
    tags::put(tx, uid, &format!("v{number:07}").parse().unwrap(), &digest, now_ms)?;
    let mut file_id = [0; 16];
    hex::decode_to_slice(&digest.as_str()["sha256:".len()..][..32], &mut file_id).unwrap();
    let key = KeyRow {
        file_id,
        dek_id: file_id,
        total_len: 500,
        object_len: 1000,
        footer_sha256: [0; 32],
        epoch: 1,
        wrap_nonce: [0; 12],
        wrapped: [0; 48],
    };
    blobs::put_key(tx, &repository.domain, &digest, &key, now_ms).map(drop)
}

/// CPU microseconds of each operation; of a second for the row of doing nothing.
fn measure(server: &mut Server, first: &str, round: usize, operations: usize) -> Vec<(&'static str, f64)> {
    let idle = quiet(server);
    let http = server.http();
    let token =
        http.get(&format!("/token?service=berth&scope=repository:{REPOSITORY}:pull,push,delete")).json();
    let http = http.bearer(token["token"].as_str().unwrap());
    let ecr = Ecr::new(server);
    let get = |path: &str| {
        let answer = http.get(&format!("/v2/{REPOSITORY}/{path}"));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer
    };
    let name = |number: usize| format!("{round}-{number}");
    let pushed = parking_lot::Mutex::new(Vec::new());
    let middle = page::encode(&format!("sha256:8{}", "0".repeat(63)));
    let page_of = |operation: &str, member: &str| {
        let input = json!({"repositoryName": REPOSITORY, "maxResults": 100, "nextToken": middle});
        let listed = ecr.call(operation, &input)[member].as_array().unwrap().len();
        assert!(listed == 100, "{operation}: {listed}");
    };
    let tag_page = "tags/list?n=100&last=v0000500";
    // What is made at first use does not count.
    for _ in 0..100 {
        get("manifests/latest");
        page_of("DescribeImages", "imageDetails");
    }
    let mut row = vec![("idle, a second", idle)];
    let mut add = |what, share: usize, operation: &(dyn Fn(usize) + Sync)| {
        row.push((what, cpu_of(server, (operations / share).max(1), operation)));
    };
    add("manifest GET by tag", 1, &|_| drop(get("manifests/latest")));
    add("manifest GET by digest", 1, &|_| drop(get(&format!("manifests/{first}"))));
    add("tag list, page of 100", 2, &|_| {
        assert_eq!(get(tag_page).json()["tags"].as_array().unwrap().len(), 100);
    });
    add("ListImages, page of 100", 4, &|_| page_of("ListImages", "imageIds"));
    add("DescribeImages, page of 100", 4, &|_| page_of("DescribeImages", "imageDetails"));
    add("BatchGetImage of a tag", 2, &|_| {
        let input = json!({"repositoryName": REPOSITORY, "imageIds": [{"imageTag": "latest"}]});
        assert_eq!(ecr.call("BatchGetImage", &input)["images"].as_array().unwrap().len(), 1);
    });
    add("referrers", 1, &|_| drop(get(&format!("referrers/{first}"))));
    add("manifest PUT of a new tag", 4, &|number| {
        pushed.lock().push(put(&http, &format!("n{}", name(number)), &name(number)));
    });
    add("tag that moves", 4, &|number| drop(put(&http, "moving", &name(number))));
    add("manifest DELETE", 4, &|number| {
        let digest = pushed.lock()[number].clone();
        assert_eq!(http.delete(&format!("/v2/{REPOSITORY}/manifests/{digest}")).status, 202);
    });
    row
}

/// Waits until the server has done what it does after its start; CPU microseconds of a second of doing nothing.
fn quiet(server: &mut Server) -> f64 {
    const LONG: Duration = Duration::from_secs(600);
    eventually_within(LONG, "the server comes to rest", || {
        let before = server.process().cpu();
        std::thread::sleep(Duration::from_secs(5));
        let used = server.process().cpu() - before;
        (used < Duration::from_millis(500)).then_some(used.as_secs_f64() * 1e6 / 5.0)
    })
}

/// CPU microseconds of the server for one of so many operations over several connections.
fn cpu_of(server: &mut Server, count: usize, operation: &(dyn Fn(usize) + Sync)) -> f64 {
    let next = AtomicUsize::new(0);
    let before = server.process().cpu();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    operation(number);
                }
            });
        }
    });
    (server.process().cpu() - before).as_secs_f64() * 1e6 / count as f64
}

/// Calls of the ECR API, signed.
struct Ecr {
    client: registry_aws::Client,
    runtime: tokio::runtime::Runtime,
}

impl Ecr {
    fn new(server: &Server) -> Self {
        let credentials = registry_aws::Credentials::new(server.access_key_id(), server.secret());
        let client = registry_aws::Client::new(server.endpoint(), "us-east-1", credentials).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { client, runtime }
    }

    fn call(&self, operation: &str, input: &Value) -> Value {
        let call = self.client.call("ecr", "AmazonEC2ContainerRegistry_V20150921", operation, input);
        self.runtime.block_on(call).unwrap()
    }
}

fn print(sizes: &[usize], columns: &[Vec<(&str, f64)>]) {
    print!("{:<28}", "CPU us of one");
    sizes.iter().for_each(|size| print!("{size:>12}"));
    println!("{:>10}", "ratio");
    for (at, (what, first)) in columns[0].iter().enumerate() {
        print!("{what:<28}");
        columns.iter().for_each(|column| print!("{:>12.0}", column[at].1));
        let last = columns.last().map_or(0.0, |column| column[at].1);
        println!("{:>10.2}", last / first.max(1.0));
    }
}
