//! Objects in memory: the driver that tests of this and other crates use.
//!
//! Keeps the contract of `BlobStore` to the letter; nothing survives the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{BlobStore, ObjectEntry, ObjectReader, ObjectWriter, Replacement, StoreError};
use crate::buffer::Buffer;
use crate::file_id::FileId;

#[derive(Default)]
struct Object {
    bytes: Vec<u8>,
    writing: bool,
}

type Shared = Arc<Mutex<Object>>;

/// Objects in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<FileId, Shared>>>,
}

impl MemoryStore {
    /// The stored bytes of an object.
    pub fn bytes(&self, file_id: FileId) -> Option<Vec<u8>> {
        self.find(file_id).ok().map(|object| object.lock().bytes.clone())
    }

    /// Puts other bytes in an object's place, as a failing disk would: also under open readers.
    pub fn tamper(&self, file_id: FileId, change: impl FnOnce(&mut Vec<u8>)) {
        let object = Arc::clone(self.objects.lock().entry(file_id).or_default());
        change(&mut object.lock().bytes);
    }

    fn find(&self, file_id: FileId) -> Result<Shared, StoreError> {
        self.objects.lock().get(&file_id).cloned().ok_or(StoreError::NotFound)
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn create(&self, file_id: FileId) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let mut objects = self.objects.lock();
        if objects.contains_key(&file_id) {
            return Err(StoreError::Exists);
        }
        let object = Shared::default();
        object.lock().writing = true;
        objects.insert(file_id, Arc::clone(&object));
        Ok(Box::new(MemoryWriter { object }))
    }

    async fn resume(
        &self,
        file_id: FileId,
        len: u64,
        _checkpoint: &[u8],
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let object = match self.find(file_id) {
            Err(StoreError::NotFound) if len == 0 => return self.create(file_id).await,
            found => found?,
        };
        {
            let mut object = object.lock();
            if object.writing {
                return Err(StoreError::Busy);
            }
            if (object.bytes.len() as u64) < len {
                return Err(StoreError::Short);
            }
            object.bytes.truncate(len as usize);
            object.writing = true;
        }
        Ok(Box::new(MemoryWriter { object }))
    }

    async fn open(&self, file_id: FileId) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let object = self.find(file_id)?;
        let len = object.lock().bytes.len() as u64;
        Ok(Arc::new(MemoryReader { object, len }))
    }

    async fn replace(&self, file_id: FileId) -> Result<Box<dyn Replacement>, StoreError> {
        Ok(Box::new(MemoryReplacement { store: self.clone(), file_id, copy: Shared::default() }))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete(&self, file_id: FileId) -> Result<(), StoreError> {
        self.objects.lock().remove(&file_id);
        Ok(())
    }

    async fn list(&self, after: Option<FileId>, limit: usize) -> Result<Vec<ObjectEntry>, StoreError> {
        let objects = self.objects.lock();
        let listed = objects.iter().filter(|(id, _)| after.is_none_or(|after| **id > after)).take(limit);
        Ok(listed
            .map(|(id, object)| ObjectEntry { file_id: *id, len: object.lock().bytes.len() as u64 })
            .collect())
    }
}

struct MemoryWriter {
    object: Shared,
}

#[async_trait]
impl ObjectWriter for MemoryWriter {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.object.lock().bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn flush(&mut self, last: Bytes) -> Result<Vec<u8>, StoreError> {
        self.append(last).await?;
        Ok(Vec::new())
    }

    async fn commit(mut self: Box<Self>, last: Bytes) -> Result<(), StoreError> {
        self.append(last).await
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.object.lock().writing = false;
    }
}

struct MemoryReplacement {
    store: MemoryStore,
    file_id: FileId,
    copy: Shared,
}

#[async_trait]
impl Replacement for MemoryReplacement {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.copy.lock().bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(&mut self) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let len = self.copy.lock().bytes.len() as u64;
        Ok(Arc::new(MemoryReader { object: Arc::clone(&self.copy), len }))
    }

    async fn swap(self: Box<Self>) -> Result<(), StoreError> {
        self.store.objects.lock().insert(self.file_id, self.copy);
        Ok(())
    }
}

struct MemoryReader {
    object: Shared,
    len: u64,
}

#[async_trait]
impl ObjectReader for MemoryReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn try_read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize, StoreError> {
        let object = self.object.lock();
        let start = usize::try_from(offset).map_err(|_| StoreError::Short)?;
        let end = start.checked_add(target.len()).ok_or(StoreError::Short)?;
        target.copy_from_slice(object.bytes.get(start..end).ok_or(StoreError::Short)?);
        Ok(target.len())
    }

    async fn read_at(
        &self,
        offset: u64,
        mut buffer: Buffer,
        from: usize,
        to: usize,
    ) -> Result<Buffer, StoreError> {
        self.try_read_at(offset, &mut buffer[from..to])?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;
    use crate::suite;

    #[tokio::test]
    async fn driver_keeps_the_contract() {
        suite::run(&MemoryStore::default(), suite::Abilities::ALL).await;
        suite::run_concurrently(Arc::new(MemoryStore::default())).await;
    }
}
