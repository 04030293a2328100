//! The `s3` driver against real servers: versitygw over a folder, and MinIO in the long run.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry_runtime::SecretString;
use tempfile::TempDir;

use super::bucket::Bucket;
use super::{S3Config, S3Store};
use crate::buffer::Buffer;
use crate::file_id::FileId;
use crate::replicate::ReplicaId;
use crate::store::{BlobStore, StoreError};
use crate::suite::{self, Abilities};

const ID: FileId = FileId::from_bytes([0xa7; 16]);
const ABILITIES: Abilities = Abilities { locks: false, begins_anew: false, keeps_open: false };
const USER: &str = "berth-test";
const SECRET: &str = "berth-test-secret";

/// A server on loopback with one bucket, `bucket`.
struct Service {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Service {
    fn versitygw() -> Self {
        Self::start("versitygw", |command, port, folder| {
            std::fs::create_dir(folder.join("bucket")).unwrap();
            command.args(["--quiet", "--access", USER, "--secret", SECRET, "--port"]);
            command.arg(format!("127.0.0.1:{port}")).arg("posix").arg(folder);
        })
    }

    async fn minio() -> Self {
        let service = Self::start("minio", |command, port, folder| {
            command.env("MINIO_ROOT_USER", USER).env("MINIO_ROOT_PASSWORD", SECRET);
            command.args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")]).arg(folder);
        });
        let bucket = Bucket::new(&service.config(""));
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = bucket.make().await {
            assert!(Instant::now() < deadline, "{error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        service
    }

    fn start(name: &str, arguments: impl FnOnce(&mut Command, u16, &std::path::Path)) -> Self {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/bin");
        let mut command = Command::new(std::path::Path::new(tools).join(name));
        arguments(&mut command, port, folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{name} does not start from {tools}, where deploy/test.sh installs it: {error}")
        });
        let service = Self { child, port, folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{name} does not listen");
        }
        service
    }

    fn config(&self, prefix: &str) -> S3Config {
        S3Config {
            bucket: "bucket".to_owned(),
            prefix: prefix.to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: "us-east-1".to_owned(),
            path_style: true,
            access_key_id: USER.to_owned(),
            secret_access_key: SecretString::from(SECRET),
            part_buffers: 4,
            cache_bytes: 16 << 20,
        }
    }

    async fn store(&self, prefix: &str) -> S3Store {
        let config = self.config(prefix);
        S3Store::initialize(&config, "cluster", &replica()).await.unwrap();
        S3Store::open(&config, "cluster", &replica())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn replica() -> ReplicaId {
    ReplicaId::new("bucket")
}

async fn put(store: &S3Store, file_id: FileId, bytes: Bytes) -> Result<(), StoreError> {
    store.create(file_id).await?.commit(bytes).await
}

async fn get(store: &S3Store, file_id: FileId) -> Result<Vec<u8>, StoreError> {
    let reader = store.open(file_id).await?;
    let len = reader.len() as usize;
    Ok(reader.read_at(0, Buffer::new(len), 0, len).await?.to_vec())
}

async fn keeps_the_contract(service: &Service) {
    let store = service.store("some/prefix/").await;
    suite::run(&store, ABILITIES).await;
    suite::run_concurrently(Arc::new(store)).await;
    suite::run(&service.store("").await, ABILITIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn driver_keeps_the_contract_on_versitygw() {
    keeps_the_contract(&Service::versitygw()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: MinIO takes minutes to build"]
async fn driver_keeps_the_contract_on_minio() {
    keeps_the_contract(&Service::minio().await).await;
}

#[tokio::test]
async fn bucket_without_its_marker_is_offline_and_not_empty() {
    let service = Service::versitygw();
    let store = service.store("a/").await;
    put(&store, ID, Bytes::from_static(b"bytes")).await.unwrap();
    let marker = service.folder.path().join("bucket/a/berth-replica.json");
    std::fs::rename(&marker, service.folder.path().join("gone")).unwrap();
    let other = FileId::from_bytes([1; 16]);
    // A store that has not looked yet: whoever looked lately may write for a few seconds more.
    let store = S3Store::open(&service.config("a/"), "cluster", &replica());
    assert!(matches!(store.probe().await, Err(StoreError::Offline(_))));
    assert!(matches!(store.open(other).await, Err(StoreError::Offline(_))));
    assert!(matches!(store.delete(other).await, Err(StoreError::Offline(_))));
    assert!(matches!(store.list(None, 10).await, Err(StoreError::Offline(_))));
    assert!(matches!(put(&store, other, Bytes::new()).await, Err(StoreError::Offline(_))));
    let again = S3Store::initialize(&service.config("a/"), "cluster", &replica()).await;
    assert!(matches!(again, Err(StoreError::Offline(_))), "objects without a marker are not taken over");
}

#[tokio::test]
async fn marker_of_another_replica_and_other_mistakes_are_refused() {
    let service = Service::versitygw();
    let config = service.config("a/");
    S3Store::initialize(&config, "cluster", &replica()).await.unwrap();
    S3Store::initialize(&config, "cluster", &replica()).await.unwrap();
    assert_eq!(S3Store::marker(&config).await.unwrap().unwrap().replica, "bucket");
    assert_eq!(S3Store::marker(&service.config("b/")).await.unwrap(), None);
    for (cluster, id) in [("other", replica()), ("cluster", ReplicaId::new("other"))] {
        assert!(matches!(S3Store::initialize(&config, cluster, &id).await, Err(StoreError::Offline(_))));
        let store = S3Store::open(&config, cluster, &id);
        assert!(matches!(store.probe().await, Err(StoreError::Offline(_))));
    }
    let wrong_secret = S3Config { secret_access_key: SecretString::from("wrong"), ..config.clone() };
    let wrong_bucket = S3Config { bucket: "nowhere".to_owned(), ..config.clone() };
    for wrong in [wrong_secret, wrong_bucket] {
        let error = S3Store::open(&wrong, "cluster", &replica()).probe().await.unwrap_err();
        assert!(matches!(error, StoreError::Offline(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
}

#[tokio::test]
async fn server_that_lost_its_lease_changes_nothing() {
    let service = Service::versitygw();
    let store = service.store("").await;
    let part = |byte: u8| Bytes::from(vec![byte; 8 << 20]);
    let mut first = store.create(ID).await.unwrap();
    let checkpoint = first.flush(part(1)).await.unwrap();
    // Another request goes on from the checkpoint; the first one wakes up and writes on, too.
    let mut second = store.resume(ID, 8 << 20, &checkpoint).await.unwrap();
    second.append(part(2)).await.unwrap();
    let checkpoint = second.flush(Bytes::from_static(b"tail")).await.unwrap();
    first.append(part(3)).await.unwrap();
    first.flush(Bytes::from_static(b"other")).await.unwrap();
    // Part two has another tag now: it is told, and never completed in silence.
    let mut third = store.resume(ID, (16 << 20) + 4, &checkpoint).await.unwrap();
    third.append(part(4)).await.unwrap();
    match third.commit(Bytes::new()).await {
        Err(error) => assert!(matches!(error, StoreError::NotFound), "{error:?}"),
        Ok(()) => panic!("an overwritten part was completed"),
    }
    // And once an object is there, nobody completes another over it.
    let id = FileId::from_bytes([3; 16]);
    let mut late = store.create(id).await.unwrap();
    late.append(Bytes::from(vec![9; 9 << 20])).await.unwrap();
    put(&store, id, Bytes::from_static(b"acknowledged")).await.unwrap();
    assert!(matches!(late.commit(Bytes::new()).await, Err(StoreError::Exists)));
    assert_eq!(get(&store, id).await.unwrap(), b"acknowledged");
}

#[tokio::test]
async fn deletion_leaves_no_part_and_no_tail() {
    let service = Service::versitygw();
    let store = service.store("").await;
    let mut writer = store.create(ID).await.unwrap();
    writer.append(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    let checkpoint = writer.flush(Bytes::new()).await.unwrap();
    drop(writer);
    store.delete(ID).await.unwrap();
    let resumed = store.resume(ID, 9 << 20, &checkpoint).await;
    assert!(matches!(resumed.map(|_| ()), Err(StoreError::NotFound)));
    let bucket = Bucket::new(&service.config(""));
    assert_eq!(bucket.list("", None, 100).await.unwrap().len(), 1, "the marker alone");
}

#[tokio::test]
async fn many_cold_readers_of_one_object_ask_once_for_each_block() {
    let service = Service::versitygw();
    let bytes: Bytes = (0..5_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    put(&service.store("").await, ID, bytes.clone()).await.unwrap();
    let store = S3Store::open(&service.config(""), "cluster", &replica());
    let readers: Vec<_> = (0..256)
        .map(|_| {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move { assert!(get(&store, ID).await.unwrap() == bytes) })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(store.inner.blocks.fetched(), 5, "one request a block of a MiB");
}

#[tokio::test]
async fn many_cold_writers_look_for_the_marker_once() {
    let mut service = Service::versitygw();
    S3Store::initialize(&service.config(""), "cluster", &replica()).await.unwrap();
    let store = S3Store::open(&service.config(""), "cluster", &replica());
    let write_all = |store: &S3Store| {
        let writes = (0..64u8).map(|at| {
            let store = store.clone();
            async move { put(&store, FileId::from_bytes([at; 16]), Bytes::from_static(b"bytes")).await }
        });
        futures_util::future::join_all(writes.collect::<Vec<_>>())
    };
    assert!(write_all(&store).await.iter().all(Result::is_ok));
    assert_eq!(store.inner.watch.looks(), 1);
    // Whoever has to know it for sure asks anew.
    assert!(matches!(store.open(ID).await.map(drop), Err(StoreError::NotFound)));
    assert_eq!(store.inner.watch.looks(), 2);
    // What a look fails with is everybody's answer, and the next who asks looks again.
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    let store = S3Store::open(&service.config(""), "cluster", &replica());
    for looks in [1, 2] {
        let failed = write_all(&store).await;
        assert!(failed.iter().all(|one| matches!(one, Err(StoreError::Io(_) | StoreError::TimedOut))));
        assert_eq!(store.inner.watch.looks(), looks);
    }
}

#[tokio::test]
async fn service_that_is_gone_is_an_error_and_not_an_empty_store() {
    let mut service = Service::versitygw();
    let store = service.store("").await;
    put(&store, ID, Bytes::from_static(b"bytes")).await.unwrap();
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    for answer in [store.open(FileId::from_bytes([1; 16])).await.map(drop), store.probe().await] {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Io(_) | StoreError::TimedOut), "{error:?}");
        if let StoreError::Io(error) = error {
            assert_ne!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}
