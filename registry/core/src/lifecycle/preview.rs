//! Previews: what a policy would expire, computed by a worker from the same decision, and kept for a day.

use std::collections::BTreeSet;

use registry_metadata::lifecycle::{self, PreviewImage, PreviewRow, PreviewState};
use registry_metadata::{Repository, RepositoryUid, Tx, repositories};
use registry_types::Digest;

use super::policy::LifecyclePolicy;
use crate::error::CoreError;
use crate::registry::{Page, Registry};

/// How long a preview belongs to the server that computes it.
const TAKEN_FOR_MS: i64 = 10 * 60_000;
/// How long its images are kept.
const KEPT_FOR_MS: i64 = 24 * 3_600_000;
/// Rows of one transaction.
const BATCH: u32 = 500;

/// A preview and a page of what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecyclePreview {
    pub text: String,
    pub state: PreviewState,
    /// How many images would go in all.
    pub expiring: u64,
    pub images: Page<PreviewImage>,
}

/// Which images of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewQuery {
    /// In the order of their digests, after `after`: a digest as text, or empty.
    Page { after: String, limit: u32 },
    /// These, as far as they would go.
    Only(BTreeSet<Digest>),
}

impl Registry {
    /// Asks for a preview of `text`, or else of the policy that is set. Gives the text.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `LifecyclePolicyInvalid`, `LifecyclePolicyNotFound`, `LifecyclePreviewInProgress`.
    pub async fn start_lifecycle_preview(
        &self,
        repository: &Repository,
        text: Option<String>,
    ) -> Result<String, CoreError> {
        if let Some(text) = &text {
            LifecyclePolicy::parse(text)?;
        }
        let (uid, now_ms) = (repository.uid.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| {
                repositories::by_uid(tx, &uid)?.ok_or(CoreError::RepositoryNotFound)?;
                let text = match &text {
                    Some(text) => text.clone(),
                    None => lifecycle::policy(tx, &uid)?.ok_or(CoreError::LifecyclePolicyNotFound)?.text,
                };
                let before = lifecycle::preview(tx, &uid)?;
                if before.is_some_and(|before| before.state == PreviewState::InProgress) {
                    return Err(CoreError::LifecyclePreviewInProgress);
                }
                lifecycle::begin_preview(tx, &uid, &text, now_ms)?;
                Ok(text)
            })
            .await
    }

    /// The preview that was asked for last, with a page of its images in the order of their digests.
    ///
    /// # Errors
    /// `LifecyclePreviewNotFound`.
    pub async fn lifecycle_preview(
        &self,
        repository: &Repository,
        query: PreviewQuery,
    ) -> Result<LifecyclePreview, CoreError> {
        let uid = repository.uid.clone();
        self.inner
            .metadata
            .read(move |tx| {
                let row = lifecycle::preview(tx, &uid)?.ok_or(CoreError::LifecyclePreviewNotFound)?;
                let images = match row.state {
                    PreviewState::Complete => images(tx, &uid, &query)?,
                    PreviewState::InProgress | PreviewState::Failed | PreviewState::Expired => {
                        Page { items: Vec::new(), next: None }
                    }
                };
                let PreviewRow { text, state, images: expiring, .. } = row;
                Ok::<_, CoreError>(LifecyclePreview { text, state, expiring, images })
            })
            .await
    }

    /// Whether there is something to do for [`Registry::compute_lifecycle_preview`] or
    /// [`Registry::begin_lifecycle_run`].
    ///
    /// # Errors
    /// The database's.
    pub async fn is_lifecycle_due(&self) -> Result<bool, CoreError> {
        let now_ms = self.now_ms();
        let due =
            move |tx: &mut Tx<'_>| Ok::<_, CoreError>(lifecycle::is_due(tx, now_ms, now_ms - KEPT_FOR_MS)?);
        self.inner.metadata.read(due).await
    }

