//! Repair's new copy of an object: written beside it, verified by the caller, then swapped in.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::blocking;
use super::reader::FsReader;
use super::root::{Root, sync_folder};
use crate::file_id::FileId;
use crate::store::{ObjectReader, Replacement, StoreError};

pub(super) struct FsReplacement {
    root: Arc<Root>,
    file_id: FileId,
    beside: PathBuf,
    file: Arc<File>,
    len: u64,
}

impl FsReplacement {
    /// Blocks. What an earlier attempt left beside the object goes: its sync may have failed, and the next one of
    /// the same file would not know that.
    pub(super) fn create(root: Arc<Root>, file_id: FileId) -> Result<Self, StoreError> {
        root.check()?;
        // No file id parses from this name, so that no listing shows it.
        let beside = root.object(file_id).with_extension("new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::Io(error)),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|error| root.explain(error))?;
        Ok(Self { root, file_id, beside, file: Arc::new(file), len: 0 })
    }
}

#[async_trait]
impl Replacement for FsReplacement {
    async fn append(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let (file, at) = (Arc::clone(&self.file), self.len);
        self.len += chunk.len() as u64;
        blocking(move || Ok(file.write_all_at(&chunk, at)?)).await
    }

    async fn finish(&mut self) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            file.sync_all()?;
            Ok(Arc::new(FsReader::cold(file.try_clone()?)?) as Arc<dyn ObjectReader>)
        })
        .await
    }

    async fn swap(self: Box<Self>) -> Result<(), StoreError> {
        blocking(move || {
            self.root.check()?;
            std::fs::rename(&self.beside, self.root.object(self.file_id))?;
            // Until the name is durable, a power cut brings back what the copy stands for.
            self.root.distrust(self.file_id);
            sync_folder(&self.root.folder(self.file_id.as_bytes()[0]))?;
            self.root.trust(self.file_id);
            Ok(())
        })
        .await
    }
}

impl Drop for FsReplacement {
    fn drop(&mut self) {
        // Gone already after a swap; the next attempt removes what cannot be removed now.
        let _ = std::fs::remove_file(&self.beside);
    }
}
