//! Uploads in several requests.

use bytes::Bytes;
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use registry_types::Algorithm;

use super::{content, digest_of, domain, pull, push, store_over};
use crate::content::ContentStore;
use crate::error::BlobError;
use crate::format::{MAX_TOTAL_LEN, staged_len};
use crate::key_row::{Domain, SuspendedUpload};
use crate::store::memory::MemoryStore;

async fn resume(
    store: &ContentStore,
    state: &SuspendedUpload,
    lease: &str,
    offset: u64,
) -> Result<crate::Upload, BlobError> {
    store.resume(&domain(), state, "uid", lease, offset).await
}

/// An upload of `bytes` that was suspended under the lease "one".
async fn suspended(store: &ContentStore, bytes: &Bytes) -> SuspendedUpload {
    let mut upload = store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    upload.write(bytes.clone()).await.unwrap();
    upload.suspend("one").await.unwrap()
}

#[tokio::test]
async fn upload_suspended_at_once_has_no_object_yet() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let state = suspended(&store, &Bytes::new()).await;
    assert_eq!(memory.bytes(state.file_id), None);
    let upload = resume(&store_over(&memory).await, &state, "one", 0).await.unwrap();
    let sealed = upload.finish(&digest_of(b"", Algorithm::Sha256)).await.unwrap();
    assert_eq!(pull(&store, &sealed.row, &sealed.digest).await.unwrap(), b"");
}

#[tokio::test]
async fn suspended_bytes_are_there_for_another_process() {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for len in [1, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 100, 3_333_333] {
            let memory = MemoryStore::default();
            let bytes = content(len + 100_000);
            let mut upload = store_over(&memory).await.begin(&domain(), "uid", algorithm).await.unwrap();
            upload.write(bytes.slice(..len)).await.unwrap();
            let state = upload.suspend("lease 1").await.unwrap();
            let held = memory.bytes(state.file_id).map_or(0, |stored| stored.len() as u64);
            assert_eq!(held, staged_len(len as u64 / 65_536));

            let store = store_over(&memory).await;
            let mut upload = resume(&store, &state, "lease 1", len as u64).await.unwrap();
            assert_eq!(upload.offset(), len as u64);
            upload.write(bytes.slice(len..)).await.unwrap();
            let sealed = upload.finish(&digest_of(&bytes, algorithm)).await.unwrap();
            assert!(pull(&store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
        }
    }
}

#[tokio::test]
async fn state_opens_only_for_its_upload_lease_offset_and_domain() {
    let store = store_over(&MemoryStore::default()).await;
    let other = Domain::new("other");
    store.activate(&other, 1).await.unwrap();
    let state = suspended(&store, &content(100_000)).await;
    for (domain, uid, lease, offset) in [
        (&domain(), "other", "one", 100_000),
        (&domain(), "uid", "two", 100_000),
        (&domain(), "uid", "one", 99_999),
        (&domain(), "uid", "one", 0),
        (&other, "uid", "one", 100_000),
    ] {
        let resumed = store.resume(domain, &state, uid, lease, offset).await;
        assert!(matches!(resumed.map(|_| ()), Err(BlobError::UploadUnknown)), "{uid} {lease} {offset}");
    }
    let elsewhere = SuspendedUpload { file_id: crate::FileId::from_bytes([1; 16]), ..state.clone() };
    assert!(resume(&store, &elsewhere, "one", 100_000).await.is_err());
    resume(&store, &state, "one", 100_000).await.unwrap();
}

#[tokio::test]
async fn changed_state_is_refused() {
    let store = store_over(&MemoryStore::default()).await;
    let state = suspended(&store, &content(70)).await;
    for at in 0..state.sealed.len() {
        let mut changed = state.clone();
        changed.sealed[at] ^= 1 << (at % 8);
        let resumed = resume(&store, &changed, "one", 70).await;
        assert!(matches!(resumed.map(|_| ()), Err(BlobError::UploadUnknown)), "byte {at}");
        let mut cut = state.clone();
        cut.sealed.truncate(at);
        assert!(resume(&store, &cut, "one", 70).await.is_err());
    }
}

#[tokio::test]
async fn object_that_lost_bytes_ends_the_upload() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let state = suspended(&store, &content(200_000)).await;
    memory.tamper(state.file_id, |stored| stored.truncate(stored.len() - 1));
    let resumed = resume(&store, &state, "one", 200_000).await;
    assert!(matches!(resumed.map(|_| ()), Err(BlobError::UploadUnknown)));
    store.delete(state.file_id).await.unwrap();
    let resumed = resume(&store, &state, "one", 200_000).await;
    assert!(matches!(resumed.map(|_| ()), Err(BlobError::UploadUnknown)));
}

