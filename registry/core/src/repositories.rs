//! Repositories: made, listed, configured, deleted; and the target of a push.

use std::collections::BTreeMap;
use std::sync::Arc;

use registry_metadata::{
    Domain, EncryptionType, Repository, RepositoryPolicy, RepositoryUid, TagMutability, Tx, manifests,
    repositories,
};
use registry_runtime::random_id;
use registry_types::RepositoryName;

use crate::error::CoreError;
use crate::registry::{Page, Registry, default_domain};

/// Resource tags that one repository may have (ECR's limit).
const RESOURCE_TAGS: usize = 50;

/// Settings of a repository that is made on request.
#[derive(Clone, Debug, Default)]
pub struct NewRepository {
    pub tag_mutability: TagMutability,
    pub resource_tags: BTreeMap<String, String>,
    pub scan_on_push: bool,
    /// Of a repository that names its key: an existing key domain.
    pub kms_key: Option<Domain>,
}

/// Where a push goes. The caller was authorized for exactly this.
#[derive(Clone, Debug)]
pub enum PushTarget {
    /// This incarnation; the push fails when it is gone.
    Existing(Repository),
    /// A repository that did not exist when the caller was authorized, made together with what is pushed.
    /// When somebody else was faster, that one's repository is used if it carries no policy and no resource
    /// tags, so that the decision would have been the same, and no key of its own; else
    /// [`CoreError::RepositoryExists`].
    New(RepositoryName),
}

impl PushTarget {
    pub fn name(&self) -> &RepositoryName {
        match self {
            Self::Existing(repository) => &repository.name,
            Self::New(name) => name,
        }
    }
}

impl Registry {
    /// Point read by name.
    pub async fn repository(&self, name: &RepositoryName) -> Result<Option<Repository>, CoreError> {
        let name = name.clone();
        self.inner.metadata.point(move |tx| Ok(repositories::by_name(tx, &name)?)).await
    }

    /// # Errors
    /// `RepositoryExists`, `TooManyResourceTags`.
    pub async fn create_repository(
        &self,
        name: &RepositoryName,
        settings: NewRepository,
    ) -> Result<Repository, CoreError> {
        if settings.resource_tags.len() > RESOURCE_TAGS {
            return Err(CoreError::TooManyResourceTags { limit: RESOURCE_TAGS });
        }
        let repository = new_repository(name, settings, self.now_ms());
        let row = repository.clone();
        let created: bool =
            self.inner.metadata.write(move |tx| Ok::<_, CoreError>(repositories::insert(tx, &row)?)).await?;
        if created { Ok(repository) } else { Err(CoreError::RepositoryExists) }
    }

    /// Deletes a repository; everything in it is invisible at once, its rows go later in batches.
    ///
    /// # Errors
    /// `RepositoryNotFound`; `RepositoryNotEmpty` when it holds images and `force` is not set.
    pub async fn delete_repository(&self, uid: &RepositoryUid, force: bool) -> Result<(), CoreError> {
        let (uid, now_ms) = (uid.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| {
                if !force && !manifests::list_after(tx, &uid, "", 1)?.is_empty() {
                    return Err(CoreError::RepositoryNotEmpty);
                }
                found(repositories::delete(tx, &uid, now_ms)?)
            })
            .await
    }

