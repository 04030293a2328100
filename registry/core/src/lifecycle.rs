//! Lifecycle policies: kept for each repository, applied by a worker, previewed on request.
//!
//! A policy is applied in two passes over its own repository, page by page; each image is looked at again in the
//! transaction that deletes it. Invariant: what runs, what an index names and what no rule of the policy of that
//! moment expires is never deleted.

mod evaluate;
mod policy;
mod preview;
mod run;

use registry_metadata::lifecycle::{self, PolicyRow};
use registry_metadata::{Manifest, Repository, RepositoryUid, Tx, manifests, repositories, tags};
use registry_types::Digest;

use self::evaluate::{Facts, Standing};
use self::policy::LifecyclePolicy;
use crate::error::CoreError;
use crate::manifests::holding_index;
use crate::registry::Registry;

pub use policy::PolicyProblem;
pub use preview::{LifecyclePreview, PreviewQuery};
pub use registry_metadata::lifecycle::{PreviewImage, PreviewState};
pub use run::{Expiring, LifecycleRun};

/// Images of one page, and how many tags make it end early.
const PAGE: u32 = 100;
const TAGS_OF_PAGE: usize = 1000;

/// A repository's policy, as it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLifecyclePolicy {
    pub text: String,
    /// When it was last applied to all images.
    pub evaluated_at_ms: Option<i64>,
}

impl Registry {
    /// Sets the policy of a repository. It is first applied when `lifecycle_interval_ms` has passed, so that a
    /// mistake can be taken back.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `LifecyclePolicyInvalid`.
    pub async fn set_lifecycle_policy(&self, repository: &Repository, text: &str) -> Result<(), CoreError> {
        LifecyclePolicy::parse(text)?;
        let (uid, text, now_ms) = (repository.uid.clone(), text.to_owned(), self.now_ms());
        let due_at_ms = now_ms.saturating_add(self.inner.config.lifecycle_interval_ms);
        self.inner
            .metadata
            .write(move |tx| {
                repositories::by_uid(tx, &uid)?.ok_or(CoreError::RepositoryNotFound)?;
                lifecycle::put_policy(tx, &uid, &text, now_ms, due_at_ms)?;
                Ok(())
            })
            .await
    }

    pub async fn lifecycle_policy(
        &self,
        repository: &Repository,
    ) -> Result<Option<StoredLifecyclePolicy>, CoreError> {
        let uid = repository.uid.clone();
        let read = self.inner.metadata.point(move |tx| Ok::<_, CoreError>(lifecycle::policy(tx, &uid)?));
        Ok(read.await?.map(StoredLifecyclePolicy::from))
    }

    /// Removes the policy of a repository; gives it as it was.
    pub async fn delete_lifecycle_policy(
        &self,
        repository: &Repository,
    ) -> Result<Option<StoredLifecyclePolicy>, CoreError> {
        let uid = repository.uid.clone();
        let deleted = self.inner.metadata.write(move |tx| {
            let before = lifecycle::policy(tx, &uid)?;
            lifecycle::delete_policy(tx, &uid)?;
            Ok::<_, CoreError>(before)
        });
        Ok(deleted.await?.map(StoredLifecyclePolicy::from))
    }

    /// Facts about a page of a repository's images, after the digest `after`; where the next page begins.
    async fn facts(
        &self,
        repository: &RepositoryUid,
        after: &str,
    ) -> Result<(Vec<Facts>, Option<String>), CoreError> {
        let (uid, after) = (repository.clone(), after.to_owned());
        self.inner
            .metadata
            .read(move |tx| {
                let page = manifests::list_after(tx, &uid, &after, PAGE)?;
                let is_last = page.len() < PAGE as usize;
                let (mut seen, mut tags) = (Vec::new(), 0);
                let mut waiting = page.into_iter().peekable();
                while let Some(manifest) = waiting.next_if(|_| tags < TAGS_OF_PAGE) {
                    let image = facts(tx, &uid, manifest)?;
                    tags += image.tags.len();
                    seen.push(image);
                }
                let goes_on = waiting.peek().is_some() || !is_last;
                let next = seen.last().filter(|_| goes_on).map(|last| last.digest.to_string());
                Ok((seen, next))
            })
            .await
    }
}

impl From<PolicyRow> for StoredLifecyclePolicy {
    fn from(row: PolicyRow) -> Self {
        Self { text: row.text, evaluated_at_ms: row.evaluated_at_ms }
    }
}

fn facts(tx: &Tx<'_>, repository: &RepositoryUid, manifest: Manifest) -> Result<Facts, CoreError> {
    let tags = tags::of_digest(tx, repository, &manifest.digest, u32::MAX)?;
    let standing = if holding_index(tx, repository, &manifest.digest)?.is_some() {
        Standing::Held
    } else if tags.is_empty() && has_subject(tx, repository, manifest.subject.as_ref())? {
        Standing::WithSubject
    } else {
        Standing::Free
    };
    Ok(Facts {
        digest: manifest.digest,
        tags,
        pushed_at_ms: manifest.pushed_at_ms,
        last_pulled_at_ms: manifest.last_pulled_at_ms,
        standing,
    })
}

fn has_subject(tx: &Tx<'_>, repository: &RepositoryUid, subject: Option<&Digest>) -> Result<bool, CoreError> {
    match subject {
        Some(subject) => Ok(manifests::by_digest(tx, repository, subject)?.is_some()),
        None => Ok(false),
    }
}
