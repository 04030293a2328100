//! Manifests: read by one point read and a cache, deleted; pushed in `push`.
//!
//! Bytes live in the content store like every blob's. A row makes them visible, and is asked for each time.

mod contents;
mod push;

use bytes::Bytes;
use registry_blob::BlobError;
use registry_metadata::{Repository, RepositoryUid, Tx, blobs, manifests, tags};
use registry_types::{Digest, MediaType, Reference, Tag};

use crate::commit::blob_key;
use crate::error::CoreError;
use crate::referrers::only_lists_referrers;
use crate::registry::Registry;

pub use push::{ManifestPush, PushedManifest};
pub use registry_metadata::Manifest as ManifestInfo;

/// Indexes that are looked at before a manifest is deleted.
const PARENTS_SEEN: u32 = 16;

/// How often it is noted that a manifest was read, at the most.
const PULLS_NOTED_MS: i64 = 3_600_000;

/// A manifest with its bytes, exactly as pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
    /// When it was pulled before, to the hour.
    pub last_pulled_at_ms: Option<i64>,
}

impl Registry {
    /// Point read of a visible manifest, without its bytes.
    ///
    /// # Errors
    /// `ManifestNotFound`.
    pub async fn manifest_info(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<ManifestInfo, CoreError> {
        let (uid, reference) = (repository.uid.clone(), reference.clone());
        self.inner
            .metadata
            .point(move |tx| {
                let found = match &reference {
                    Reference::Tag(tag) => manifests::by_tag(tx, &uid, tag)?,
                    Reference::Digest(digest) => manifests::by_digest(tx, &uid, digest)?,
                };
                found.ok_or(CoreError::ManifestNotFound)
            })
            .await
    }

    /// A visible manifest: one point read, and the bytes from memory when they were read before.
    ///
    /// # Errors
    /// `ManifestNotFound`, `Damaged`, `Unavailable`.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<StoredManifest, CoreError> {
        let info = self.manifest_info(repository, reference).await?;
        let key = (repository.domain.clone(), info.digest.clone());
        let bytes = match self.inner.manifests.get(&key) {
            Some(bytes) => {
                self.inner.activity.manifest_cache_hits.add(1);
                bytes
            }
            None => {
                self.inner.activity.manifest_cache_misses.add(1);
                let bytes = self.read_manifest(repository, &info).await?;
                self.inner.manifests.insert(key, bytes.clone());
                bytes
            }
        };
        let ManifestInfo { digest, media_type, last_pulled_at_ms, .. } = info;
        Ok(StoredManifest { digest, media_type, bytes, last_pulled_at_ms })
    }

    /// Notes that somebody pulled a manifest, at most once an hour. Nobody waits for it.
    pub fn note_pull(&self, repository: &Repository, manifest: &StoredManifest) {
        let now_ms = self.now_ms();
        if manifest.last_pulled_at_ms.is_some_and(|last| now_ms - last < PULLS_NOTED_MS) {
            return;
        }
        let (registry, uid, digest) = (self.clone(), repository.uid.clone(), manifest.digest.clone());
        tokio::spawn(async move {
            let noted = registry.inner.metadata.write_unsynced(move |tx| {
                Ok::<_, CoreError>(manifests::note_pull(tx, &uid, &digest, now_ms)?)
            });
            if let Err(error) = noted.await {
                tracing::debug!(error = %error, "a pull was not noted");
            }
        });
    }

    /// Deletes a manifest and every tag that points at it, which are returned.
    ///
    /// As in ECR a manifest that an index of the repository names is not deleted: the index goes first.
    ///
    /// # Errors
    /// `ManifestNotFound`, `ReferencedByIndex`.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Tag>, CoreError> {
        let (uid, digest, now_ms) = (repository.uid.clone(), digest.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| {
                let manifest = manifests::by_digest(tx, &uid, &digest)?.ok_or(CoreError::ManifestNotFound)?;
                if let Some(index) = holding_index(tx, &uid, &digest)? {
                    return Err(CoreError::ReferencedByIndex { index });
                }
                let removed = tags::of_digest(tx, &uid, &digest, u32::MAX)?;
                manifests::delete(tx, &uid, &manifest, now_ms)?;
                Ok(removed)
            })
            .await
    }

    async fn read_manifest(&self, repository: &Repository, info: &ManifestInfo) -> Result<Bytes, CoreError> {
        let digest = &info.digest;
        for last_try in [false, true] {
            let (domain, wanted) = (repository.domain.clone(), digest.clone());
            let key =
                self.inner.metadata.point(move |tx| Ok::<_, CoreError>(blobs::key(tx, &domain, &wanted)?));
            let Some(key) = key.await? else {
                // Deleted and collected a moment ago, or else something is wrong.
                self.manifest_info(repository, &Reference::Digest(digest.clone())).await?;
                return Err(CoreError::internal("a manifest has no key row"));
            };
            let read = async {
                let blob = self.inner.content.open(&blob_key(&repository.domain, &key), digest).await?;
                blob.read_all(info.size).await
            };
            match read.await {
                Ok(bytes) => return Ok(bytes),
                // It may have been pushed anew, or its key rolled, since its row was read.
                Err(BlobError::ObjectMissing { .. } | BlobError::Key { .. }) if !last_try => {}
                Err(error) => return Err(CoreError::reading(digest, error)),
            }
        }
        Err(CoreError::unavailable("the object of a manifest is missing on every replica"))
    }
}

/// An index of the repository that names the manifest and so keeps it from being deleted.
pub(crate) fn holding_index(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    manifest: &Digest,
) -> Result<Option<Digest>, CoreError> {
    for index in manifests::parents(tx, repository, manifest, PARENTS_SEEN)? {
        if !only_lists_referrers(tx, repository, &index)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
