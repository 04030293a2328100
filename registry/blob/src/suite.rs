//! What every driver does, run by the tests of each.

use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::Buffer;
use crate::cipher::random;
use crate::file_id::FileId;
use crate::store::{BlobStore, ObjectEntry, StoreError};

/// What only some drivers can promise.
#[derive(Clone, Copy)]
pub(crate) struct Abilities {
    /// A second writer of an object is told apart and turned away.
    pub(crate) locks: bool,
    /// An object that was committed can be begun anew at 0.
    pub(crate) begins_anew: bool,
    /// What is open stays readable after deletion.
    pub(crate) keeps_open: bool,
}

impl Abilities {
    pub(crate) const ALL: Self = Self { locks: true, begins_anew: true, keeps_open: true };
}

/// Runs the whole suite on a store that is empty.
pub(crate) async fn run(store: &dyn BlobStore, abilities: Abilities) {
    store.probe().await.unwrap();
    object_reads_back_as_written(store).await;
    name_is_taken_once(store).await;
    missing_object_is_said_to_be_missing(store).await;
    resumed_object_goes_on_where_told(store).await;
    resumed_object_may_not_be_shorter(store).await;
    object_resumed_at_zero_begins_anew(store, abilities).await;
    if abilities.locks {
        second_writer_is_turned_away(store).await;
    }
    dropped_writer_leaves_what_was_flushed(store).await;
    upload_of_many_stretches_is_whole(store).await;
    reading_goes_past_deletion_or_says_so(store, abilities).await;
    replacement_comes_whole_or_not_at_all(store).await;
    missing_object_can_be_replaced(store).await;
    deleting_twice_is_no_error(store).await;
    listing_goes_by_id_in_pages(store).await;
}

fn new_id() -> FileId {
    FileId::from_bytes(random())
}

fn content(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 % 253) as u8).collect::<Vec<_>>().into()
}

async fn put(store: &dyn BlobStore, file_id: FileId, bytes: Bytes) {
    store.create(file_id).await.unwrap().commit(bytes).await.unwrap();
}

/// The whole object, by both ways of reading.
async fn get(store: &dyn BlobStore, file_id: FileId) -> Result<Vec<u8>, StoreError> {
    let reader = store.open(file_id).await?;
    let len = usize::try_from(reader.len()).unwrap();
    let waited = reader.read_at(0, Buffer::new(len), 0, len).await?;
    let mut inline = vec![0; len];
    let filled = if len == 0 { 0 } else { reader.try_read_at(0, &mut inline)? };
    assert_eq!(inline[..filled], waited[..filled]);
    Ok(waited.to_vec())
}

async fn object_reads_back_as_written(store: &dyn BlobStore) {
    let bytes = content(3_000_000);
    for len in [0, 1, 4096, 65_537, bytes.len()] {
        let id = new_id();
        put(store, id, bytes.slice(..len)).await;
        assert_eq!(get(store, id).await.unwrap(), bytes[..len]);
    }
    let id = new_id();
    let mut writer = store.create(id).await.unwrap();
    for chunk in bytes.chunks(700_001) {
        writer.append(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.commit(Bytes::new()).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), bytes);

    let reader = store.open(id).await.unwrap();
    assert_eq!(reader.len(), bytes.len() as u64);
    let buffer = reader.read_at(1_000_000, Buffer::new(50), 10, 30).await.unwrap();
    assert_eq!(buffer[10..30], bytes[1_000_000..1_000_020]);
    assert_eq!(buffer[..10], [0; 10]);
    assert_eq!(buffer[30..], [0; 20]);
    let past = reader.read_at(bytes.len() as u64 - 10, Buffer::new(20), 0, 20).await;
    assert!(matches!(past, Err(StoreError::Short)));
    let mut target = [0; 20];
    match reader.try_read_at(bytes.len() as u64 - 10, &mut target) {
        Ok(filled) => assert!(filled <= 10),
        Err(error) => assert!(matches!(error, StoreError::Short)),
    }
}

async fn name_is_taken_once(store: &dyn BlobStore) {
    let id = new_id();
    put(store, id, content(100)).await;
    let second = match store.create(id).await {
        Ok(writer) => writer.commit(content(5)).await,
        Err(error) => Err(error),
    };
    assert!(matches!(second, Err(StoreError::Exists)));
    assert_eq!(get(store, id).await.unwrap(), content(100));
}

