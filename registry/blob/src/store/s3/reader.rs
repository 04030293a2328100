//! Reading: through the blocks, or, for repair and scrub, straight from the service.

use std::sync::Arc;

use async_trait::async_trait;

use super::blocks::{BLOCK, Blocks};
use super::bucket::Bucket;
use crate::buffer::Buffer;
use crate::file_id::FileId;
use crate::store::{ObjectReader, StoreError};

/// Reads of at least this many bytes are taken for parts of a sequential one.
const READ_AHEAD_FROM: usize = 256 * 1024;
/// Blocks that are then fetched ahead.
const READ_AHEAD: u64 = 2;

pub(super) struct S3Reader {
    source: Source,
    len: u64,
}

enum Source {
    Blocks(Arc<Blocks>, FileId),
    Cold(Arc<Bucket>, String),
}

impl S3Reader {
    /// One request tells the length and brings the first block.
    pub(super) async fn open(blocks: Arc<Blocks>, file_id: FileId) -> Result<Self, StoreError> {
        let len = blocks.get(file_id, 0).await?.total;
        Ok(Self { source: Source::Blocks(blocks, file_id), len })
    }

    pub(super) async fn cold(bucket: Arc<Bucket>, key: String) -> Result<Self, StoreError> {
        let len = bucket.len(&key).await?;
        Ok(Self { source: Source::Cold(bucket, key), len })
    }
}

/// Copies what a block holds of the object's bytes at `offset` into the front of `target`.
fn copy(block: &[u8], offset: u64, target: &mut [u8]) -> usize {
    let within = (offset % BLOCK) as usize;
    let rest = block.get(within..).unwrap_or_default();
    let len = rest.len().min(target.len());
    target[..len].copy_from_slice(&rest[..len]);
    len
}

#[async_trait]
impl ObjectReader for S3Reader {
    fn len(&self) -> u64 {
        self.len
    }

    fn try_read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize, StoreError> {
        if offset + target.len() as u64 > self.len {
            return Err(StoreError::Short);
        }
        let Source::Blocks(blocks, file_id) = &self.source else { return Ok(0) };
        let mut filled = 0;
        while filled < target.len() {
            let at = offset + filled as u64;
            let Some(block) = blocks.peek(*file_id, at / BLOCK) else { break };
            match copy(&block.bytes, at, &mut target[filled..]) {
                0 => return Err(StoreError::Short),
                copied => filled += copied,
            }
        }
        if target.len() >= READ_AHEAD_FROM && filled == target.len() {
            self.read_ahead(blocks, *file_id, offset + filled as u64);
        }
        Ok(filled)
    }

    async fn read_at(
        &self,
        offset: u64,
        mut buffer: Buffer,
        from: usize,
        to: usize,
    ) -> Result<Buffer, StoreError> {
        let end = offset + (to - from) as u64;
        if end > self.len {
            return Err(StoreError::Short);
        }
        if from == to {
            return Ok(buffer);
        }
        match &self.source {
            Source::Cold(bucket, key) => {
                let found = bucket.get(key, Some((offset, end))).await?;
                if found.bytes.len() != to - from {
                    return Err(StoreError::Short);
                }
                buffer[from..to].copy_from_slice(&found.bytes);
            }
            Source::Blocks(blocks, file_id) => {
                if to - from >= READ_AHEAD_FROM {
                    self.read_ahead(blocks, *file_id, end);
                }
                let mut filled = from;
                while filled < to {
                    let at = offset + (filled - from) as u64;
                    let block = blocks.get(*file_id, at / BLOCK).await?;
                    match copy(&block.bytes, at, &mut buffer[filled..to]) {
                        0 => return Err(StoreError::Short),
                        copied => filled += copied,
                    }
                }
            }
        }
        Ok(buffer)
    }
}

impl S3Reader {
    fn read_ahead(&self, blocks: &Arc<Blocks>, file_id: FileId, end: u64) {
        let next = end / BLOCK;
        for block in next..=next + READ_AHEAD {
            if block * BLOCK < self.len {
                blocks.fetch_ahead(file_id, block);
            }
        }
    }
}
