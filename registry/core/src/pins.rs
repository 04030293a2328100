//! Pins: images that run somewhere, or are about to. Nothing here removes them by itself.
//!
//! The registry does not know who runs what; whoever does is connected once. Invariant: what cannot be asked
//! counts as pinned.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use registry_metadata::{Repository, manifests};
use registry_types::{Digest, Reference, RepositoryName};

use crate::error::{CoreError, Source};
use crate::registry::Registry;

/// How often it is noted that an image was resolved, at the most.
const NOTED_MS: i64 = 60_000;

/// How long an image that was resolved counts as pinned: until whoever asked has long written down that it runs.
pub(crate) const RESOLVED_MS: i64 = 15 * 60_000;

/// Who knows what runs.
#[async_trait]
pub trait Pins: Send + Sync {
    /// Images that live tasks and active deployments run, as it is committed at this moment, on every server alike.
    ///
    /// # Errors
    /// When that cannot be told; nothing is removed then.
    async fn pinned_digests(&self) -> Result<PinnedDigests, Source>;
}

/// Images by repository and digest.
pub type PinnedDigests = BTreeSet<(RepositoryName, Digest)>;

impl Registry {
    /// Connects whoever knows what runs, once, before anything is collected. Without it nothing runs.
    pub fn connect_pins(&self, pins: Arc<dyn Pins>) {
        // The first connection stays.
        let _ = self.inner.pins.set(pins);
    }

    /// The digest that a task or a deployment is about to run. The image is pinned from before this returns.
    ///
    /// # Errors
    /// `ManifestNotFound`, for a tag; a digest is given back whether the repository holds it or not.
    pub async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Digest, CoreError> {
        let (uid, reference, now_ms) = (repository.uid.clone(), reference.clone(), self.now_ms());
        let (asked, wanted) = (uid.clone(), reference.clone());
        let found = self.inner.metadata.point(move |tx| {
            let manifest = match &wanted {
                Reference::Tag(tag) => manifests::by_tag(tx, &asked, tag)?,
                Reference::Digest(digest) => manifests::by_digest(tx, &asked, digest)?,
            };
            let Some(manifest) = manifest else { return Ok(None) };
            let resolved_at_ms = manifests::resolved_at(tx, &asked, &manifest.digest)?;
            Ok::<_, CoreError>(Some((manifest.digest, resolved_at_ms)))
        });
        match (found.await?, reference.clone()) {
            (None, Reference::Digest(digest)) => Ok(digest),
            (None, Reference::Tag(_)) => Err(CoreError::ManifestNotFound),
            (Some((digest, Some(at_ms))), _) if (0..NOTED_MS).contains(&(now_ms - at_ms)) => Ok(digest),
            (Some((digest, _)), _) => {
                let noted = digest.clone();
                self.inner
                    .metadata
                    .write(move |tx| {
                        let is_there = manifests::note_resolved(tx, &uid, &noted, now_ms)?;
                        let by_digest = matches!(reference, Reference::Digest(_));
                        if is_there || by_digest { Ok(()) } else { Err(CoreError::ManifestNotFound) }
                    })
                    .await?;
                Ok(digest)
            }
        }
    }

    /// What runs at this moment.
    pub(crate) async fn pinned_digests(&self) -> Result<PinnedDigests, CoreError> {
        match self.inner.pins.get() {
            Some(pins) => pins.pinned_digests().await.map_err(CoreError::Unavailable),
            None => Ok(PinnedDigests::new()),
        }
    }
}

/// Whether an image that was last resolved then is pinned by that alone.
pub(crate) fn is_fresh(resolved_at_ms: Option<i64>, now_ms: i64) -> bool {
    resolved_at_ms.is_some_and(|at_ms| now_ms - at_ms < RESOLVED_MS)
}