async fn missing_object_is_said_to_be_missing(store: &dyn BlobStore) {
    assert!(matches!(store.open(new_id()).await, Err(StoreError::NotFound)));
    assert!(matches!(store.resume(new_id(), 10, &[]).await, Err(StoreError::NotFound)));
}

async fn resumed_object_goes_on_where_told(store: &dyn BlobStore) {
    let (id, bytes) = (new_id(), content(200_000));
    let mut writer = store.create(id).await.unwrap();
    writer.append(bytes.slice(..50_000)).await.unwrap();
    let checkpoint = writer.flush(bytes.slice(50_000..100_000)).await.unwrap();
    writer.append(content(30_000)).await.unwrap();
    writer.flush(Bytes::new()).await.unwrap();
    drop(writer);
    let mut writer = store.resume(id, 100_000, &checkpoint).await.unwrap();
    writer.append(bytes.slice(100_000..)).await.unwrap();
    writer.commit(Bytes::new()).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), bytes, "what lies past the place is given up");
}

async fn resumed_object_may_not_be_shorter(store: &dyn BlobStore) {
    let id = new_id();
    let checkpoint = store.create(id).await.unwrap().flush(content(999)).await.unwrap();
    assert!(matches!(store.resume(id, 1000, &checkpoint).await, Err(StoreError::Short)));
    store.resume(id, 999, &checkpoint).await.unwrap().commit(Bytes::new()).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), content(999));
}

async fn object_resumed_at_zero_begins_anew(store: &dyn BlobStore, abilities: Abilities) {
    let id = new_id();
    store.resume(id, 0, &[]).await.unwrap().commit(content(70)).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), content(70));
    let anew = match store.resume(id, 0, &[]).await {
        Ok(writer) => writer.commit(content(30)).await,
        Err(error) => Err(error),
    };
    if abilities.begins_anew {
        anew.unwrap();
        assert_eq!(get(store, id).await.unwrap(), content(30));
    } else {
        assert!(matches!(anew, Err(StoreError::Exists)), "{anew:?}");
        assert_eq!(get(store, id).await.unwrap(), content(70));
    }
    let begun = new_id();
    store.create(begun).await.unwrap().flush(content(100)).await.unwrap();
    store.resume(begun, 0, &[]).await.unwrap().commit(content(20)).await.unwrap();
    assert_eq!(get(store, begun).await.unwrap(), content(20));
}

async fn second_writer_is_turned_away(store: &dyn BlobStore) {
    let id = new_id();
    let mut first = store.create(id).await.unwrap();
    let checkpoint = first.flush(content(100)).await.unwrap();
    assert!(matches!(store.resume(id, 100, &checkpoint).await, Err(StoreError::Busy)));
    let anew = match store.resume(id, 0, &[]).await {
        Ok(writer) => writer.commit(content(5)).await,
        Err(error) => Err(error),
    };
    assert!(matches!(anew, Err(StoreError::Busy)));
    drop(first);
    drop(store.resume(id, 100, &checkpoint).await.unwrap());
    assert_eq!(get(store, id).await.unwrap(), content(100));
}

async fn dropped_writer_leaves_what_was_flushed(store: &dyn BlobStore) {
    let id = new_id();
    let mut writer = store.create(id).await.unwrap();
    writer.flush(content(10)).await.unwrap();
    let checkpoint = writer.flush(Bytes::new()).await.unwrap();
    drop(writer);
    store.resume(id, 10, &checkpoint).await.unwrap().commit(Bytes::new()).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), content(10));
}