#[tokio::test]
async fn upload_that_is_still_written_is_busy() {
    let store = store_over(&MemoryStore::default()).await;
    let state = suspended(&store, &content(200_000)).await;
    let first = resume(&store, &state, "one", 200_000).await.unwrap();
    let second = resume(&store, &state, "one", 200_000).await;
    assert!(matches!(second.map(|_| ()), Err(BlobError::UploadBusy)));
    drop(first);
    resume(&store, &state, "one", 200_000).await.unwrap();
}

#[tokio::test]
async fn what_an_attempt_wrote_and_did_not_suspend_is_given_up() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let bytes = content(5_000_000);
    for start in [0, 100_000] {
        let state = suspended(&store, &bytes.slice(..start)).await;
        let mut attempt = resume(&store, &state, "one", start as u64).await.unwrap();
        attempt.write(Bytes::from(vec![9; 4_000_000])).await.unwrap();
        drop(attempt);
        let mut upload = resume(&store, &state, "one", start as u64).await.unwrap();
        upload.write(bytes.slice(start..)).await.unwrap();
        let sealed = upload.finish(&digest_of(&bytes, Algorithm::Sha256)).await.unwrap();
        assert!(pull(&store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
        assert_eq!(memory.bytes(state.file_id).unwrap().len() as u64, sealed.row.object_len);
    }
}

#[tokio::test]
async fn more_than_an_object_holds_is_refused_before_it_is_stored() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let mut upload = store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    upload.offset = MAX_TOTAL_LEN - 10;
    let refused = upload.write(content(11)).await;
    assert!(matches!(refused, Err(BlobError::TooLarge { .. })));
    assert!(matches!(upload.write(content(1)).await, Err(BlobError::UploadFailed)));
    assert_eq!(memory.bytes(upload.file_id()), None);
}

#[tokio::test]
async fn rolled_key_keeps_uploads_and_blobs() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let bytes = content(200_000);
    let sealed = push(&store, &bytes).await.unwrap();
    let state = suspended(&store, &bytes).await;

    store.activate(&domain(), 2).await.unwrap();
    let rows = [(sealed.digest.clone(), sealed.row.clone())];
    let row = store.rewrap_all(&domain(), 1, &rows).await.unwrap().remove(0).unwrap();
    let state = store.rewrap_upload(&domain(), &state, "uid").await.unwrap();
    assert_eq!((row.epoch, state.epoch), (2, 2));
    assert_eq!(
        crate::KeyRow { epoch: 2, wrap_nonce: row.wrap_nonce, wrapped: row.wrapped, ..sealed.row },
        row
    );
    store.destroy_epoch(&domain(), 1).await.unwrap();
    assert!(pull(&store, &row, &sealed.digest).await.unwrap() == bytes);
    let upload = resume(&store, &state, "one", 200_000).await.unwrap();
    let again = upload.finish(&sealed.digest).await.unwrap();
    assert_eq!(again.row.epoch, 2);
    assert!(pull(&store, &again.row, &sealed.digest).await.unwrap() == bytes);
}

