//! Blobs of a repository: looked at, read, mounted, unlinked.
//!
//! The link is asked for at every access; nothing about visibility is cached.

use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use registry_blob::{Blob, BlobError};
use registry_metadata::{KeyRow, Repository, Tx, blobs, liveness, repositories};
use registry_types::Digest;

use crate::commit::blob_key;
use crate::error::CoreError;
use crate::quotas;
use crate::registry::Registry;
use crate::repositories::{PreparedTarget, PushTarget};
use crate::settings::mounting;

/// How long a note that somebody relies on a blob is fresh enough.
const NOTED_FOR_MS: i64 = 3_600_000;

/// A visible blob, unopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    pub digest: Digest,
    pub size: u64,
}

/// An opened blob: header and footer are verified, its records as they are read.
#[derive(Clone)]
pub struct BlobHandle {
    registry: Registry,
    repository: Repository,
    digest: Digest,
    key: KeyRow,
    blob: Blob,
}

/// Plaintext in order; after an error the stream has ended.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, CoreError>> + Send>>;

/// What became of a wish to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    Mounted(BlobInfo),
    /// The source holds no such blob, or in another key domain, or mounting is disabled: the client uploads it.
    Absent,
}

impl Registry {
    /// Point read: whether the blob is visible, and its size. A client that finds it may rely on it without
    /// sending it, so that is noted, at most once an hour.
    ///
    /// # Errors
    /// `BlobNotFound`.
    pub async fn blob_info(&self, repository: &Repository, digest: &Digest) -> Result<BlobInfo, CoreError> {
        let (uid, wanted) = (repository.uid.clone(), digest.clone());
        let link = self
            .inner
            .metadata
            .point(move |tx| blobs::link(tx, &uid, &wanted)?.ok_or(CoreError::BlobNotFound))
            .await?;
        let now_ms = self.now_ms();
        if now_ms - link.noted_at_ms >= NOTED_FOR_MS {
            let (uid, noted) = (repository.uid.clone(), digest.clone());
            let note = move |tx: &mut Tx<'_>| {
                liveness::note_link(tx, &uid, &noted, now_ms)?;
                // The collector may have been faster.
                blobs::link(tx, &uid, &noted)?.map(drop).ok_or(CoreError::BlobNotFound)
            };
            self.inner.metadata.write(note).await?;
        }
        Ok(BlobInfo { digest: digest.clone(), size: link.size })
    }

    /// Opens a visible blob for reading.
    ///
    /// # Errors
    /// `BlobNotFound`, `Damaged`, `Unavailable`.
    pub async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<BlobHandle, CoreError> {
        let key = self.visible_key(repository, digest).await?;
        let (key, blob) = self.open_key(repository, digest, key).await?;
        Ok(BlobHandle {
            registry: self.clone(),
            repository: repository.clone(),
            digest: digest.clone(),
            key,
            blob,
        })
    }

    /// Repositories that hold a blob which could be mounted into the target, the target itself first; at most
    /// `limit` of them. Whether a caller may know of them is not decided here.
    pub async fn holders(
        &self,
        target: &PushTarget,
        digest: &Digest,
        limit: u32,
    ) -> Result<Vec<Repository>, CoreError> {
        let own = match target {
            PushTarget::Existing(repository) => Some(repository.uid.clone()),
            PushTarget::New(_) => None,
        };
        let domain = PreparedTarget::new(target, self.now_ms()).repository().domain.clone();
        let digest = digest.clone();
        self.inner
            .metadata
            .read(move |tx| {
                let mut uids = blobs::holders(tx, &digest, limit)?;
                if let Some(own) = &own
                    && blobs::link(tx, own, &digest)?.is_some()
                {
                    uids.retain(|uid| uid != own);
                    uids.insert(0, own.clone());
                }
                let mut holders = Vec::with_capacity(uids.len());
                for uid in uids.iter().take(limit as usize) {
                    holders.extend(
                        repositories::by_uid(tx, uid)?.filter(|repository| repository.domain == domain),
                    );
                }
                Ok::<_, CoreError>(holders)
            })
            .await
    }

    /// Makes a blob of `source` visible in the target too. The caller may read `source`: that was decided
    /// before; whether the blob is visible there is checked in the transaction that writes the new link.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `RepositoryExists`: see [`PushTarget`].
    pub async fn mount_blob(
        &self,
        target: &PushTarget,
        source: &Repository,
        digest: &Digest,
    ) -> Result<Mount, CoreError> {
        let now_ms = self.now_ms();
        let target = PreparedTarget::new(target, now_ms);
        let (source, digest) = (source.clone(), digest.clone());
        self.inner
            .metadata
            .write(move |tx| {
                let Some(key) = blobs::visible_key(tx, &source.uid, &source.domain, &digest)? else {
                    return Ok(Mount::Absent);
                };
                if target.repository().domain != source.domain || !mounting(tx)? {
                    return Ok(Mount::Absent);
                }
                let repository = target.resolve(tx)?;
                if blobs::put_link(tx, &repository.uid, &digest, key.total_len, now_ms)? {
                    quotas::check(tx, &repository.name, 0)?;
                }
                Ok::<_, CoreError>(Mount::Mounted(BlobInfo { digest: digest.clone(), size: key.total_len }))
            })
            .await
    }

    /// Makes a blob invisible in the repository. Manifests that name it stay and keep its content alive.
    ///
    /// # Errors
    /// `BlobNotFound`.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), CoreError> {
        let (uid, digest, now_ms) = (repository.uid.clone(), digest.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| {
                let deleted = blobs::delete_link(tx, &uid, &digest, now_ms)?;
                if deleted { Ok(()) } else { Err(CoreError::BlobNotFound) }
            })
            .await
    }

    async fn visible_key(&self, repository: &Repository, digest: &Digest) -> Result<KeyRow, CoreError> {
        let (uid, domain, digest) = (repository.uid.clone(), repository.domain.clone(), digest.clone());
        self.inner
            .metadata
            .point(move |tx| blobs::visible_key(tx, &uid, &domain, &digest)?.ok_or(CoreError::BlobNotFound))
            .await
    }

    /// Opens the object of `key`; when it is gone, the object of the row that replaced it meanwhile.
    async fn open_key(
        &self,
        repository: &Repository,
        digest: &Digest,
        key: KeyRow,
    ) -> Result<(KeyRow, Blob), CoreError> {
        match self.inner.content.open(&blob_key(&repository.domain, &key), digest).await {
            Ok(blob) => Ok((key, blob)),
            Err(error @ BlobError::ObjectMissing { .. }) => {
                let newer = self.visible_key(repository, digest).await?;
                if newer.file_id == key.file_id {
                    return Err(error.into());
                }
                let blob = self.inner.content.open(&blob_key(&repository.domain, &newer), digest).await;
                blob.map(|blob| (newer, blob)).map_err(|error| CoreError::reading(digest, error))
            }
            // The key was rolled, and its old epoch destroyed, since the row was read.
            Err(error @ BlobError::Key { .. }) => {
                let newer = self.visible_key(repository, digest).await?;
                if newer.epoch == key.epoch {
                    return Err(error.into());
                }
                let blob = self.inner.content.open(&blob_key(&repository.domain, &newer), digest).await;
                blob.map(|blob| (newer, blob)).map_err(|error| CoreError::reading(digest, error))
            }
            Err(error) => Err(CoreError::reading(digest, error)),
        }
    }
}

