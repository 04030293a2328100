//! Images as ECR lists them: a manifest with the tags that point at it.

use registry_metadata::{Manifest, Repository, RepositoryUid, Tx, manifests, tags};
use registry_types::{Digest, Reference, Tag};

use crate::error::CoreError;
use crate::manifests::holding_index;
use crate::registry::{Page, Registry};

/// A manifest and all its tags, in byte order.
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
    /// Images in the order of their digests, after `after` (a digest as text, or empty): up to `limit`, and fewer
    /// where they have more tags together than one image may have.
    pub async fn images(
        &self,
        repository: &Repository,
        after: &str,
        limit: u32,
    ) -> Result<Page<Image>, CoreError> {
        let (uid, after) = (repository.uid.clone(), after.to_owned());
        let most_tags = self.inner.config.limits.tags_per_image;
        self.inner
            .metadata
            .read(move |tx| {
                let mut found = manifests::list_after(tx, &uid, &after, limit.saturating_add(1))?;
                let count = found.len();
                found.truncate(limit as usize);
                let items = all_with_tags(tx, &uid, &after, found, most_tags)?;
                let last = items.last().filter(|_| items.len() < count);
                let next = last.map(|last| last.manifest.digest.to_string());
                Ok::<_, CoreError>(Page { items, next })
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

/// The manifests after `after`, in the order of their digests, with their tags: as many from the first on as have
/// `most_tags` together, but at least one.
fn all_with_tags(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    after: &str,
    manifests: Vec<Manifest>,
    most_tags: u32,
) -> Result<Vec<Image>, CoreError> {
    let Some(last) = manifests.last() else { return Ok(Vec::new()) };
    let limit = most_tags.saturating_add(1);
    let found = tags::of_digests(tx, repository, after, &last.digest, limit)?;
    // What was read last may not be all of its image's tags.
    let cut =
        if found.len() == limit as usize { found.last().map(|(digest, _)| digest.clone()) } else { None };
    let mut found = found.into_iter().peekable();
    let mut images = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        if cut.as_ref() == Some(&manifest.digest) {
            if images.is_empty() {
                images.push(with_tags(tx, repository, manifest)?);
            }
            break;
        }
        let mut tags = Vec::new();
        while let Some((digest, tag)) = found.next_if(|(digest, _)| *digest <= manifest.digest) {
            if digest == manifest.digest {
                tags.push(tag);
            }
        }
        images.push(Image { manifest, tags });
    }
    Ok(images)
}

/// An image with all its tags: no more than a push lets it have.
fn with_tags(tx: &Tx<'_>, repository: &RepositoryUid, manifest: Manifest) -> Result<Image, CoreError> {
    let tags = tags::of_digest(tx, repository, &manifest.digest, u32::MAX)?;
    Ok(Image { manifest, tags })
}
