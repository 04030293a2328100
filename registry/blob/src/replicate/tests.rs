//! Replication over stores in memory that fail, hang and lie.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use registry_types::Algorithm;
use tokio::time::Instant;

use super::{QuorumError, ReplicaId, Replicated};
use crate::content::tests::{content, digest_of, domain, pull, push, store_of};
use crate::content::{ContentStore, Repaired};
use crate::error::BlobError;
use crate::format::record_offset;
use crate::key_row::Sealed;
use crate::pace::Pace;
use crate::store::BlobStore;
use crate::store::faulty::{Fault, FaultyStore};

/// Calls that a push of 3,000,000 bytes makes on one replica: create, two appends, commit and its sync.
const CALLS: usize = 5;
const EIO: Fault = Fault::Error(io::ErrorKind::Other);
const ENOSPC: Fault = Fault::Error(io::ErrorKind::StorageFull);

fn id(index: usize) -> ReplicaId {
    ReplicaId::new(&format!("replica-{index}"))
}

fn replicated(stores: &[FaultyStore], quorum: Option<usize>) -> Result<Replicated, QuorumError> {
    let replicas = stores.iter().enumerate();
    let replicas =
        replicas.map(|(index, store)| (id(index), Arc::new(store.clone()) as Arc<dyn BlobStore>)).collect();
    Replicated::new(replicas, quorum)
}

/// Three replicas with a quorum of two.
async fn three() -> (Vec<FaultyStore>, ContentStore) {
    let stores: Vec<FaultyStore> = (0..3).map(|_| FaultyStore::new()).collect();
    let content = store_of(replicated(&stores, None).unwrap()).await;
    (stores, content)
}

/// A store over the same replicas that has nothing open.
async fn anew(stores: &[FaultyStore]) -> ContentStore {
    store_of(replicated(stores, None).unwrap()).await
}

/// The replicas of three that do not hold the object.
fn missing(sealed: &Sealed) -> Vec<ReplicaId> {
    (0..3).map(id).filter(|id| !sealed.durable_replicas.contains(id)).collect()
}

#[test]
fn quorum_is_stated_for_two_and_a_majority_from_three_on() {
    let stores: Vec<FaultyStore> = (0..5).map(|_| FaultyStore::new()).collect();
    for (count, stated, expected) in [
        (0, None, Err(QuorumError::Replicas)),
        (1, None, Ok(1)),
        (2, None, Err(QuorumError::Unstated)),
        (2, Some(1), Ok(1)),
        (2, Some(2), Ok(2)),
        (2, Some(3), Err(QuorumError::Quorum { least: 1 })),
        (3, None, Ok(2)),
        (3, Some(1), Err(QuorumError::Quorum { least: 2 })),
        (3, Some(3), Ok(3)),
        (5, None, Ok(3)),
    ] {
        let made = replicated(&stores[..count], stated).map(|set| set.write_quorum);
        assert_eq!(made, expected, "{count} {stated:?}");
    }
    let same = (0..2).map(|_| (id(0), Arc::new(FaultyStore::new()) as Arc<dyn BlobStore>)).collect();
    assert_eq!(Replicated::new(same, Some(1)).map(|_| ()), Err(QuorumError::SameName));
}

#[tokio::test]
async fn replicas_hold_identical_ciphertext() {
    let (stores, content_store) = three().await;
    let sealed = push(&content_store, &content(3_000_000)).await.unwrap();
    assert_eq!(missing(&sealed), []);
    let first = stores[0].memory.bytes(sealed.row.file_id).unwrap();
    for store in &stores[1..] {
        assert!(store.memory.bytes(sealed.row.file_id).unwrap() == first);
    }
}

