//! One application of one policy: taken by one server, decided page by page, each deletion decided again.

use std::sync::Arc;

use registry_metadata::lifecycle::{self, PolicyRow};
use registry_metadata::{Repository, RepositoryUid, manifests, referrers, repositories, tags};
use registry_types::{Digest, Tag};

use super::evaluate::{Counting, Decision};
use super::facts;
use super::policy::LifecyclePolicy;
use crate::error::CoreError;
use crate::manifests::holding_index;
use crate::pins::{self, PinnedDigests};
use crate::registry::Registry;

/// How long a policy belongs to the server that took it, unless it goes on.
const TAKEN_FOR_MS: i64 = 10 * 60_000;
/// Artifacts of one image that go with it in one run; the rest goes by the rules for what it is then.
const ARTIFACTS: u32 = 100;

/// One application of a repository's policy, held by this server.
pub struct LifecycleRun {
    registry: Registry,
    row: PolicyRow,
    repository: Repository,
    decision: Arc<Decision>,
    /// Where the next page begins; `None` when all were seen.
    after: Option<String>,
}

/// An image that is about to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    pub digest: Digest,
    pub tags: Vec<Tag>,
    /// The rule that expires it, by its priority.
    pub rule_priority: i64,
    /// The image that it refers to, which went before.
    subject: Option<Digest>,
}

impl Registry {
    /// Takes the policy that has been due for longest and goes through its images once. `None` when nothing is due,
    /// when another server has what is, or while a restore waits to be adopted.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_lifecycle_run(&self) -> Result<Option<LifecycleRun>, CoreError> {
        if self.waiting_for_adoption().await?.is_some() {
            return Ok(None);
        }
        let now_ms = self.now_ms();
        let taken = self.inner.metadata.write(move |tx| {
            let Some(row) = lifecycle::take_policy(tx, now_ms, now_ms + TAKEN_FOR_MS)? else {
                return Ok(None);
            };
            let repository = repositories::by_uid(tx, &row.repository)?;
            if repository.is_none() {
                lifecycle::end(tx, &row.repository)?;
            }
            Ok::<_, CoreError>(repository.map(|repository| (row, repository)))
        });
        let Some((row, repository)) = taken.await? else { return Ok(None) };
        let policy = LifecyclePolicy::parse(&row.text)?;
        let decision = self.count(&row.repository, policy).await?;
        let (registry, after) = (self.clone(), Some(String::new()));
        Ok(Some(LifecycleRun { registry, row, repository, decision: Arc::new(decision), after }))
    }

    /// The first pass over a repository.
    pub(super) async fn count(
        &self,
        repository: &RepositoryUid,
        policy: LifecyclePolicy,
    ) -> Result<Decision, CoreError> {
        let mut counting = Counting::new(Arc::new(policy));
        let mut after = Some(String::new());
        while let Some(from) = after {
            let (page, next) = self.facts(repository, &from).await?;
            page.iter().for_each(|image| counting.see(image));
            after = next;
        }
        Ok(counting.decide(self.now_ms()))
    }
}