    /// Repositories in the order of their names, after `after` (which need not exist). `limit` bounds the
    /// rows examined.
    pub async fn repositories(&self, after: &str, limit: u32) -> Result<Page<Repository>, CoreError> {
        let after = after.to_owned();
        let mut items: Vec<Repository> = self
            .inner
            .metadata
            .read(move |tx| {
                Ok::<_, CoreError>(repositories::list_after(tx, &after, limit.saturating_add(1))?)
            })
            .await?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Page { items, next })
    }

    /// Sets the repository policy, or removes it. The text was checked by the caller. Gives the policy as
    /// it was before.
    ///
    /// # Errors
    /// `RepositoryNotFound`.
    pub async fn set_repository_policy(
        &self,
        uid: &RepositoryUid,
        text: Option<String>,
    ) -> Result<Option<RepositoryPolicy>, CoreError> {
        let uid = uid.clone();
        let text: Option<Arc<str>> = text.map(Arc::from);
        self.inner
            .metadata
            .write(move |tx| {
                let before = repositories::by_uid(tx, &uid)?.ok_or(CoreError::RepositoryNotFound)?;
                repositories::set_policy(tx, &uid, text.as_deref())?;
                Ok(before.policy)
            })
            .await
    }

    /// # Errors
    /// `RepositoryNotFound`.
    pub async fn set_tag_mutability(
        &self,
        uid: &RepositoryUid,
        mutability: TagMutability,
    ) -> Result<(), CoreError> {
        let uid = uid.clone();
        self.inner
            .metadata
            .write(move |tx| found(repositories::set_tag_mutability(tx, &uid, &mutability)?))
            .await
    }

    /// # Errors
    /// `RepositoryNotFound`.
    pub async fn set_scan_on_push(&self, uid: &RepositoryUid, scan_on_push: bool) -> Result<(), CoreError> {
        let uid = uid.clone();
        self.inner
            .metadata
            .write(move |tx| found(repositories::set_scan_on_push(tx, &uid, scan_on_push)?))
            .await
    }

    /// Adds resource tags, replacing those of the same key, then removes those of `removed`.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `TooManyResourceTags`.
    pub async fn change_resource_tags(
        &self,
        uid: &RepositoryUid,
        added: BTreeMap<String, String>,
        removed: Vec<String>,
    ) -> Result<(), CoreError> {
        let uid = uid.clone();
        self.inner
            .metadata
            .write(move |tx| {
                let repository = repositories::by_uid(tx, &uid)?.ok_or(CoreError::RepositoryNotFound)?;
                let mut tags = repository.resource_tags;
                tags.extend(added.clone());
                tags.retain(|key, _| !removed.contains(key));
                if tags.len() > RESOURCE_TAGS {
                    return Err(CoreError::TooManyResourceTags { limit: RESOURCE_TAGS });
                }
                found(repositories::set_resource_tags(tx, &uid, &tags)?)
            })
            .await
    }
}

fn found(changed: bool) -> Result<(), CoreError> {
    if changed { Ok(()) } else { Err(CoreError::RepositoryNotFound) }
}

fn new_repository(name: &RepositoryName, settings: NewRepository, now_ms: i64) -> Repository {
    Repository {
        uid: RepositoryUid::new(random_id()),
        name: name.clone(),
        created_at_ms: now_ms,
        encryption_type: settings.kms_key.as_ref().map_or(EncryptionType::Aes256, |_| EncryptionType::Kms),
        domain: settings.kms_key.unwrap_or_else(default_domain),
        tag_mutability: settings.tag_mutability,
        policy: None,
        resource_tags: settings.resource_tags,
        scan_on_push: settings.scan_on_push,
    }
}

/// A push's target with everything random drawn, so that a transaction can be run again.
#[derive(Clone)]
pub(crate) enum PreparedTarget {
    Existing(Repository),
    New(Repository),
}

impl PreparedTarget {
    pub(crate) fn new(target: &PushTarget, now_ms: i64) -> Self {
        match target {
            PushTarget::Existing(repository) => Self::Existing(repository.clone()),
            PushTarget::New(name) => Self::New(new_repository(name, NewRepository::default(), now_ms)),
        }
    }

    /// Whether the push makes the repository, unless somebody else is faster.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }

    /// The key domain of what is pushed.
    pub(crate) fn repository(&self) -> &Repository {
        match self {
            Self::Existing(repository) | Self::New(repository) => repository,
        }
    }

    /// The repository inside the transaction that pushes to it.
    pub(crate) fn resolve(&self, tx: &Tx<'_>) -> Result<Repository, CoreError> {
        match self {
            Self::Existing(repository) => {
                repositories::by_uid(tx, &repository.uid)?.ok_or(CoreError::RepositoryNotFound)
            }
            Self::New(repository) => {
                if repositories::insert(tx, repository)? {
                    return Ok(repository.clone());
                }
                let faster = repositories::by_name(tx, &repository.name)?;
                // What was sealed for one key domain can be read in no other.
                let same = |found: &Repository| {
                    found.policy.is_none()
                        && found.resource_tags.is_empty()
                        && found.domain == repository.domain
                };
                faster.filter(same).ok_or(CoreError::RepositoryExists)
            }
        }
    }
}