/// Stretches of all sizes, over what an S3 part holds.
async fn upload_of_many_stretches_is_whole(store: &dyn BlobStore) {
    const PART: usize = 8 << 20;
    let (id, bytes) = (new_id(), content(2 * PART + PART / 2));
    let (mut at, mut checkpoint) = (0, Vec::new());
    for len in [1, 100_000, PART - 100_001, 5, PART, 700_000] {
        let mut writer = match at {
            0 => store.create(id).await.unwrap(),
            _ => store.resume(id, at as u64, &checkpoint).await.unwrap(),
        };
        for chunk in bytes[at..at + len].chunks(1 << 20) {
            writer.append(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        checkpoint = writer.flush(Bytes::new()).await.unwrap();
        at += len;
    }
    let writer = store.resume(id, at as u64, &checkpoint).await.unwrap();
    writer.commit(bytes.slice(at..)).await.unwrap();
    assert!(get(store, id).await.unwrap() == bytes);
}

async fn reading_goes_past_deletion_or_says_so(store: &dyn BlobStore, abilities: Abilities) {
    let id = new_id();
    put(store, id, content(1000)).await;
    let reader = store.open(id).await.unwrap();
    store.delete(id).await.unwrap();
    assert!(matches!(store.open(id).await, Err(StoreError::NotFound)));
    match reader.read_at(0, Buffer::new(1000), 0, 1000).await {
        Ok(buffer) => assert_eq!(buffer[..], content(1000)),
        Err(error) => assert!(!abilities.keeps_open && matches!(error, StoreError::NotFound), "{error:?}"),
    }
}

async fn replacement_comes_whole_or_not_at_all(store: &dyn BlobStore) {
    let id = new_id();
    put(store, id, content(1000)).await;
    assert_eq!(get(store, id).await.unwrap(), content(1000));
    let fresh = content(3_000_001).slice(1..);
    let mut given_up = store.replace(id).await.unwrap();
    given_up.append(fresh.clone()).await.unwrap();
    given_up.finish().await.unwrap();
    drop(given_up);
    assert_eq!(get(store, id).await.unwrap(), content(1000));

    let listed = store.list(None, usize::MAX).await.unwrap().len();
    let mut replacement = store.replace(id).await.unwrap();
    for chunk in fresh.chunks(700_001) {
        replacement.append(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let beside = replacement.finish().await.unwrap();
    assert_eq!(beside.len(), 3_000_000);
    let buffer = beside.read_at(1_000_000, Buffer::new(1000), 0, 1000).await.unwrap();
    assert_eq!(buffer[..], fresh[1_000_000..1_001_000]);
    assert_eq!(get(store, id).await.unwrap(), content(1000), "the old copy stays until the swap");
    assert_eq!(store.list(None, usize::MAX).await.unwrap().len(), listed);
    replacement.swap().await.unwrap();
    assert!(get(store, id).await.unwrap() == fresh);
    assert_eq!(store.list(None, usize::MAX).await.unwrap().len(), listed);
}

async fn missing_object_can_be_replaced(store: &dyn BlobStore) {
    let id = new_id();
    let mut replacement = store.replace(id).await.unwrap();
    replacement.append(content(10)).await.unwrap();
    replacement.finish().await.unwrap();
    replacement.swap().await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), content(10));
    let cold = store.open_cold(id).await.unwrap();
    assert_eq!(cold.read_at(0, Buffer::new(10), 0, 10).await.unwrap()[..], content(10));
}

async fn deleting_twice_is_no_error(store: &dyn BlobStore) {
    let id = new_id();
    put(store, id, content(1)).await;
    store.delete(id).await.unwrap();
    store.delete(id).await.unwrap();
    store.delete(new_id()).await.unwrap();
}

async fn listing_goes_by_id_in_pages(store: &dyn BlobStore) {
    for len in 0..20 {
        put(store, new_id(), content(len)).await;
    }
    let all = store.list(None, usize::MAX).await.unwrap();
    assert!(all.len() >= 20);
    assert!(all.is_sorted_by(|one, next| one.file_id < next.file_id));
    for ObjectEntry { file_id, len } in &all {
        assert_eq!(store.open(*file_id).await.unwrap().len(), *len);
    }
    let mut paged: Vec<ObjectEntry> = Vec::new();
    loop {
        let after = paged.last().map(|entry| entry.file_id);
        let page = store.list(after, 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 7);
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// Many objects at once, each whole.
pub(crate) async fn run_concurrently(store: Arc<dyn BlobStore>) {
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (id, bytes) = (new_id(), content(10_000 * number + 1));
                put(store.as_ref(), id, bytes.clone()).await;
                assert_eq!(get(store.as_ref(), id).await.unwrap(), bytes);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
