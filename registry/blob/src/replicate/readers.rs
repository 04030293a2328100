//! One object's readers on several replicas.
//!
//! Reads stay with the replica that answered last. What it can not give well is asked of the others,
//! stretch by stretch: two replicas that are bad in different places still make one good blob.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::Replicated;
use crate::buffer::Buffer;
use crate::error::BlobError;
use crate::file_id::FileId;
use crate::store::{ObjectReader, StoreError};

/// What a read may wait for one replica while there is another.
const NEXT_REPLICA: Duration = Duration::from_secs(5);
/// What it may wait for the last one.
const LAST_REPLICA: Duration = Duration::from_secs(60);

/// The replicas that could not give one stretch of an object, and why.
#[derive(Default)]
pub(crate) struct Tried {
    replicas: u64,
    damaged: bool,
    failed: Option<StoreError>,
}

impl Tried {
    pub(crate) fn is_empty(&self) -> bool {
        self.replicas == 0
    }

    fn has(&self, index: usize) -> bool {
        self.replicas & 1 << index != 0
    }

    fn add(&mut self, index: usize) {
        self.replicas |= 1 << index;
    }

    /// The replica `index` gave bytes that are not the object's.
    pub(crate) fn add_damaged(&mut self, index: usize) {
        self.add(index);
        self.damaged = true;
    }

    /// Takes over which replicas could not give another stretch, and why.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.replicas |= other.replicas;
        self.damaged |= other.damaged;
        if other.failed.is_some() {
            self.failed = other.failed;
        }
    }

    /// What to say when none is left.
    pub(crate) fn verdict(&mut self, file_id: FileId) -> BlobError {
        match self.failed.take() {
            Some(error) => BlobError::Unavailable(error),
            None if self.damaged => BlobError::Damaged { file_id },
            None => BlobError::ObjectMissing { file_id },
        }
    }
}

/// The readers of one object.
pub(crate) struct ReadSet {
    set: Arc<Replicated>,
    file_id: FileId,
    object_len: u64,
    /// `None` until opened.
    readers: Vec<Mutex<Option<Arc<dyn ObjectReader>>>>,
    is_cold: bool,
    /// The replica that answered last.
    current: AtomicUsize,
}

impl ReadSet {
    /// Readers of an object of `object_len` bytes.
    pub(crate) fn new(set: Arc<Replicated>, file_id: FileId, object_len: u64) -> Self {
        let readers = set.replicas.iter().map(|_| Mutex::new(None)).collect();
        Self { set, file_id, object_len, readers, is_cold: false, current: AtomicUsize::new(0) }
    }

    /// Readers past every cache, for repair: what they find bad is no news.
    pub(crate) fn cold(set: Arc<Replicated>, file_id: FileId, object_len: u64) -> Self {
        Self { is_cold: true, ..Self::new(set, file_id, object_len) }
    }

    /// The replica to ask next: the one that answered last, then sound ones, then suspects.
    pub(crate) fn pick(&self, tried: &Tried) -> Option<usize> {
        let current = self.current.load(Ordering::Relaxed);
        let can = |index: usize| !tried.has(index);
        let suspect = |index: usize| self.set.replicas.len() > 1 && self.set.replicas[index].is_suspect();
        if can(current) && !suspect(current) {
            return Some(current);
        }
        let all = || (0..self.readers.len()).filter(|index| can(*index));
        all().find(|index| !suspect(*index)).or_else(|| all().next())
    }

    /// The replica `index` answered well: stay with it.
    pub(crate) fn prefer(&self, index: usize) {
        self.current.store(index, Ordering::Relaxed);
    }

    /// Reads `len` bytes of the object at `offset` from replica `index` into the front of `buffer`.
    /// `None`: that replica can not give them, which is noted in `tried`.
    pub(crate) async fn read(
        &self,
        index: usize,
        offset: u64,
        buffer: Buffer,
        len: usize,
        tried: &mut Tried,
    ) -> Option<Buffer> {
        let others = (0..self.readers.len()).any(|other| other != index && !tried.has(other));
        let limit = if others { NEXT_REPLICA } else { LAST_REPLICA };
        match self.try_read(index, offset, buffer, len, limit).await {
            Ok(buffer) => Some(buffer),
            Err(error) => {
                tried.add(index);
                match error {
                    StoreError::NotFound => self.note_missing(index),
                    StoreError::Short => self.reject(index, offset..offset + len as u64, tried),
                    error => {
                        self.set.note_failure(index, &error);
                        tried.failed = Some(error);
                    }
                }
                None
            }
        }
    }

    async fn try_read(
        &self,
        index: usize,
        offset: u64,
        mut buffer: Buffer,
        len: usize,
        limit: Duration,
    ) -> Result<Buffer, StoreError> {
        let opened = self.readers[index].lock().clone();
        let reader = match opened {
            Some(reader) => reader,
            None => {
                let store = &self.set.replicas[index].store;
                let opening =
                    if self.is_cold { store.open_cold(self.file_id) } else { store.open(self.file_id) };
                let reader = timeout(limit, opening).await.map_err(|_| StoreError::TimedOut)??;
                if reader.len() != self.object_len {
                    return Err(StoreError::Short);
                }
                *self.readers[index].lock() = Some(Arc::clone(&reader));
                reader
            }
        };
        let filled = reader.try_read_at(offset, &mut buffer[..len])?;
        if filled == len {
            return Ok(buffer);
        }
        let rest = reader.read_at(offset + filled as u64, buffer, filled, len);
        timeout(limit, rest).await.map_err(|_| StoreError::TimedOut)?
    }

    /// Replica `index` gave bytes that are not the object's: it is noted, and not asked again for them.
    pub(crate) fn reject(&self, index: usize, range: Range<u64>, tried: &mut Tried) {
        tried.add_damaged(index);
        if !self.is_cold {
            self.set.reject(self.file_id, range, &self.set.replicas[index].id);
        }
    }

    /// A replica that lacks an object which others have is a finding; one alone is none yet.
    fn note_missing(&self, index: usize) {
        if self.readers.len() > 1 && !self.is_cold {
            self.set.reject(self.file_id, 0..self.object_len, &self.set.replicas[index].id);
        }
    }
}