#[tokio::test]
async fn what_is_not_committed_is_wrapped_anew_without_the_old_key() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let bytes = content(200_000);
    let mut whole = store.begin(&domain(), "whole", Algorithm::Sha256).await.unwrap();
    whole.write(bytes.clone()).await.unwrap();
    let whole_key = whole.data_key();
    let sealed = whole.finish(&digest_of(&bytes, Algorithm::Sha256)).await.unwrap();
    let mut part = store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
    part.write(bytes.clone()).await.unwrap();
    let part_key = part.data_key();
    let state = part.suspend("one").await.unwrap();

    store.activate(&domain(), 2).await.unwrap();
    store.destroy_epoch(&domain(), 1).await.unwrap();
    let row = store.wrap_anew(&sealed.row, &sealed.digest, &whole_key).await.unwrap();
    let state = store.wrap_upload_anew(&domain(), &state, "uid", &part_key).await.unwrap();
    assert_eq!((row.epoch, state.epoch), (2, 2));
    assert!(pull(&store, &row, &sealed.digest).await.unwrap() == bytes);
    let upload = resume(&store, &state, "one", 200_000).await.unwrap();
    let again = upload.finish(&sealed.digest).await.unwrap();
    assert!(pull(&store, &again.row, &sealed.digest).await.unwrap() == bytes);
}

#[tokio::test]
async fn destroyed_epoch_opens_nothing_any_more() {
    let store = store_over(&MemoryStore::default()).await;
    let sealed = push(&store, &content(100)).await.unwrap();
    store.open(&sealed.row, &sealed.digest).await.unwrap();
    let row = crate::KeyRow { epoch: 99, ..sealed.row };
    let opened = store.open(&row, &sealed.digest).await;
    assert!(opened.is_ok(), "an open object stays open");
    store.destroy_epoch(&domain(), 99).await.unwrap();
    let opened = store.open(&row, &sealed.digest).await;
    assert!(matches!(opened.map(|_| ()), Err(BlobError::Key { epoch: 99, .. })));
}

#[tokio::test]
async fn domain_without_an_active_epoch_takes_no_upload() {
    let store = store_over(&MemoryStore::default()).await;
    let begun = store.begin(&Domain::new("never activated"), "uid", Algorithm::Sha256).await;
    assert!(matches!(begun.map(|_| ()), Err(BlobError::Key { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_of_one_digest_at_once_all_read_back() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let bytes = content(2_000_000);
    let pushes: Vec<_> = (0..8)
        .map(|_| {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move {
                let sealed = push(&store, &bytes).await.unwrap();
                for _ in 0..3 {
                    assert!(pull(&store, &sealed.row, &sealed.digest).await.unwrap() == bytes);
                }
                sealed
            })
        })
        .collect();
    let mut file_ids = std::collections::BTreeSet::new();
    for push in pushes {
        file_ids.insert(push.await.unwrap().row.file_id);
    }
    assert_eq!(file_ids.len(), 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn blob_sent_in_any_pieces_reads_back(
        pieces in proptest::collection::vec((0usize..400_000, any::<bool>(), any::<bool>()), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let good = runtime.block_on(async {
            let memory = MemoryStore::default();
            let store = store_over(&memory).await;
            let bytes = content(pieces.iter().map(|(len, _, _)| len).sum());
            let mut upload = store.begin(&domain(), "uid", Algorithm::Sha256).await.unwrap();
            let mut offset = 0;
            for (number, (len, suspend, attempt)) in pieces.into_iter().enumerate() {
                upload.write(bytes.slice(offset..offset + len)).await.unwrap();
                offset += len;
                if suspend {
                    let lease = format!("lease {number}");
                    let state = upload.suspend(&lease).await.unwrap();
                    if attempt {
                        let mut attempt = resume(&store, &state, &lease, offset as u64).await.unwrap();
                        attempt.write(Bytes::from(vec![1; 150_000])).await.unwrap();
                        let _ = attempt.suspend("never saved").await.unwrap();
                    }
                    upload = resume(&store, &state, &lease, offset as u64).await.unwrap();
                }
            }
            let sealed = upload.finish(&digest_of(&bytes, Algorithm::Sha256)).await.unwrap();
            pull(&store, &sealed.row, &sealed.digest).await.unwrap() == bytes
        });
        prop_assert!(good);
    }
}
