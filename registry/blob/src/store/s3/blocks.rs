//! What was read, in blocks, so that many readers of one object ask the service once.
//!
//! Blocks are sealed bytes, as they are stored: whoever reads them verifies them. Readers that want the same
//! block at the same time wait for one request; memory is bounded.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::bucket::{Bucket, Found};
use crate::file_id::FileId;
use crate::store::StoreError;

/// Length of a block in bytes.
pub(super) const BLOCK: u64 = 1 << 20;
/// Blocks that are fetched ahead at a time, all together.
const AHEAD: usize = 16;

/// A block and the length of its object.
#[derive(Clone)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    pub(super) total: u64,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<(FileId, u64), Block> for ByLength {
    fn weight(&self, _key: &(FileId, u64), block: &Block) -> u64 {
        block.bytes.len() as u64 + 256
    }
}

/// The blocks of one replica's objects.
pub(super) struct Blocks {
    bucket: Arc<Bucket>,
    cache: Cache<(FileId, u64), Block, ByLength>,
    ahead: Arc<Semaphore>,
    #[cfg(test)]
    fetched: std::sync::atomic::AtomicUsize,
}

impl Blocks {
    pub(super) fn new(bucket: Arc<Bucket>, bytes: u64) -> Self {
        let cache = Cache::with_weighter((bytes / BLOCK) as usize + 16, bytes, ByLength);
        Self {
            bucket,
            cache,
            ahead: Arc::new(Semaphore::new(AHEAD)),
            #[cfg(test)]
            fetched: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// Requests made.
    #[cfg(test)]
    pub(super) fn fetched(&self) -> usize {
        self.fetched.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// A block that is at hand.
    pub(super) fn peek(&self, file_id: FileId, block: u64) -> Option<Block> {
        self.cache.get(&(file_id, block))
    }

    pub(super) async fn get(&self, file_id: FileId, block: u64) -> Result<Block, StoreError> {
        let fetch = async {
            #[cfg(test)]
            self.fetched.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let key = self.bucket.object(file_id);
            let range = (block * BLOCK, (block + 1) * BLOCK);
            match self.bucket.get(&key, Some(range)).await {
                Ok(Found { bytes, total }) => Ok(Block { bytes, total }),
                // An empty object has no range at all.
                Err(StoreError::Short) if block == 0 => Ok(Block { bytes: Bytes::new(), total: 0 }),
                Err(error) => Err(error),
            }
        };
        Box::pin(self.cache.get_or_insert_async(&(file_id, block), fetch)).await
    }

    /// Fetches a block that will be wanted soon, unless enough others are.
    pub(super) fn fetch_ahead(self: &Arc<Self>, file_id: FileId, block: u64) {
        if self.peek(file_id, block).is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.ahead).try_acquire_owned() else { return };
        let blocks = Arc::clone(self);
        tokio::spawn(async move {
            // Whoever wants it sees the error, should there be one.
            let _ = blocks.get(file_id, block).await;
            drop(permit);
        });
    }

    /// Drops what is held of an object.
    pub(super) fn forget(&self, file_id: FileId) {
        self.cache.retain(|(of, _), _| *of != file_id);
    }
}
