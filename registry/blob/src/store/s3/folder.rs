//! A folder of a bucket for what is no blob: whole files, each written once and read as a whole.
//!
//! What is put there is the caller's to seal. It lies beside the objects, where no listing of theirs comes by.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;

use super::S3Config;
use super::bucket::Bucket;
use crate::store::StoreError;

/// What one request carries.
const PIECE: usize = 16 << 20;

/// A folder below the prefix of a replica.
pub struct S3Folder {
    bucket: Bucket,
    /// Ends in `/`.
    folder: String,
}

impl S3Folder {
    pub fn new(config: &S3Config, name: &str) -> Self {
        Self { bucket: Bucket::new(config), folder: format!("{name}/") }
    }

    fn key(&self, name: &str) -> String {
        self.bucket.key(&format!("{}{name}", self.folder))
    }

    /// Stores a file, whole or not at all, in the place of what had its name.
    ///
    /// # Errors
    /// When the file cannot be read or the service does not take it.
    pub async fn put(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        let (key, mut file) = (self.key(name), File::open(file)?);
        let len = file.metadata()?.len();
        if len <= PIECE as u64 {
            return self.bucket.put(&key, piece(&mut file)?, false).await;
        }
        let upload = self.bucket.begin(&key).await?;
        let mut parts = Vec::new();
        let sent = async {
            for _ in 0..len.div_ceil(PIECE as u64) {
                let bytes = piece(&mut file)?;
                parts.push(self.bucket.send(&key, &upload, parts.len() + 1, bytes).await?);
            }
            self.bucket.complete(&key, &upload, &parts, false).await
        };
        let sent = sent.await;
        if sent.is_err() {
            // Parts that nobody completes cost money; should this fail, the next file of that name leaves them.
            let _ = self.bucket.abort(&key, &upload).await;
        }
        sent
    }

    /// The names of the files, in order.
    ///
    /// # Errors
    /// The service's.
    pub async fn list(&self) -> Result<Vec<String>, StoreError> {
        let prefix = self.key("");
        let found = self.bucket.list(&prefix, None, usize::MAX).await?;
        Ok(found.iter().filter_map(|(key, _)| key.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// Writes a file's bytes to `target`, which must not be there.
    ///
    /// # Errors
    /// `NotFound`; when it changes meanwhile, or `target` cannot be written.
    pub async fn get(&self, name: &str, target: &Path) -> Result<(), StoreError> {
        let key = self.key(name);
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
        let (len, mut done) = (self.bucket.len(&key).await?, 0);
        while done < len {
            let to = (done + PIECE as u64).min(len);
            let found = self.bucket.get(&key, Some((done, to))).await?;
            if found.bytes.len() as u64 != to - done {
                return Err(StoreError::Short);
            }
            target.write_all(&found.bytes)?;
            done = to;
        }
        Ok(())
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// The service's.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.bucket.delete(&self.key(name)).await
    }
}

fn piece(file: &mut File) -> Result<Bytes, StoreError> {
    let mut bytes = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
