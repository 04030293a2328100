//! What the gate is asked about repositories, the same for both protocols: a `docker push` and a `PutImage`
//! are one question, about one ARN, with the repository's own policy and tags.
//!
//! Compiled repository policies are kept by incarnation and version, so that a changed policy is in force
//! with the next request and a re-created repository never meets its predecessor's.

use std::sync::Arc;

use parking_lot::RwLock;
use policies::{Policy, PolicyKind};
use policies_identity::Check;
use quick_cache::sync::Cache;
use registry_core::{CoreError, Registry, Repository, RepositoryPolicy, RepositoryUid};
use registry_types::{AccountId, Arn, Region, RepositoryName};

/// Compiled policies that are kept, each of at most 10,240 characters of source.
const COMPILED: usize = 1024;

/// A policy that was stored and can no longer be read denies everything but its own replacement.
const UNREADABLE: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"UnreadableRepositoryPolicy","Effect":"Deny",
    "Principal":"*","NotAction":["ecr:SetRepositoryPolicy","ecr:GetRepositoryPolicy","ecr:DeleteRepositoryPolicy"]}]}"#;

const UNREADABLE_REGISTRY_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"UnreadableRegistryPolicy",
    "Effect":"Deny","Principal":"*","Resource":"*",
    "NotAction":["ecr:PutRegistryPolicy","ecr:GetRegistryPolicy","ecr:DeleteRegistryPolicy"]}]}"#;

/// Makes the checks that repositories need.
pub struct Access {
    account: AccountId,
    region: Region,
    compiled: Cache<(RepositoryUid, i64), Arc<Policy>>,
    /// The registry policy with its version, as it was read last.
    registry_policy: RwLock<Option<(i64, Arc<Policy>)>>,
}

impl Access {
    pub fn new(account: AccountId, region: Region) -> Self {
        Self { account, region, compiled: Cache::new(COMPILED), registry_policy: RwLock::default() }
    }

    pub fn account(&self) -> &AccountId {
        &self.account
    }

    pub fn region(&self) -> &Region {
        &self.region
    }

    /// `arn:aws:ecr:REGION:ACCOUNT:repository/NAME`, whether or not there is such a repository.
    pub fn repository_arn(&self, name: &RepositoryName) -> Arn {
        Arn::new("ecr", &self.region, &self.account, &format!("repository/{name}"))
    }

    /// The ARN that stands for all repositories, for listings.
    pub fn every_repository(&self) -> Arn {
        Arn::new("ecr", &self.region, &self.account, "repository/*")
    }

    /// The check of an action on a repository; `repository` is `None` where there is none of that name.
    pub fn check(
        &self,
        action: &'static str,
        name: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Check {
        let registry_policy = self.registry_policy.read().as_ref().map(|(_, policy)| Arc::clone(policy));
        let mut check = Check::on(action, self.repository_arn(name)).with_registry_policy(registry_policy);
        let Some(repository) = repository else { return check };
        for (key, value) in &repository.resource_tags {
            check = check.with(format!("aws:ResourceTag/{key}"), value);
            check = check.with(format!("ecr:ResourceTag/{key}"), value);
        }
        let policy = repository.policy.as_ref().map(|policy| self.compiled(&repository.uid, policy));
        check.with_resource_policy(policy)
    }

    /// Reads the registry policy again. Done at the start, after every change through this server, and twice a
    /// second, so that a change through another server acts within a second.
    ///
    /// # Errors
    /// When it cannot be read; the policy that is known stays in force.
    pub async fn refresh(&self, registry: &Registry) -> Result<(), CoreError> {
        let Some(stored) = registry.registry_policy().await? else {
            *self.registry_policy.write() = None;
            return Ok(());
        };
        if self.registry_policy.read().as_ref().is_some_and(|(version, _)| *version == stored.version) {
            return Ok(());
        }
        let policy = Policy::parse(&stored.text, PolicyKind::RegistryPolicy).unwrap_or_else(|findings| {
            tracing::error!(findings = ?findings, "the stored registry policy cannot be read");
            Policy::parse(UNREADABLE_REGISTRY_POLICY, PolicyKind::RegistryPolicy)
                .expect("the fallback is a valid policy")
        });
        *self.registry_policy.write() = Some((stored.version, Arc::new(policy)));
        Ok(())
    }

    fn compiled(&self, uid: &RepositoryUid, policy: &RepositoryPolicy) -> Arc<Policy> {
        let key = (uid.clone(), policy.version);
        if let Some(compiled) = self.compiled.get(&key) {
            return compiled;
        }
        let compiled = Policy::parse(&policy.text, PolicyKind::RepositoryPolicy).unwrap_or_else(|findings| {
            tracing::error!(repository.uid = %uid, findings = ?findings, "a stored repository policy cannot be read");
            Policy::parse(UNREADABLE, PolicyKind::RepositoryPolicy).expect("the fallback is a valid policy")
        });
        let compiled = Arc::new(compiled);
        self.compiled.insert(key, Arc::clone(&compiled));
        compiled
    }
}
