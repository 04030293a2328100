//! What a manifest names: whether it is there, and how large the image is.
//!
//! Sizes are those that are stated, for what is here has them and what is to come must have them.

use std::collections::HashSet;

use registry_metadata::{Content, ContentKind, Repository, RepositoryUid, Tx, blobs, manifests};
use registry_types::Digest;

use crate::error::CoreError;

/// Digests that a refusal names at most.
const MISSING_NAMED: usize = 1000;

/// Indexes that learn the size of an image which came after them.
const INDEXES_TOLD: usize = 64;

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
    let mut seen = HashSet::new();
    let mut image_size = 0u64;
    let mut all = Vec::with_capacity(contents.len());
    for some in contents.chunks(8) {
        all.extend(found(tx, &repository.uid, some)?);
    }
    for (content, found) in contents.iter().zip(all) {
        let size = match found {
            Some((size, _)) if size != content.size => {
                let message = format!("{} has {size} bytes, not {}", content.digest, content.size);
                return Err(CoreError::ManifestInvalid(message));
            }
            Some((_, image_size)) => image_size,
            // Not to be here, so no part of what the image takes here.
            None if content.media_type.is_non_distributable() => 0,
            None => {
                if required && missing.len() < MISSING_NAMED && seen.insert(&content.digest) {
                    missing.push(content.digest.clone());
                }
                let is_image = content.media_type.is_manifest() || content.media_type.is_index();
                // How large an absent image is nobody says.
                if content.kind == ContentKind::Child && is_image { 0 } else { content.size }
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

/// Of each the size of the bytes, and that of the image; `None` for what is not visible.
fn found(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    contents: &[Content],
) -> Result<Vec<Option<(u64, u64)>>, CoreError> {
    let Ok(eight) = <&[Content; 8]>::try_from(contents) else {
        return contents.iter().map(|content| found_alone(tx, repository, content)).collect();
    };
    // A long list would take too many round trips one by one.
    let digests = eight.each_ref().map(|content| &content.digest);
    let mut found = vec![None; eight.len()];
    if eight.iter().any(|content| content.kind == ContentKind::Child) {
        for (digest, size, image_size) in manifests::sizes(tx, repository, digests)? {
            let places = eight.iter().zip(&mut found);
            let places = places.filter(|(content, _)| content.kind == ContentKind::Child);
            places.filter(|(content, _)| content.digest == digest).for_each(|(_, found)| {
                *found = Some((size, image_size));
            });
        }
    }
    if found.contains(&None) {
        for (digest, size) in blobs::sizes(tx, repository, digests)? {
            let places = eight.iter().zip(&mut found).filter(|(_, found)| found.is_none());
            places.filter(|(content, _)| content.digest == digest).for_each(|(_, found)| {
                *found = Some((size, size));
            });
        }
    }
    Ok(found)
}

fn found_alone(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    content: &Content,
) -> Result<Option<(u64, u64)>, CoreError> {
    if content.kind == ContentKind::Child
        && let Some(child) = manifests::by_digest(tx, repository, &content.digest)?
    {
        return Ok(Some((child.size, child.image_size)));
    }
    // An index may list what is no manifest, as build caches do.
    let link = blobs::link(tx, repository, &content.digest)?;
    Ok(link.map(|link| (link.size, link.size)))
}

/// Tells the indexes that name a manifest, and those that name these, how large its image is.
pub(super) fn tell_indexes(
    tx: &Tx<'_>,
    repository: &Repository,
    manifest: &Digest,
    image_size: u64,
) -> Result<(), CoreError> {
    let mut told = vec![manifest.clone()];
    let mut next = 0;
    while let Some(named) = told.get(next).cloned() {
        next += 1;
        for index in manifests::parents(tx, &repository.uid, &named, INDEXES_TOLD as u32)? {
            if told.len() <= INDEXES_TOLD && manifests::widen(tx, &repository.uid, &index, image_size)? {
                told.push(index);
            }
        }
    }
    Ok(())
}
