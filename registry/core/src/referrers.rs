//! Referrers: the manifests that name another one as their subject.
//!
//! Pages are bounded in rows and in bytes. Annotations are content, so metadata keeps them sealed.

mod fallback;

use std::collections::BTreeMap;

use registry_metadata::{ReferrerKey, Repository, RepositoryUid, referrers};
use registry_runtime::Sealer;
use registry_types::{Digest, MediaType};

use crate::error::CoreError;
use crate::manifest::{Annotations, ParsedManifest};
use crate::registry::{Page, Registry};

pub use fallback::fallback_tag;
pub(crate) use fallback::only_lists_referrers;

const COLUMN: &str = "referrers.annotations_sealed";
/// What a descriptor takes beside its annotations, generously.
const DESCRIPTOR_BYTES: u64 = 1024;

/// A descriptor in the list of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    pub digest: Digest,
    pub media_type: MediaType,
    pub size: u64,
    pub artifact_type: Option<String>,
    pub annotations: Annotations,
}

impl Registry {
    /// Who refers to `subject`, in the order of digests, whether the subject exists or not; those that only the
    /// index of its fallback tag lists among them.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Page<Referrer>, CoreError> {
        let listed = self.fallback_referrers(repository, subject).await?;
        let page = self.own_referrers(repository, subject, artifact_type, after, limit).await?;
        Ok(page.merged(listed, artifact_type, after, limit))
    }

    /// The manifests that name `subject` themselves.
    async fn own_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Page<Referrer>, CoreError> {
        let uid = repository.uid.clone();
        let (subject, after) = (subject.clone(), after.to_owned());
        let artifact_type = artifact_type.map(str::to_owned);
        let budget = self.inner.config.limits.referrers_page_bytes;
        let sealer = std::sync::Arc::clone(&self.inner.sealer);
        self.inner
            .metadata
            .read(move |tx| {
                let wanted = limit.saturating_add(1);
                let keys = match &artifact_type {
                    Some(kind) => referrers::list_of_type_after(tx, &uid, &subject, kind, &after, wanted)?,
                    None => referrers::list_after(tx, &uid, &subject, &after, wanted)?,
                };
                let fitting = fitting(&keys, limit as usize, budget);
                let next = (fitting < keys.len()).then(|| keys[fitting - 1].digest.to_string());
                let mut items = Vec::with_capacity(fitting);
                for key in keys.into_iter().take(fitting) {
                    let sealed = referrers::annotations(tx, &uid, &subject, &key.digest)?;
                    let annotations = match sealed {
                        Some(sealed) => open_annotations(&sealer, &uid, &subject, &key.digest, &sealed)?,
                        None => Annotations::new(),
                    };
                    items.push(Referrer {
                        digest: key.digest,
                        media_type: key.media_type,
                        size: key.size,
                        artifact_type: Some(key.artifact_type).filter(|kind| !kind.is_empty()),
                        annotations,
                    });
                }
                Ok(Page { items, next })
            })
            .await
    }
}

impl Page<Referrer> {
    /// This page with others among it that are listed elsewhere, by digest; who is in both is as the page has it. The
    /// page is that of the same type, `after` and `limit`.
    #[must_use]
    pub fn merged(
        mut self,
        mut listed: BTreeMap<String, Referrer>,
        artifact_type: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Self {
        listed.retain(|digest, referrer| {
            digest.as_str() > after
                && artifact_type.is_none_or(|kind| referrer.artifact_type.as_deref() == Some(kind))
        });
        if listed.is_empty() {
            return self;
        }
        // What lies behind this page comes with the page it lies on.
        if let Some(next) = &self.next {
            listed.retain(|digest, _| digest <= next);
        }
        for own in self.items {
            listed.insert(own.digest.to_string(), own);
        }
        self.items = listed.into_values().collect();
        if self.items.len() > limit as usize {
            self.items.truncate(limit as usize);
            self.next = self.items.last().map(|last| last.digest.to_string());
        }
        self
    }
}

/// How many of the keys fit on a page: at least one, so that every page makes progress.
fn fitting(keys: &[ReferrerKey], limit: usize, budget: u64) -> usize {
    let mut used = 0u64;
    let within = keys.iter().take(limit).take_while(|key| {
        used += DESCRIPTOR_BYTES + key.annotations_len;
        used <= budget
    });
    within.count().max(1).min(keys.len())
}

/// The annotations of a referrer as they are stored, with their length; `None` without any.
pub(crate) fn sealed_annotations(
    sealer: &Sealer,
    repository: &Repository,
    subject: &Digest,
    digest: &Digest,
    parsed: &ParsedManifest,
) -> Result<Option<(u64, Vec<u8>)>, CoreError> {
    if parsed.annotations.is_empty() {
        return Ok(None);
    }
    let text =
        serde_json::to_vec(&parsed.annotations).map_err(|error| CoreError::Internal(Box::new(error)))?;
    let sealed = sealer.seal(COLUMN, &binding(&repository.uid, subject, digest), &text);
    Ok(Some((text.len() as u64, sealed)))
}

fn open_annotations(
    sealer: &Sealer,
    repository: &RepositoryUid,
    subject: &Digest,
    digest: &Digest,
    sealed: &[u8],
) -> Result<Annotations, CoreError> {
    let text = sealer
        .open(COLUMN, &binding(repository, subject, digest), sealed)
        .map_err(|error| CoreError::Internal(Box::new(error)))?;
    serde_json::from_slice(text.expose()).map_err(|error| CoreError::Internal(Box::new(error)))
}

/// The row that sealed annotations belong to: they open nowhere else.
fn binding<'a>(repository: &'a RepositoryUid, subject: &'a Digest, digest: &'a Digest) -> [&'a [u8]; 3] {
    [subject.as_str().as_bytes(), digest.as_str().as_bytes(), repository.as_str().as_bytes()]
}
