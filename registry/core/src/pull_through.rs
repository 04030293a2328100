//! Repositories that are filled from other registries: the rules, and what came by them.
//!
//! Nothing here speaks to an upstream; whoever does pushes what it fetched like any other push.

use registry_metadata::pull_through::{self, RuleRow};
use registry_metadata::{Repository, Tx};
use registry_runtime::{Clock, Sealer, SecretString};
use registry_types::{Digest, Tag};
use serde::{Deserialize, Serialize};

use crate::error::CoreError;
use crate::registry::Registry;

pub use registry_metadata::pull_through::UpstreamTag;

/// Rules that one registry may have (ECR's limit).
const MOST_RULES: usize = 50;
const CREDENTIALS: &str = "pull_through_rules.sealed_credentials";

/// A rule: what is asked of repositories below a prefix is fetched from an upstream.
#[derive(Clone, Debug)]
pub struct PullThroughRule {
    /// Of repositories here; empty for all.
    pub prefix: String,
    /// `https://HOST[:PORT]`
    pub upstream_url: String,
    /// ECR's word for the kind of upstream.
    pub upstream_registry: Option<String>,
    /// Of repositories there; empty for none.
    pub upstream_prefix: String,
    pub credentials: Option<UpstreamCredentials>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

/// Who this registry is at an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamCredentials {
    pub username: String,
    pub password: SecretString,
}

/// What became of a rule that was to be made.
#[derive(Debug)]
pub enum NewRule {
    Made(PullThroughRule),
    /// The prefix has one already.
    Exists,
    /// There are as many as there may be.
    TooMany {
        limit: usize,
    },
}

#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    username: std::borrow::Cow<'a, str>,
    password: std::borrow::Cow<'a, str>,
}

impl Registry {
    /// What all times of this registry are read from.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Every rule, in the order of their prefixes.
    pub async fn pull_through_rules(&self) -> Result<Vec<PullThroughRule>, CoreError> {
        let rows = self.inner.metadata.read(|tx| Ok::<_, CoreError>(pull_through::all(tx)?)).await?;
        rows.into_iter().map(|row| opened(&self.inner.sealer, row)).collect()
    }

    /// Makes a rule; its times are set here.
    pub async fn create_pull_through_rule(&self, rule: PullThroughRule) -> Result<NewRule, CoreError> {
        let now_ms = self.now_ms();
        let rule = PullThroughRule { created_at_ms: now_ms, updated_at_ms: now_ms, ..rule };
        let row = RuleRow {
            prefix: rule.prefix.clone(),
            upstream_url: rule.upstream_url.clone(),
            upstream_registry: rule.upstream_registry.clone(),
            upstream_prefix: rule.upstream_prefix.clone(),
            sealed_credentials: rule
                .credentials
                .as_ref()
                .map(|credentials| sealed(&self.inner.sealer, &rule.prefix, credentials))
                .transpose()?,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        };
        self.inner
            .metadata
            .write(move |tx| {
                if pull_through::by_prefix(tx, &row.prefix)?.is_some() {
                    return Ok(NewRule::Exists);
                }
                if pull_through::all(tx)?.len() >= MOST_RULES {
                    return Ok(NewRule::TooMany { limit: MOST_RULES });
                }
                pull_through::insert(tx, &row)?;
                Ok(NewRule::Made(rule.clone()))
            })
            .await
    }

    /// Sets or removes the credentials of a rule, which is given back; `None` when there is none.
    pub async fn set_upstream_credentials(
        &self,
        prefix: &str,
        credentials: Option<UpstreamCredentials>,
    ) -> Result<Option<PullThroughRule>, CoreError> {
        let sealed = credentials.map(|one| sealed(&self.inner.sealer, prefix, &one)).transpose()?;
        let (prefix, now_ms) = (prefix.to_owned(), self.now_ms());
        let row = self.inner.metadata.write(move |tx| {
            pull_through::set_credentials(tx, &prefix, sealed.as_deref(), now_ms)?;
            Ok::<_, CoreError>(pull_through::by_prefix(tx, &prefix)?)
        });
        row.await?.map(|row| opened(&self.inner.sealer, row)).transpose()
    }

