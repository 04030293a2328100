//! The `fs` driver against the real filesystem.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::TempDir;

use super::FsStore;
use super::reader::FsReader;
use crate::buffer::Buffer;
use crate::file_id::FileId;
use crate::replicate::ReplicaId;
use crate::store::{BlobStore, ObjectReader, StoreError};
use crate::suite;

const ID: FileId = FileId::from_bytes([0xa7; 16]);

fn replica() -> ReplicaId {
    ReplicaId::new("local")
}

fn new_store() -> (TempDir, FsStore) {
    let folder = TempDir::new().unwrap();
    FsStore::initialize(folder.path(), "cluster", &replica()).unwrap();
    let store = FsStore::open(folder.path(), "cluster", &replica());
    (folder, store)
}

#[tokio::test]
async fn driver_keeps_the_contract() {
    let (_folder, store) = new_store();
    suite::run(&store, suite::Abilities::ALL).await;
}

#[test]
fn notes_are_kept_whole_where_the_marker_is_and_nowhere_else() {
    let (folder, store) = new_store();
    assert_eq!(store.note("a.last").unwrap(), None);
    store.keep_note("a.last", b"one").unwrap();
    store.keep_note("a.last", b"two").unwrap();
    assert_eq!(store.note("a.last").unwrap().unwrap(), b"two");
    std::fs::remove_file(folder.path().join("berth-replica.json")).unwrap();
    assert!(matches!(store.note("a.last"), Err(StoreError::Offline(_))));
    assert!(matches!(store.keep_note("b", b"x"), Err(StoreError::Offline(_))));
    assert!(!folder.path().join("notes/b").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn driver_keeps_the_contract_under_concurrency() {
    let (_folder, store) = new_store();
    suite::run_concurrently(Arc::new(store)).await;
}

#[tokio::test]
async fn object_lies_two_folders_deep_under_its_own_name_for_its_owner_alone() {
    let (folder, store) = new_store();
    let mut writer = store.create(ID).await.unwrap();
    writer.flush(Bytes::from_static(b"first")).await.unwrap();
    let path = folder.path().join("objects/a/7").join(ID.to_string());
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn root_without_its_marker_is_offline_and_not_empty() {
    let (folder, store) = new_store();
    store.create(ID).await.unwrap().commit(Bytes::from_static(b"bytes")).await.unwrap();
    std::fs::rename(folder.path().join("berth-replica.json"), folder.path().join("gone")).unwrap();

    let other = FileId::from_bytes([1; 16]);
    assert!(matches!(store.check(), Err(StoreError::Offline(_))));
    assert!(matches!(store.open(other).await, Err(StoreError::Offline(_))));
    assert!(matches!(store.delete(other).await, Err(StoreError::Offline(_))));
    assert!(matches!(store.list(None, 10).await, Err(StoreError::Offline(_))));
    let created = store.create(other).await.unwrap().commit(Bytes::new()).await;
    assert!(matches!(created, Err(StoreError::Offline(_))));
    assert!(matches!(store.resume(ID, 5, &[]).await, Err(StoreError::Offline(_))));
}

#[tokio::test]
async fn disk_that_is_not_mounted_is_never_written_past() {
    let (folder, store) = new_store();
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::create_dir(folder.path()).unwrap();
    let created = store.create(ID).await.unwrap().commit(Bytes::new()).await;
    assert!(matches!(created, Err(StoreError::Offline(_))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn marker_of_another_replica_or_cluster_is_refused() {
    let (folder, _store) = new_store();
    let path = folder.path();
    FsStore::initialize(path, "cluster", &replica()).unwrap();
    for (cluster, id) in [("other", replica()), ("cluster", ReplicaId::new("other"))] {
        assert!(matches!(FsStore::initialize(path, cluster, &id), Err(StoreError::Offline(_))));
        assert!(matches!(FsStore::open(path, cluster, &id).check(), Err(StoreError::Offline(_))));
    }
}

#[tokio::test]
async fn marker_that_was_good_counts_no_more_once_it_is_touched() {
    let (folder, store) = new_store();
    let marker = folder.path().join("berth-replica.json");
    let good = std::fs::read_to_string(&marker).unwrap();
    let bad = good.replace("\"local\"", "\"other\"");
    assert!(bad != good && bad.len() == good.len());
    let much_later = SystemTime::now() + Duration::from_secs(60);
    let changed = || std::fs::metadata(&marker).map(|found| (found.ctime(), found.ctime_nsec())).unwrap();
    let rewrite = |text: &str| {
        let (before, modified) = (changed(), std::fs::metadata(&marker).unwrap().modified().unwrap());
        while changed() == before {
            std::fs::write(&marker, text).unwrap();
            File::options().write(true).open(&marker).unwrap().set_modified(modified).unwrap();
        }
    };
    let try_create = async |id: u8| {
        let writer = store.create(FileId::from_bytes([id; 16])).await.unwrap();
        writer.commit(Bytes::from_static(b"bytes")).await
    };
    store.check().unwrap();
    assert!(!store.root.is_remembered(), "what has just been written may be written again unseen");
    store.root.verify(much_later).unwrap();
    assert!(store.root.is_remembered());
    try_create(1).await.unwrap();

    // In place, as long as before and with the old time.
    rewrite(&bad);
    assert!(matches!(try_create(2).await, Err(StoreError::Offline(_))));
    assert!(!store.root.is_remembered());
    rewrite(&good);
    store.root.verify(much_later).unwrap();
    try_create(3).await.unwrap();

    // By another file in its place, and by none.
    let beside = folder.path().join("beside");
    std::fs::write(&beside, &bad).unwrap();
    std::fs::rename(&beside, &marker).unwrap();
    assert!(matches!(try_create(4).await, Err(StoreError::Offline(_))));
    rewrite(&good);
    store.root.verify(much_later).unwrap();
    std::fs::remove_file(&marker).unwrap();
    assert!(matches!(try_create(5).await, Err(StoreError::Offline(_))));
    assert!(!store.root.object(FileId::from_bytes([5; 16])).exists());
}

#[tokio::test]
async fn root_with_objects_and_no_marker_is_not_taken_over() {
    let (folder, store) = new_store();
    store.create(ID).await.unwrap().commit(Bytes::new()).await.unwrap();
    std::fs::remove_file(folder.path().join("berth-replica.json")).unwrap();
    assert!(matches!(FsStore::initialize(folder.path(), "cluster", &replica()), Err(StoreError::Offline(_))));
}

#[tokio::test]
async fn object_deleted_under_its_writer_is_not_committed() {
    let (_folder, store) = new_store();
    let mut writer = store.create(ID).await.unwrap();
    writer.flush(Bytes::from_static(b"bytes")).await.unwrap();
    store.delete(ID).await.unwrap();
    assert!(matches!(writer.commit(Bytes::new()).await, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn writer_that_failed_once_takes_no_more() {
    let (folder, store) = new_store();
    let mut writer = store.create(ID).await.unwrap();
    std::fs::remove_dir_all(folder.path().join("objects")).unwrap();
    writer.append(Bytes::from_static(b"lost")).await.unwrap();
    assert!(writer.append(Bytes::from_static(b"more")).await.is_err());
    assert!(writer.flush(Bytes::new()).await.is_err());
    assert!(writer.commit(Bytes::new()).await.is_err());
}

#[tokio::test]
async fn append_that_was_dropped_half_way_fails_the_writer() {
    let (_folder, store) = new_store();
    let mut writer = store.create(ID).await.unwrap();
    writer.append(Bytes::from(vec![1; 1 << 20])).await.unwrap();
    {
        let second = writer.append(Bytes::from(vec![2; 10]));
        let mut second = std::pin::pin!(second);
        let _ = futures_util::poll!(&mut second);
    }
    // Whether the poll got through or not, no byte is ever left out in the middle.
    let committed = writer.commit(Bytes::from(vec![3; 10])).await;
    if committed.is_ok() {
        assert_eq!(store.open(ID).await.unwrap().len(), (1 << 20) + 20);
    }
}

#[tokio::test]
async fn reader_without_inline_reads_goes_to_the_pool() {
    let (folder, store) = new_store();
    store.create(ID).await.unwrap().commit(Bytes::from(vec![5; 100_000])).await.unwrap();
    let path = folder.path().join("objects/a/7").join(ID.to_string());
    let reader = FsReader::new(std::fs::File::open(path).unwrap()).unwrap();
    reader.never_inline();
    let mut target = [0; 10];
    assert_eq!(reader.try_read_at(0, &mut target).unwrap(), 0);
    let buffer = reader.read_at(99_990, Buffer::new(10), 0, 10).await.unwrap();
    assert_eq!(buffer[..], [5; 10]);
}

#[tokio::test]
async fn store_works_where_openat2_does_not() {
    let (_folder, store) = new_store();
    store.cached_open.store(false, std::sync::atomic::Ordering::Relaxed);
    store.create(ID).await.unwrap().commit(Bytes::from_static(b"bytes")).await.unwrap();
    assert_eq!(store.open(ID).await.unwrap().len(), 5);
}

#[tokio::test]
async fn cold_file_is_read_all_the_same() {
    let (folder, store) = new_store();
    let bytes: Vec<u8> = (0..3_000_000).map(|i: u32| ((i * 31) >> 7) as u8).collect();
    store.create(ID).await.unwrap().commit(bytes.clone().into()).await.unwrap();
    let path = folder.path().join("objects/a/7").join(ID.to_string());
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let reader = store.open(ID).await.unwrap();
    let mut found = Vec::new();
    while found.len() < bytes.len() {
        let len = (bytes.len() - found.len()).min(1_000_000);
        let mut buffer = Buffer::new(len);
        let filled = reader.try_read_at(found.len() as u64, &mut buffer).unwrap();
        let offset = (found.len() + filled) as u64;
        let buffer = reader.read_at(offset, buffer, filled, len).await.unwrap();
        found.extend_from_slice(&buffer);
    }
    assert!(found == bytes);
}

#[tokio::test]
async fn object_whose_sync_failed_is_never_written_again() {
    let (folder, store) = new_store();
    let mut writer = store.create(ID).await.unwrap();
    writer.flush(Bytes::from(vec![7; 100_000])).await.unwrap();
    drop(writer);
    store.root.fail_sync.store(true, std::sync::atomic::Ordering::Relaxed);
    let writer = store.resume(ID, 100_000, &[]).await.unwrap();
    assert!(writer.commit(Bytes::from_static(b"end")).await.is_err());
    store.root.fail_sync.store(false, std::sync::atomic::Ordering::Relaxed);

    assert!(!folder.path().join("objects/a/7").join(ID.to_string()).exists());
    assert!(matches!(store.open(ID).await.map(|_| ()), Err(StoreError::NotFound)));
    assert!(matches!(store.resume(ID, 100_000, &[]).await.map(|_| ()), Err(StoreError::NotFound)));
    let anew = store.resume(ID, 0, &[]).await.unwrap().commit(Bytes::new()).await;
    assert!(matches!(anew, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn what_a_failed_sync_left_is_no_copy_until_it_was_replaced() {
    let (folder, store) = new_store();
    let fail_sync = |fails| store.root.fail_sync.store(fails, std::sync::atomic::Ordering::Relaxed);
    let place = folder.path().join("objects/a/7").join(ID.to_string());
    assert!(matches!(store.sync(ID).await, Err(StoreError::NotFound)));
    store.create(ID).await.unwrap().commit(Bytes::from_static(b"whole")).await.unwrap();
    store.sync(ID).await.unwrap();
    fail_sync(true);
    assert!(matches!(store.sync(ID).await, Err(StoreError::Io(_))));
    fail_sync(false);
    // Still there to be read, as where a disk that fails does not let it be removed either.
    assert!(place.exists());
    assert!(matches!(store.sync(ID).await, Err(StoreError::NotFound)));
    std::fs::write(place.with_extension("new"), b"of an attempt that was broken off, and longer").unwrap();
    let mut copy = store.replace(ID).await.unwrap();
    copy.append(Bytes::from_static(b"whole")).await.unwrap();
    copy.finish().await.unwrap();
    copy.swap().await.unwrap();
    store.sync(ID).await.unwrap();
    assert_eq!(std::fs::read(place).unwrap(), b"whole");
}
