//! What every driver does, run by the tests of each.

use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::Buffer;
use crate::cipher::random;
use crate::file_id::FileId;
use crate::store::{BlobStore, ObjectEntry, StoreError};

/// Runs the whole suite on a store that is empty.
pub(crate) async fn run(store: &dyn BlobStore) {
    object_reads_back_as_written(store).await;
    name_is_taken_once(store).await;
    missing_object_is_said_to_be_missing(store).await;
    resumed_object_goes_on_where_told(store).await;
    resumed_object_may_not_be_shorter(store).await;
    object_resumed_at_zero_begins_anew(store).await;
    second_writer_is_turned_away(store).await;
    dropped_writer_leaves_what_was_flushed(store).await;
    open_reader_outlives_deletion(store).await;
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
    assert!(matches!(store.resume(new_id(), 10).await, Err(StoreError::NotFound)));
}

async fn resumed_object_goes_on_where_told(store: &dyn BlobStore) {
    let (id, bytes) = (new_id(), content(200_000));
    let mut writer = store.create(id).await.unwrap();
    writer.append(bytes.slice(..50_000)).await.unwrap();
    writer.flush(bytes.slice(50_000..120_000)).await.unwrap();
    assert_eq!(store.open(id).await.unwrap().len(), 120_000, "flushed bytes are there for all");
    drop(writer);
    let mut writer = store.resume(id, 100_000).await.unwrap();
    assert_eq!(store.open(id).await.unwrap().len(), 100_000, "what lies past the place is given up");
    writer.append(bytes.slice(100_000..)).await.unwrap();
    writer.commit(Bytes::new()).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), bytes);
}

async fn resumed_object_may_not_be_shorter(store: &dyn BlobStore) {
    let id = new_id();
    store.create(id).await.unwrap().flush(content(999)).await.unwrap();
    assert!(matches!(store.resume(id, 1000).await, Err(StoreError::Short)));
    drop(store.resume(id, 999).await.unwrap());
    assert_eq!(get(store, id).await.unwrap(), content(999));
}

async fn object_resumed_at_zero_begins_anew(store: &dyn BlobStore) {
    let id = new_id();
    store.resume(id, 0).await.unwrap().commit(content(70)).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), content(70));
    store.resume(id, 0).await.unwrap().commit(content(30)).await.unwrap();
    assert_eq!(get(store, id).await.unwrap(), content(30));
}

async fn second_writer_is_turned_away(store: &dyn BlobStore) {
    let id = new_id();
    let mut first = store.create(id).await.unwrap();
    first.flush(content(100)).await.unwrap();
    assert!(matches!(store.resume(id, 100).await, Err(StoreError::Busy)));
    let anew = match store.resume(id, 0).await {
        Ok(writer) => writer.commit(content(5)).await,
        Err(error) => Err(error),
    };
    assert!(matches!(anew, Err(StoreError::Busy)));
    drop(first);
    drop(store.resume(id, 100).await.unwrap());
    assert_eq!(get(store, id).await.unwrap(), content(100));
}

async fn dropped_writer_leaves_what_was_flushed(store: &dyn BlobStore) {
    let id = new_id();
    let mut writer = store.create(id).await.unwrap();
    writer.flush(content(10)).await.unwrap();
    writer.flush(Bytes::new()).await.unwrap();
    drop(writer);
    assert_eq!(get(store, id).await.unwrap(), content(10));
}

async fn open_reader_outlives_deletion(store: &dyn BlobStore) {
    let id = new_id();
    put(store, id, content(1000)).await;
    let reader = store.open(id).await.unwrap();
    store.delete(id).await.unwrap();
    assert!(matches!(store.open(id).await, Err(StoreError::NotFound)));
    let buffer = reader.read_at(0, Buffer::new(1000), 0, 1000).await.unwrap();
    assert_eq!(buffer[..], content(1000));
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