    /// Computes the preview that has waited for longest, and forgets what an old one found. False when nothing
    /// waits.
    ///
    /// # Errors
    /// The database's; `Unavailable` when nobody can tell what runs. The preview is computed again then.
    pub async fn compute_lifecycle_preview(&self) -> Result<bool, CoreError> {
        self.forget_old_preview().await?;
        let now_ms = self.now_ms();
        let taken = self.inner.metadata.write(move |tx| {
            let Some(row) = lifecycle::take_preview(tx, now_ms, now_ms + TAKEN_FOR_MS)? else {
                return Ok(None);
            };
            let repository = repositories::by_uid(tx, &row.repository)?;
            Ok::<_, CoreError>(repository.map(|repository| (row, repository)))
        });
        let Some((row, repository)) = taken.await? else { return Ok(false) };
        self.clear_preview(&row).await?;
        let (state, found) = match LifecyclePolicy::parse(&row.text) {
            Ok(policy) => (PreviewState::Complete, self.fill_preview(&repository, policy).await?),
            // It was read before it was stored: by a release that knew more.
            Err(_) => (PreviewState::Failed, 0),
        };
        self.inner
            .metadata
            .write(move |tx| Ok::<_, CoreError>(lifecycle::finish_preview(tx, &row, state, found)?))
            .await?;
        Ok(true)
    }

    async fn fill_preview(&self, repository: &Repository, policy: LifecyclePolicy) -> Result<u64, CoreError> {
        let decision = self.count(&repository.uid, policy).await?;
        let pinned = self.pinned_digests().await?;
        let (mut after, mut found) = (Some(String::new()), 0);
        while let Some(from) = after {
            let (page, next) = self.facts(&repository.uid, &from).await?;
            after = next;
            let images: Vec<PreviewImage> = page
                .into_iter()
                .filter(|image| !pinned.contains(&(repository.name.clone(), image.digest.clone())))
                .filter_map(|image| {
                    let rule_priority = decision.rule_for(&image)?;
                    let (pushed_at_ms, tags) = (image.pushed_at_ms, image.tags);
                    Some(PreviewImage { digest: image.digest, rule_priority, pushed_at_ms, tags })
                })
                .collect();
            found += images.len() as u64;
            let uid = repository.uid.clone();
            self.inner
                .metadata
                .write(move |tx| {
                    images
                        .iter()
                        .try_for_each(|image| lifecycle::put_preview_image(tx, &uid, image))
                        .map_err(CoreError::from)
                })
                .await?;
        }
        Ok(found)
    }

    async fn forget_old_preview(&self) -> Result<(), CoreError> {
        let before_ms = self.now_ms() - KEPT_FOR_MS;
        let old =
            self.inner.metadata.read(move |tx| Ok::<_, CoreError>(lifecycle::old_preview(tx, before_ms)?));
        let Some(row) = old.await? else { return Ok(()) };
        self.clear_preview(&row).await?;
        self.inner
            .metadata
            .write(move |tx| {
                Ok::<_, CoreError>(lifecycle::finish_preview(tx, &row, PreviewState::Expired, 0)?)
            })
            .await
    }

    async fn clear_preview(&self, row: &PreviewRow) -> Result<(), CoreError> {
        loop {
            let uid = row.repository.clone();
            let cleared = self
                .inner
                .metadata
                .write(move |tx| Ok::<_, CoreError>(lifecycle::clear_preview(tx, &uid, BATCH)?));
            if !cleared.await? {
                return Ok(());
            }
        }
    }
}

fn images(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    query: &PreviewQuery,
) -> Result<Page<PreviewImage>, CoreError> {
    match query {
        PreviewQuery::Page { after, limit } => {
            let mut items = lifecycle::preview_images_after(tx, repository, after, limit.saturating_add(1))?;
            let more = items.len() > *limit as usize;
            items.truncate(*limit as usize);
            let next = items.last().filter(|_| more).map(|last| last.digest.to_string());
            Ok(Page { items, next })
        }
        PreviewQuery::Only(digests) => {
            let mut items = Vec::new();
            for digest in digests {
                items.extend(lifecycle::preview_image(tx, repository, digest)?);
            }
            Ok(Page { items, next: None })
        }
    }
}
