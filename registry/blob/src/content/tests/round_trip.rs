//! What is pushed is what is pulled.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use registry_types::Algorithm;
use tempfile::TempDir;

use super::{content, digest_of, domain, pull, push, replica, store_of, store_over};
use crate::error::BlobError;
use crate::replicate::Replicated;
use crate::store::fs::FsStore;
use crate::store::memory::MemoryStore;

const SIZES: [usize; 9] = [0, 1, 65_535, 65_536, 65_537, 300 * 1024, 1 << 20, (1 << 20) + 1, 5_000_000];

#[tokio::test]
async fn blob_of_every_size_reads_back() {
    let memory = MemoryStore::default();
    for len in SIZES {
        let bytes = content(len);
        let sealed = push(&store_over(&memory).await, &bytes).await.unwrap();
        assert_eq!(sealed.row.total_len, len as u64);
        assert_eq!(sealed.durable_replicas, [replica()]);
        assert_eq!(memory.bytes(sealed.row.file_id).unwrap().len() as u64, sealed.row.object_len);
        let pulled = pull(&store_over(&memory).await, &sealed.row, &sealed.digest).await.unwrap();
        assert!(pulled == bytes, "{len}");
    }
}

#[tokio::test]
async fn blob_reads_back_from_files() {
    let folder = TempDir::new().unwrap();
    FsStore::initialize(folder.path(), "cluster", &replica()).unwrap();
    let files = FsStore::open(folder.path(), "cluster", &replica());
    for len in SIZES {
        let bytes = content(len);
        let store = store_of(Replicated::single(replica(), Arc::new(files.clone()))).await;
        let sealed = push(&store, &bytes).await.unwrap();
        assert!(pull(&store, &sealed.row, &sealed.digest).await.unwrap() == bytes, "{len}");
        store.delete(sealed.row.file_id).await.unwrap();
        assert!(matches!(
            store.open(&sealed.row, &sealed.digest).await.map(|_| ()),
            Err(BlobError::ObjectMissing { .. })
        ));
    }
}

#[tokio::test]
async fn stored_bytes_hold_no_plaintext() {
    let memory = MemoryStore::default();
    let canary = b"a canary that nobody should find in a replica";
    let bytes = Bytes::from(canary.repeat(5000));
    let sealed = push(&store_over(&memory).await, &bytes).await.unwrap();
    let stored = memory.bytes(sealed.row.file_id).unwrap();
    assert!(!stored.windows(16).any(|window| window == &canary[..16]));
}