impl LifecycleRun {
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The images of the next page that are to go; `None` at the end. What runs, or is about to, is not among them.
    ///
    /// # Errors
    /// The database's; `Unavailable` when nobody can tell what runs.
    pub async fn next(&mut self) -> Result<Option<Vec<Expiring>>, CoreError> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let (row, until_ms) = (self.row.clone(), self.registry.now_ms() + TAKEN_FOR_MS);
        let held = self
            .registry
            .inner
            .metadata
            .write(move |tx| Ok::<_, CoreError>(lifecycle::hold_policy(tx, &row, until_ms)?));
        if !held.await? {
            return Ok(None);
        }
        let (page, next) = self.registry.facts(&self.row.repository, &after).await?;
        self.after = next;
        let mut expiring: Vec<Expiring> = page
            .into_iter()
            .filter_map(|image| {
                let rule_priority = self.decision.rule_for(&image)?;
                Some(Expiring { digest: image.digest, tags: image.tags, rule_priority, subject: None })
            })
            .collect();
        self.registry.leave_pinned(&self.repository, &mut expiring).await?;
        Ok(Some(expiring))
    }

    /// Deletes an image, if the policy still holds and still says so. Gives the artifacts that refer to it and are
    /// to go with it; `None` when it stayed.
    ///
    /// # Errors
    /// The database's.
    pub async fn expire(&self, image: &Expiring) -> Result<Option<Vec<Expiring>>, CoreError> {
        let (row, repository, image) = (self.row.clone(), self.repository.uid.clone(), image.clone());
        let (decision, now_ms) = (Arc::clone(&self.decision), self.registry.now_ms());
        let expired = self.registry.inner.metadata.write(move |tx| {
            let Some(manifest) = manifests::by_digest(tx, &repository, &image.digest)? else {
                return Ok(None);
            };
            let resolved_at_ms = manifests::resolved_at(tx, &repository, &image.digest)?;
            if !lifecycle::is_current(tx, &row)? || pins::is_fresh(resolved_at_ms, now_ms) {
                return Ok(None);
            }
            let goes = match &image.subject {
                None => {
                    decision.rule_for(&facts(tx, &repository, manifest.clone())?) == Some(image.rule_priority)
                }
                Some(subject) => {
                    tags::of_digest(tx, &repository, &image.digest, 1)?.is_empty()
                        && manifests::by_digest(tx, &repository, subject)?.is_none()
                        && holding_index(tx, &repository, &image.digest)?.is_none()
                }
            };
            if !goes || !manifests::delete(tx, &repository, &manifest, now_ms)? {
                return Ok(None);
            }
            let artifacts = referrers::list_after(tx, &repository, &image.digest, "", ARTIFACTS)?;
            let artifacts = artifacts.into_iter().map(|artifact| Expiring {
                digest: artifact.digest,
                tags: Vec::new(),
                rule_priority: image.rule_priority,
                subject: Some(image.digest.clone()),
            });
            Ok::<_, CoreError>(Some(artifacts.collect::<Vec<_>>()))
        });
        let Some(mut artifacts) = expired.await? else { return Ok(None) };
        self.registry.leave_pinned(&self.repository, &mut artifacts).await?;
        Ok(Some(artifacts))
    }

    /// Notes that all images were seen; the policy is due again after the interval.
    ///
    /// # Errors
    /// The database's.
    pub async fn finish(self) -> Result<(), CoreError> {
        let (row, now_ms) = (self.row, self.registry.now_ms());
        let due_at_ms = now_ms.saturating_add(self.registry.inner.config.lifecycle_interval_ms);
        self.registry
            .inner
            .metadata
            .write(move |tx| Ok::<_, CoreError>(lifecycle::finish_policy(tx, &row, now_ms, due_at_ms)?))
            .await
    }
}

impl Registry {
    /// Leaves out what runs at this moment, or was asked for a moment ago.
    async fn leave_pinned(
        &self,
        repository: &Repository,
        expiring: &mut Vec<Expiring>,
    ) -> Result<(), CoreError> {
        if expiring.is_empty() {
            return Ok(());
        }
        let digests: Vec<Digest> = expiring.iter().map(|image| image.digest.clone()).collect();
        let (uid, now_ms) = (repository.uid.clone(), self.now_ms());
        let resolved = self.inner.metadata.read(move |tx| {
            let mut fresh = Vec::new();
            for digest in &digests {
                fresh.push(pins::is_fresh(manifests::resolved_at(tx, &uid, digest)?, now_ms));
            }
            Ok::<_, CoreError>(fresh)
        });
        let mut resolved = resolved.await?.into_iter();
        let pinned: PinnedDigests = self.pinned_digests().await?;
        expiring.retain(|image| {
            let is_fresh = resolved.next().unwrap_or(true);
            !is_fresh && !pinned.contains(&(repository.name.clone(), image.digest.clone()))
        });
        Ok(())
    }
}
