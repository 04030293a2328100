//! An opened blob, read in spans.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::Inner;
use super::opened::Opened;
use crate::error::BlobError;
use crate::format::RECORD_LEN;
use crate::replicate::readers::Tried;

/// Plaintext in order, up to a megabyte at a time. After an error the stream has ended.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>;

/// An opened blob. Cheap to clone; what it has open stays readable after the object is deleted.
#[derive(Clone)]
pub struct Blob {
    inner: Arc<Inner>,
    opened: Arc<Opened>,
}

/// Where a stream stands.
struct Cursor {
    blob: Blob,
    position: u64,
    end: u64,
    tried: Tried,
}

impl Blob {
    pub(super) fn new(inner: Arc<Inner>, opened: Arc<Opened>) -> Self {
        Self { inner, opened }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.opened.records.layout.total_len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The plaintext of `range`, bytes of the blob. Each record is released only when its tag held; a
    /// record that is bad on one replica is read from another. A range past the end is one error.
    pub fn stream(&self, range: Range<u64>) -> BlobStream {
        let cursor =
            Cursor { blob: self.clone(), position: range.start, end: range.end, tried: Tried::default() };
        Box::pin(futures_util::stream::unfold(Some(cursor), |cursor| async {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), Some(cursor))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    /// The whole blob in memory; `TooLarge` if it has more than `limit` bytes.
    pub async fn read_all(&self, limit: u64) -> Result<Bytes, BlobError> {
        if self.len() > limit {
            return Err(BlobError::TooLarge { limit });
        }
        let mut stream = self.stream(0..self.len());
        let first = stream.next().await.transpose()?.unwrap_or_default();
        if first.len() as u64 == self.len() {
            // Copied all the same: the shared buffer is many times larger, and this one may be kept.
            return Ok(Bytes::copy_from_slice(&first));
        }
        let mut all = Vec::with_capacity(self.len() as usize);
        all.extend_from_slice(&first);
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.into())
    }
}

impl Cursor {
    async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        let len = self.blob.len();
        if self.end > len || self.position > self.end {
            return Err(BlobError::Range { len });
        }
        if self.position == self.end {
            return Ok(None);
        }
        let Blob { inner, opened } = &self.blob;
        let record_len = RECORD_LEN as u64;
        let first = self.position / record_len;
        let last = (self.end - 1) / record_len + 1;
        let read = opened.records.read(&opened.keys.record, &inner.pool, first, last, &mut self.tried).await;
        if read.is_err() || !self.tried.is_empty() {
            // A replica was found bad: whoever opens the object next looks at all of them again.
            inner.opened.remove(&opened.records.file_id);
        }
        let (bytes, records) = read?;
        let from = self.position - first * record_len;
        let to = (self.end - first * record_len).min(bytes.len() as u64);
        self.position = self.end.min((first + records) * record_len);
        Ok(Some(bytes.slice(from as usize..to as usize)))
    }
}