#[tokio::test]
async fn pieces_of_any_size_make_the_same_blob() {
    let store = store_over(&MemoryStore::default()).await;
    let bytes = content(700_000);
    let digest = digest_of(&bytes, Algorithm::Sha256);
    for piece in [1000, 65_535, 65_536, 65_537, 262_144, 700_000] {
        let mut upload = store.begin(&domain(), "upload", Algorithm::Sha256).await.unwrap();
        for chunk in bytes.chunks(piece) {
            upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(upload.offset(), 700_000);
        let sealed = upload.finish(&digest).await.unwrap();
        assert!(pull(&store, &sealed.row, &digest).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn crowd_of_slow_clients_goes_record_by_record() {
    let store = store_over(&MemoryStore::default()).await;
    let bytes = content(700_000);
    let digest = digest_of(&bytes, Algorithm::Sha256);
    let mut uploads = Vec::new();
    for _ in 0..40 {
        let mut upload = store.begin(&domain(), "upload", Algorithm::Sha256).await.unwrap();
        upload.write(bytes.slice(..300_000)).await.unwrap();
        uploads.push(upload);
    }
    let mut streams = Vec::new();
    for mut upload in uploads {
        upload.write(bytes.slice(300_000..)).await.unwrap();
        let sealed = upload.finish(&digest).await.unwrap();
        let mut stream = store.open(&sealed.row, &digest).await.unwrap().stream(0..700_000);
        let first = stream.next().await.unwrap().unwrap();
        streams.push((first, stream));
    }
    let lens: Vec<usize> = streams.iter().map(|(first, _)| first.len()).collect();
    assert!(lens.contains(&700_000) && lens.contains(&65_536), "{lens:?}");
    for (first, mut stream) in streams {
        let mut pulled = first.to_vec();
        while let Some(piece) = stream.next().await {
            pulled.extend_from_slice(&piece.unwrap());
        }
        assert!(pulled == bytes);
    }
}

#[tokio::test]
async fn wrong_digest_is_refused_with_the_right_one() {
    let store = store_over(&MemoryStore::default()).await;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let bytes = content(100_000);
        let mut upload = store.begin(&domain(), "upload", Algorithm::Sha256).await.unwrap();
        upload.write(bytes.clone()).await.unwrap();
        let wrong = digest_of(b"something else", algorithm);
        match upload.finish(&wrong).await {
            Err(BlobError::DigestMismatch { expected, actual }) => {
                assert_eq!(expected, wrong);
                assert_eq!(actual, digest_of(&bytes, algorithm));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn closing_digest_of_the_other_algorithm_is_checked_by_reading_back() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    for (first, closing) in [(Algorithm::Sha256, Algorithm::Sha512), (Algorithm::Sha512, Algorithm::Sha256)] {
        for len in SIZES {
            let bytes = content(len);
            let mut upload = store.begin(&domain(), "upload", first).await.unwrap();
            upload.write(bytes.clone()).await.unwrap();
            let digest = digest_of(&bytes, closing);
            let sealed = upload.finish(&digest).await.unwrap();
            assert_eq!(sealed.digest, digest);
            assert!(pull(&store, &sealed.row, &digest).await.unwrap() == bytes);
        }
    }
}

#[tokio::test]
async fn staged_bytes_that_rotted_fail_the_reading_back() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    let bytes = content(3_000_000);
    let mut upload = store.begin(&domain(), "upload", Algorithm::Sha256).await.unwrap();
    upload.write(bytes.clone()).await.unwrap();
    memory.tamper(upload.file_id(), |stored| stored[100_000] ^= 1);
    let finished = upload.finish(&digest_of(&bytes, Algorithm::Sha512)).await;
    assert!(matches!(finished, Err(BlobError::Damaged { .. })), "{finished:?}");
}

#[tokio::test]
async fn read_all_stops_at_its_limit() {
    let store = store_over(&MemoryStore::default()).await;
    let bytes = content(2_000_000);
    let sealed = push(&store, &bytes).await.unwrap();
    let blob = store.open(&sealed.row, &sealed.digest).await.unwrap();
    assert!(blob.read_all(2_000_000).await.unwrap() == bytes);
    assert!(matches!(blob.read_all(1_999_999).await, Err(BlobError::TooLarge { limit: 1_999_999 })));
}

#[tokio::test]
async fn range_past_the_end_is_an_error() {
    let store = store_over(&MemoryStore::default()).await;
    let sealed = push(&store, &content(10)).await.unwrap();
    let blob = store.open(&sealed.row, &sealed.digest).await.unwrap();
    for range in [0..11, 11..11, 5..u64::MAX] {
        let mut stream = blob.stream(range);
        assert!(matches!(stream.next().await, Some(Err(BlobError::Range { len: 10 }))));
        assert!(stream.next().await.is_none());
    }
    assert!(blob.stream(10..10).next().await.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn range_is_that_part_of_the_blob(len in 1usize..3_000_000, from in any::<u64>(), size in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (found, bytes, range) = runtime.block_on(async {
            let store = store_over(&MemoryStore::default()).await;
            let bytes = content(len);
            let sealed = push(&store, &bytes).await.unwrap();
            let blob = store.open(&sealed.row, &sealed.digest).await.unwrap();
            let from = from % len as u64;
            let range = from..from + size % (len as u64 - from + 1);
            let mut stream = blob.stream(range.clone());
            let mut found = Vec::new();
            while let Some(piece) = stream.next().await {
                let piece = piece.unwrap();
                assert!(!piece.is_empty());
                found.extend_from_slice(&piece);
            }
            (found, bytes, range)
        });
        prop_assert_eq!(&found, &bytes[range.start as usize..range.end as usize]);
    }
}
