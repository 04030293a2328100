//! What a manifest names: whether it is there, and how large the image is.
//!
//! What is there has the size that the manifest states.

use registry_metadata::{Content, ContentKind, Repository, Tx, blobs, manifests};
use registry_types::Digest;

use crate::error::CoreError;

/// Checks that everything named has the size stated and, where it is required, is visible. Of a manifest that the
/// repository holds already nothing is required: it is served as it is, whatever became of its contents. Gives the
/// size of the image: the sum of an image's parts, the largest of an index's images.
pub(super) fn check(
    tx: &Tx<'_>,
    repository: &Repository,
    manifest: &Digest,
    contents: &[Content],
    required: bool,
) -> Result<u64, CoreError> {
    let mut missing: Vec<Digest> = Vec::new();
    let mut image_size = 0u64;
    for content in contents {
        let size = match found(tx, repository, content)? {
            Some((size, _)) if size != content.size => {
                let message = format!("{} has {size} bytes, not {}", content.digest, content.size);
                return Err(CoreError::ManifestInvalid(message));
            }
            Some((_, image_size)) => image_size,
            None => {
                let is_required = required && !content.media_type.is_non_distributable();
                if is_required && !missing.contains(&content.digest) {
                    missing.push(content.digest.clone());
                }
                0
            }
        };
        image_size = match content.kind {
            ContentKind::Child => image_size.max(size),
            ContentKind::Config | ContentKind::Layer => image_size.saturating_add(size),
        };
    }
    // Asked only now: what is pushed in the usual way has everything it names.
    if !missing.is_empty() && manifests::by_digest(tx, &repository.uid, manifest)?.is_none() {
        return Err(CoreError::ContentsMissing(missing));
    }
    Ok(image_size)
}

/// The size of the bytes, and that of the image; `None` for what is not visible.
fn found(tx: &Tx<'_>, repository: &Repository, content: &Content) -> Result<Option<(u64, u64)>, CoreError> {
    if content.kind == ContentKind::Child
        && let Some(child) = manifests::by_digest(tx, &repository.uid, &content.digest)?
    {
        return Ok(Some((child.size, child.image_size)));
    }
    // An index may list what is no manifest, as build caches do.
    let link = blobs::link(tx, &repository.uid, &content.digest)?;
    Ok(link.map(|link| (link.size, link.size)))
}