#[tokio::test]
async fn failed_replica_is_out_for_that_upload_and_named() {
    for fault in [EIO, ENOSPC, Fault::ShortWrite, Fault::Offline] {
        for good in 0..CALLS {
            let (stores, content_store) = three().await;
            let bytes = content(3_000_000);
            stores[1].fail_after(good, fault);
            let mut upload = content_store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
            upload.write(bytes.clone()).await.unwrap();
            // A replica that comes back is not let in again half-way.
            if good < 3 {
                stores[1].fail_after(0, None);
            }
            let sealed = upload.finish(&digest_of(&bytes, Algorithm::Sha256)).await.unwrap();
            stores[1].fail_after(0, None);
            assert_eq!(missing(&sealed), [id(1)], "{fault:?} after {good}");
            let store = anew(&stores).await;
            assert!(pull(&store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
        }
    }
}

#[tokio::test]
async fn failed_replica_stays_out_across_requests() {
    let (stores, content_store) = three().await;
    let bytes = content(1_000_000);
    let mut upload = content_store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    stores[2].fail_after(1, EIO);
    upload.write(bytes.slice(..500_000)).await.unwrap();
    let state = upload.suspend("one").await.unwrap();
    stores[2].fail_after(0, None);
    // Even if its object looks as long as the others'.
    let whole = stores[0].memory.bytes(state.file_id).unwrap();
    stores[2].memory.tamper(state.file_id, |stored| *stored = vec![0; whole.len()]);
    let mut upload = anew(&stores).await.resume(&domain(), &state, "uid", "one", 500_000).await.unwrap();
    upload.write(bytes.slice(500_000..)).await.unwrap();
    let sealed = upload.finish(&digest_of(&bytes, Algorithm::Sha256)).await.unwrap();
    assert_eq!(missing(&sealed), [id(2)]);
}

#[tokio::test]
async fn below_the_quorum_nothing_is_ever_sealed() {
    for fault in [EIO, ENOSPC, Fault::ShortWrite, Fault::Offline] {
        for good in 0..CALLS + 1 {
            let (stores, content_store) = three().await;
            for store in &stores[..2] {
                store.fail_after(good, fault);
            }
            let bytes = content(3_000_000);
            let pushed = push(&content_store, &bytes).await;
            let calls = stores[0].calls();
            match pushed {
                Ok(sealed) => assert!(calls <= good, "{fault:?} after {good}: {sealed:?}"),
                Err(BlobError::Full(_)) => assert_eq!(fault, ENOSPC),
                Err(BlobError::Unavailable(_)) => assert_ne!(fault, ENOSPC),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn single_store_that_fails_anywhere_never_seals() {
    for fault in [EIO, ENOSPC, Fault::ShortWrite, Fault::Offline] {
        let mut sealed_after = None;
        for good in 0..12 {
            let store = FaultyStore::new();
            let content_store = store_of(replicated(std::slice::from_ref(&store), None).unwrap()).await;
            store.fail_after(good, fault);
            match push(&content_store, &content(3_000_000)).await {
                Ok(_) => sealed_after = sealed_after.or(Some(good)),
                Err(_) => assert_eq!(sealed_after, None, "{fault:?} after {good}"),
            }
            if sealed_after == Some(good) {
                assert_eq!(store.calls(), good, "every call went well");
            }
            // Space returns: the next push works.
            store.fail_after(0, None);
            push(&content_store, &content(10)).await.unwrap();
        }
        assert!(sealed_after.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_replica_holds_up_no_step_longer_than_five_seconds() {
    for good in 0..CALLS {
        let (stores, content_store) = three().await;
        stores[0].fail_after(good, Fault::Hang);
        let bytes = content(3_000_000);
        let start = Instant::now();
        let sealed = push(&content_store, &bytes).await.unwrap();
        assert!(start.elapsed() <= Duration::from_millis(5100), "{:?}", start.elapsed());
        assert_eq!(missing(&sealed), [id(0)]);

        // The next upload does without it from the start; a read waits for it at most once.
        let start = Instant::now();
        let next = push(&content_store, &bytes).await.unwrap();
        assert_eq!((start.elapsed(), missing(&next)), (Duration::ZERO, vec![id(0)]));
        assert!(pull(&content_store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn replica_that_hangs_in_a_read_is_left_for_another() {
    let (stores, content_store) = three().await;
    let bytes = content(3_000_000);
    let sealed = push(&content_store, &bytes).await.unwrap();
    stores[0].fail_after(4, Fault::Hang);
    let start = Instant::now();
    assert!(pull(&content_store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
    assert!(start.elapsed() <= Duration::from_millis(5100));
}

#[tokio::test]
async fn read_goes_on_from_another_replica_in_mid_stream() {
    for fault in [EIO, Fault::Offline] {
        for good in 0..8 {
            let (stores, content_store) = three().await;
            let bytes = content(5_000_000);
            let sealed = push(&content_store, &bytes).await.unwrap();
            stores[0].fail_after(good, fault);
            assert!(pull(&content_store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
        }
    }
}

#[tokio::test]
async fn replicas_that_are_bad_in_different_places_make_one_good_blob() {
    let (stores, content_store) = three().await;
    let bytes = content(20 * 65_536);
    let sealed = push(&content_store, &bytes).await.unwrap();
    let file_id = sealed.row.file_id;
    // Every record is bad on two of the three.
    for index in 0..20 {
        let good = index % 3;
        for (number, store) in stores.iter().enumerate() {
            if number != good {
                let at = record_offset(index as u64) as usize + 1000 + number;
                store.memory.tamper(file_id, |stored| stored[at] ^= 0x10);
            }
        }
    }
    let blob = content_store.open(&sealed.row, &sealed.digest).await.unwrap();
    let mut stream = blob.stream(0..blob.len());
    let mut found = Vec::new();
    while let Some(piece) = stream.next().await {
        found.extend_from_slice(&piece.unwrap());
    }
    assert!(found == bytes);
    let rejections = content_store.replicas().take_rejections();
    assert!(rejections.len() >= 20);
    assert!(rejections.iter().all(
        |rejection| rejection.file_id == file_id && rejection.range.end - rejection.range.start == 65_568
    ));
    assert_eq!(content_store.replicas().take_rejections(), []);
}

#[tokio::test]
async fn record_that_is_bad_everywhere_ends_the_stream_without_a_wrong_byte() {
    let (stores, content_store) = three().await;
    let bytes = content(20 * 65_536);
    let sealed = push(&content_store, &bytes).await.unwrap();
    for store in &stores {
        let at = record_offset(7) as usize + 99;
        store.memory.tamper(sealed.row.file_id, |stored| stored[at] ^= 1);
    }
    let blob = content_store.open(&sealed.row, &sealed.digest).await.unwrap();
    let mut stream = blob.stream(0..blob.len());
    let mut found = Vec::new();
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(piece) => found.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BlobError::Damaged { .. }));
    assert!(stream.next().await.is_none());
    assert_eq!(found.len(), 7 * 65_536);
    assert!(found == bytes[..found.len()]);
    // What does not touch the record is served.
    let mut after = blob.stream(8 * 65_536..blob.len());
    assert!(after.next().await.unwrap().unwrap() == bytes[8 * 65_536..]);
}

#[tokio::test]
async fn bad_header_or_footer_on_one_replica_is_read_from_another() {
    for at in [5, 60, 100, -1, -50] {
        let (stores, content_store) = three().await;
        let bytes = content(100);
        let sealed = push(&content_store, &bytes).await.unwrap();
        for store in &stores[..2] {
            store.memory.tamper(sealed.row.file_id, |stored| {
                let at = if at < 0 { stored.len().wrapping_add_signed(at) } else { at as usize };
                stored[at] ^= 1;
            });
        }
        assert!(pull(&content_store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
        assert_eq!(content_store.replicas().take_rejections().len(), 2);
    }
}

#[tokio::test]
async fn not_found_on_one_replica_is_no_answer() {
    let (stores, content_store) = three().await;
    let bytes = content(100_000);
    let sealed = push(&content_store, &bytes).await.unwrap();
    for store in &stores[..2] {
        store.memory.delete(sealed.row.file_id).await.unwrap();
    }
    assert!(pull(&content_store, &sealed.row, &sealed.digest).await.unwrap() == bytes);

    stores[2].fail_after(0, Fault::Offline);
    let opened = anew(&stores).await.open(&sealed.row, &sealed.digest).await;
    assert!(matches!(opened.map(|_| ()), Err(BlobError::Unavailable(_))), "the third might have it");
    stores[2].fail_after(0, None);
    stores[2].memory.delete(sealed.row.file_id).await.unwrap();
    let opened = anew(&stores).await.open(&sealed.row, &sealed.digest).await;
    assert!(matches!(opened.map(|_| ()), Err(BlobError::ObjectMissing { .. })));
}

#[tokio::test]
async fn deletion_reaches_every_replica_or_says_so() {
    let (stores, content_store) = three().await;
    let sealed = push(&content_store, &Bytes::from_static(b"bytes")).await.unwrap();
    stores[0].fail_after(0, Fault::Offline);
    let left = content_store.delete(sealed.row.file_id).await.unwrap();
    assert_eq!(left, content_store.replicas().replica_ids().take(1).cloned().collect::<Vec<_>>());
    assert!(stores[1..].iter().all(|store| store.memory.bytes(sealed.row.file_id).is_none()));
    stores.iter().for_each(|store| store.fail_after(0, Fault::Offline));
    assert!(content_store.delete(sealed.row.file_id).await.is_err(), "nobody could be asked");
    stores.iter().for_each(|store| store.fail_after(0, None));
    assert_eq!(content_store.delete(sealed.row.file_id).await.unwrap(), []);
    assert!(stores.iter().all(|store| store.memory.bytes(sealed.row.file_id).is_none()));
}

#[tokio::test]
async fn upload_that_too_few_replicas_still_hold_is_gone_and_an_offline_one_is_not() {
    let (stores, content_store) = three().await;
    let bytes = content(200_000);
    let mut upload = content_store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    upload.write(bytes).await.unwrap();
    let state = upload.suspend("one").await.unwrap();
    for store in &stores[..2] {
        store.fail_after(0, Fault::Offline);
    }
    let resumed = content_store.resume(&domain(), &state, "uid", "one", 200_000).await;
    assert!(matches!(resumed.map(|_| ()), Err(BlobError::Unavailable(_))));
    for store in &stores[..2] {
        store.fail_after(0, None);
        store.memory.tamper(state.file_id, |stored| stored.truncate(1000));
    }
    let resumed = content_store.resume(&domain(), &state, "uid", "one", 200_000).await;
    assert!(matches!(resumed.map(|_| ()), Err(BlobError::UploadUnknown)));
}

#[tokio::test]
async fn failed_sync_is_never_tried_again() {
    let store = FaultyStore::new();
    let content_store = store_of(replicated(std::slice::from_ref(&store), None).unwrap()).await;
    let bytes = content(200_000);
    let mut upload = content_store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    upload.write(bytes.clone()).await.unwrap();
    let state = upload.suspend("one").await.unwrap();
    let upload = content_store.resume(&domain(), &state, "uid", "one", 200_000).await.unwrap();
    store.fail_after(1, EIO);
    let finished = upload.finish(&digest_of(&bytes, Algorithm::Sha256)).await;
    assert!(matches!(finished, Err(BlobError::Unavailable(_))));
    store.fail_after(0, None);
    let resumed = content_store.resume(&domain(), &state, "uid", "one", 200_000).await;
    assert!(matches!(resumed.map(|_| ()), Err(BlobError::UploadUnknown)));
}

/// Whether a replica's copy is good, tags included.
async fn is_good(content_store: &ContentStore, sealed: &Sealed, replica: usize) -> bool {
    let (replica, pace) = (id(replica), Pace::unbounded());
    let verified = content_store.verify_keyed(&replica, &sealed.row, &sealed.digest, &pace).await;
    verified.unwrap().is_none()
}

async fn repair(store: &ContentStore, sealed: &Sealed, replica: usize) -> Result<Repaired, BlobError> {
    store.repair(&id(replica), &sealed.row, &sealed.digest, &Pace::unbounded()).await
}

#[tokio::test]
async fn missing_and_rotten_copies_are_repaired_to_the_same_ciphertext() {
    for len in [0, 100, 65_536, 3_000_000] {
        let (stores, content_store) = three().await;
        let sealed = push(&content_store, &content(len)).await.unwrap();
        let file_id = sealed.row.file_id;
        let original = stores[0].memory.bytes(file_id).unwrap();
        assert_eq!(repair(&content_store, &sealed, 0).await.unwrap(), Repaired::WasGood);
        let rewritten = Repaired::Rewritten { bytes: original.len() as u64 };
        stores[0].memory.delete(file_id).await.unwrap();
        assert_eq!(repair(&content_store, &sealed, 0).await.unwrap(), rewritten);
        for at in [0, 50, 127, original.len() / 2, original.len() - 1] {
            stores[0].memory.tamper(file_id, |stored| stored[at] ^= 4);
            stores[1].memory.tamper(file_id, |stored| stored.truncate(at));
            assert!(!is_good(&content_store, &sealed, 0).await);
            assert!(!is_good(&content_store, &sealed, 1).await);
            for replica in [0, 1] {
                assert_eq!(repair(&content_store, &sealed, replica).await.unwrap(), rewritten);
                assert!(stores[replica].memory.bytes(file_id).unwrap() == original);
            }
        }
    }
}

#[tokio::test]
async fn copy_that_is_not_durable_is_written_anew_though_it_reads_well() {
    let (stores, content_store) = three().await;
    let sealed = push(&content_store, &content(100)).await.unwrap();
    stores[0].fail_next_sync();
    assert!(is_good(&content_store, &sealed, 0).await);
    let repaired = repair(&content_store, &sealed, 0).await.unwrap();
    assert_eq!(repaired, Repaired::Rewritten { bytes: sealed.row.object_len });
    assert_eq!(repair(&content_store, &sealed, 0).await.unwrap(), Repaired::WasGood);
}

#[tokio::test]
async fn copies_that_are_bad_in_different_places_repair_each_other() {
    let (stores, content_store) = three().await;
    let sealed = push(&content_store, &content(20 * 65_536)).await.unwrap();
    let file_id = sealed.row.file_id;
    let original = stores[0].memory.bytes(file_id).unwrap();
    stores[2].memory.delete(file_id).await.unwrap();
    stores[0].memory.tamper(file_id, |stored| {
        stored[3] ^= 1;
        stored[record_offset(7) as usize + 9] ^= 1;
    });
    stores[1].memory.tamper(file_id, |stored| {
        *stored.last_mut().unwrap() ^= 1;
        stored[record_offset(8) as usize + 9] ^= 1;
    });
    for (replica, store) in stores.iter().enumerate() {
        repair(&content_store, &sealed, replica).await.unwrap();
        assert!(store.memory.bytes(file_id).unwrap() == original);
    }
}

#[tokio::test]
async fn without_a_good_source_nothing_is_touched() {
    let (stores, content_store) = three().await;
    let sealed = push(&content_store, &content(20 * 65_536)).await.unwrap();
    let file_id = sealed.row.file_id;
    for store in &stores {
        let at = record_offset(7) as usize + 99;
        store.memory.tamper(file_id, |stored| stored[at] ^= 1);
    }
    let before: Vec<_> = stores.iter().map(|store| store.memory.bytes(file_id)).collect();
    for replica in 0..3 {
        let repaired = repair(&content_store, &sealed, replica).await;
        assert!(matches!(repaired, Err(BlobError::Damaged { .. })), "{repaired:?}");
    }
    assert!(stores.iter().map(|store| store.memory.bytes(file_id)).eq(before));
    for store in &stores {
        store.memory.delete(file_id).await.unwrap();
    }
    let repaired = repair(&content_store, &sealed, 0).await;
    assert!(matches!(repaired, Err(BlobError::ObjectMissing { .. })), "{repaired:?}");
}

#[tokio::test]
async fn repair_that_fails_anywhere_leaves_the_bad_copy_and_works_later() {
    let (stores, content_store) = three().await;
    let sealed = push(&content_store, &content(3_000_000)).await.unwrap();
    let file_id = sealed.row.file_id;
    let original = stores[0].memory.bytes(file_id).unwrap();
    stores[0].memory.tamper(file_id, |stored| stored[200] ^= 1);
    let bad = stores[0].memory.bytes(file_id).unwrap();
    for good in 0.. {
        stores[0].fail_after(good, EIO);
        let repaired = repair(&content_store, &sealed, 0).await;
        stores[0].fail_after(0, None);
        if repaired.is_ok() {
            assert!(good > 5, "{good}");
            break;
        }
        assert!(stores[0].memory.bytes(file_id).unwrap() == bad);
    }
    assert!(stores[0].memory.bytes(file_id).unwrap() == original);
}

#[tokio::test]
async fn replica_that_is_drained_is_read_and_not_written() {
    let (stores, content_store) = three().await;
    let bytes = content(100_000);
    let before = push(&content_store, &bytes).await.unwrap();
    let open = content_store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    let of = |index: usize| (id(index), Arc::new(stores[index].clone()) as Arc<dyn BlobStore>);
    let next = Replicated::new(vec![of(0), of(1)], Some(1)).unwrap().with_drained(vec![of(2)]).unwrap();
    content_store.set_replicas(next);
    let after = push(&content_store, &bytes).await.unwrap();
    assert_eq!(missing(&after), [id(2)]);
    assert!(stores[2].memory.bytes(after.row.file_id).is_none());
    drop(open);
    for store in &stores[..2] {
        store.memory.delete(before.row.file_id).await.unwrap();
    }
    assert!(pull(&content_store, &before.row, &before.digest).await.unwrap() == bytes);
    content_store.delete(before.row.file_id).await.unwrap();
    assert!(stores[2].memory.bytes(before.row.file_id).is_none());
    let same = Replicated::new(vec![of(0)], None).unwrap().with_drained(vec![of(0)]);
    assert_eq!(same.map(|_| ()), Err(QuorumError::SameName));
}