impl BlobHandle {
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes of the whole blob.
    pub fn size(&self) -> u64 {
        self.key.total_len
    }

    /// The bytes of `range`, which lies within the blob. The first of them are read and verified before this
    /// returns, so that a damaged blob is an error and not an answer that breaks off. When the object
    /// disappears in mid-stream because the blob was pushed anew, reading goes on from the new one.
    ///
    /// # Errors
    /// `Damaged`, `Unavailable`, `BlobNotFound` when it disappeared altogether.
    pub async fn read(self, range: Range<u64>) -> Result<BlobStream, CoreError> {
        let inner = self.blob.stream(range.clone());
        let mut reading = Reading { handle: self, inner, position: range.start, end: range.end };
        let Some(first) = reading.next().await.transpose()? else { return Ok(Box::pin(stream::empty())) };
        Ok(Box::pin(stream::unfold(Some((Some(first), reading)), |state| async {
            let (first, mut reading) = state?;
            if let Some(first) = first {
                return Some((Ok(first), Some((None, reading))));
            }
            match reading.next().await? {
                Ok(bytes) => Some((Ok(bytes), Some((None, reading)))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }
}

/// A read in progress; `position` counts the plaintext that was released.
struct Reading {
    handle: BlobHandle,
    inner: registry_blob::BlobStream,
    position: u64,
    end: u64,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, CoreError>> {
        loop {
            match self.inner.next().await? {
                Ok(bytes) => {
                    self.position += bytes.len() as u64;
                    return Some(Ok(bytes));
                }
                Err(BlobError::ObjectMissing { .. }) => {
                    if let Err(error) = self.reopen().await {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(CoreError::reading(&self.handle.digest, error))),
            }
        }
    }

    /// Continues at the same byte of the object that is the blob now.
    async fn reopen(&mut self) -> Result<(), CoreError> {
        let handle = &mut self.handle;
        let key = handle.registry.visible_key(&handle.repository, &handle.digest).await?;
        if key.file_id == handle.key.file_id {
            return Err(CoreError::unavailable("the object of a blob is missing on every replica"));
        }
        let (key, blob) = handle.registry.open_key(&handle.repository, &handle.digest, key).await?;
        self.inner = blob.stream(self.position..self.end);
        handle.key = key;
        handle.blob = blob;
        Ok(())
    }
}