    /// Removes a rule, which is given back; what came by it stays.
    pub async fn delete_pull_through_rule(&self, prefix: &str) -> Result<Option<PullThroughRule>, CoreError> {
        let prefix = prefix.to_owned();
        let row = self.inner.metadata.write(move |tx| {
            let row = pull_through::by_prefix(tx, &prefix)?;
            pull_through::delete(tx, &prefix)?;
            Ok::<_, CoreError>(row)
        });
        row.await?.map(|row| opened(&self.inner.sealer, row)).transpose()
    }

    /// Where a tag points, and when it was last compared with its upstream.
    pub async fn upstream_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<UpstreamTag>, CoreError> {
        let (uid, tag) = (repository.uid.clone(), tag.clone());
        self.inner.metadata.point(move |tx| Ok(pull_through::tag(tx, &uid, &tag)?)).await
    }

    /// Notes that a tag is as its upstream has it, at `digest`.
    pub async fn note_upstream_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), CoreError> {
        let (uid, tag, digest, now_ms) = (repository.uid.clone(), tag.clone(), digest.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| Ok(pull_through::note_checked(tx, &uid, &tag, &digest, now_ms)?))
            .await
    }

    /// The size that a manifest of the repository states for content it names; `None` when none names it.
    pub async fn stated_size(
        &self,
        repository: &Repository,
        content: &Digest,
    ) -> Result<Option<u64>, CoreError> {
        let (uid, content) = (repository.uid.clone(), content.clone());
        self.inner.metadata.point(move |tx| Ok(pull_through::stated_size(tx, &uid, &content)?)).await
    }
}

/// Whether a tag is there that was pushed here.
pub(crate) fn is_own(tx: &Tx<'_>, repository: &Repository, tag: &Tag) -> Result<bool, CoreError> {
    let known = pull_through::tag(tx, &repository.uid, tag)?;
    Ok(known.is_some_and(|known| known.checked_at_ms.is_none()))
}

/// Notes within a push that a tag is as the upstream has it.
pub(crate) fn note_tag(
    tx: &Tx<'_>,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
    now_ms: i64,
) -> Result<(), CoreError> {
    Ok(pull_through::note_checked(tx, &repository.uid, tag, digest, now_ms)?)
}

/// Makes a tag the repository's own, which a push that leaves it where it is does too; false when it was already.
pub(crate) fn own_tag(tx: &Tx<'_>, repository: &Repository, tag: &Tag) -> Result<bool, CoreError> {
    Ok(pull_through::forget_checked(tx, &repository.uid, tag)?)
}

fn sealed(sealer: &Sealer, prefix: &str, credentials: &UpstreamCredentials) -> Result<Vec<u8>, CoreError> {
    let plain = Plain {
        username: credentials.username.as_str().into(),
        password: credentials.password.expose().into(),
    };
    let text = SecretString::new(
        serde_json::to_string(&plain).map_err(|error| CoreError::Internal(Box::new(error)))?,
    );
    Ok(sealer.seal(CREDENTIALS, &[prefix.as_bytes()], text.expose().as_bytes()))
}

fn opened(sealer: &Sealer, row: RuleRow) -> Result<PullThroughRule, CoreError> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| CoreError::Internal(error);
    let credentials = row.sealed_credentials.as_ref().map(|sealed| {
        let secret = sealer.open(CREDENTIALS, &[row.prefix.as_bytes()], sealed);
        let secret = secret.map_err(|error| internal(Box::new(error)))?;
        let plain: Plain<'_> =
            serde_json::from_slice(secret.expose()).map_err(|error| internal(Box::new(error)))?;
        let (username, password) = (plain.username.into_owned(), plain.password.into_owned());
        Ok::<_, CoreError>(UpstreamCredentials { username, password: SecretString::new(password) })
    });
    Ok(PullThroughRule {
        credentials: credentials.transpose()?,
        prefix: row.prefix,
        upstream_url: row.upstream_url,
        upstream_registry: row.upstream_registry,
        upstream_prefix: row.upstream_prefix,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
    })
}
