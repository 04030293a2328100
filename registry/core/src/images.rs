//! Images as ECR lists them: a manifest with the tags that point at it.

use registry_metadata::{Manifest, Repository, RepositoryUid, Tx, manifests, tags};
use registry_types::{Digest, Reference, Tag};

use crate::error::CoreError;
use crate::manifests::holding_index;
use crate::registry::{Page, Registry};

/// Tags reported of one image.
const TAGS_REPORTED: u32 = 1000;

/// A manifest and its tags, in byte order (at most 1,000 of them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub manifest: Manifest,
    pub tags: Vec<Tag>,
}

/// What removing a tag did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untagged {
    pub digest: Digest,
    /// The tag was the image's last, so the image went with it.
    pub image_deleted: bool,
}

impl Registry {
    /// Images in the order of their digests, after `after` (a digest as text, or empty).
    pub async fn images(
        &self,
        repository: &Repository,
        after: &str,
        limit: u32,
    ) -> Result<Page<Image>, CoreError> {
        let (uid, after) = (repository.uid.clone(), after.to_owned());
        self.inner
            .metadata
            .read(move |tx| {
                let mut found = manifests::list_after(tx, &uid, &after, limit.saturating_add(1))?;
                let more = found.len() > limit as usize;
                found.truncate(limit as usize);
                let next = found.last().filter(|_| more).map(|last| last.digest.to_string());
                Ok::<_, CoreError>(Page { items: all_with_tags(tx, &uid, &after, found)?, next })
            })
            .await
    }

    /// One image.
    ///
    /// # Errors
    /// `ManifestNotFound`.
    pub async fn image(&self, repository: &Repository, reference: &Reference) -> Result<Image, CoreError> {
        let (uid, reference) = (repository.uid.clone(), reference.clone());
        self.inner
            .metadata
            .read(move |tx| {
                let found = match &reference {
                    Reference::Tag(tag) => manifests::by_tag(tx, &uid, tag)?,
                    Reference::Digest(digest) => manifests::by_digest(tx, &uid, digest)?,
                };
                with_tags(tx, &uid, found.ok_or(CoreError::ManifestNotFound)?)
            })
            .await
    }

    /// Removes a tag as ECR does: an image that loses its last tag is deleted, unless an index of the
    /// repository names it.
    ///
    /// # Errors
    /// `TagNotFound`.
    pub async fn untag_image(&self, repository: &Repository, tag: &Tag) -> Result<Untagged, CoreError> {
        let (uid, tag, now_ms) = (repository.uid.clone(), tag.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| {
                let row = tags::by_name(tx, &uid, &tag)?.ok_or(CoreError::TagNotFound)?;
                tags::delete(tx, &uid, &tag)?;
                let last = tags::of_digest(tx, &uid, &row.digest, 1)?.is_empty();
                let manifest = manifests::by_digest(tx, &uid, &row.digest)?;
                let image_deleted = match manifest {
                    Some(manifest) if last && holding_index(tx, &uid, &row.digest)?.is_none() => {
                        manifests::delete(tx, &uid, &manifest, now_ms)?
                    }
                    _ => false,
                };
                Ok::<_, CoreError>(Untagged { digest: row.digest, image_deleted })
            })
            .await
    }
}

/// The manifests after `after`, in the order of their digests, with their tags.
fn all_with_tags(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    after: &str,
    manifests: Vec<Manifest>,
) -> Result<Vec<Image>, CoreError> {
    let Some(last) = manifests.last() else { return Ok(Vec::new()) };
    let limit = 2 * TAGS_REPORTED;
    let found = tags::of_digests(tx, repository, after, &last.digest, limit)?;
    if found.len() == limit as usize {
        // Some have very many: their pages are read one image at a time.
        return manifests.into_iter().map(|manifest| with_tags(tx, repository, manifest)).collect();
    }
    let mut found = found.into_iter().peekable();
    let mut images = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        let mut tags = Vec::new();
        while let Some((digest, tag)) = found.next_if(|(digest, _)| *digest <= manifest.digest) {
            if digest == manifest.digest && tags.len() < TAGS_REPORTED as usize {
                tags.push(tag);
            }
        }
        images.push(Image { manifest, tags });
    }
    Ok(images)
}

fn with_tags(tx: &Tx<'_>, repository: &RepositoryUid, manifest: Manifest) -> Result<Image, CoreError> {
    let tags = tags::of_digest(tx, repository, &manifest.digest, TAGS_REPORTED)?;
    Ok(Image { manifest, tags })
}
