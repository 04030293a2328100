//! The compiled snapshot that requests are decided with: principals, keys, policies, token keys.
//!
//! Built from the tables in one go and never changed afterwards; a newer one replaces it whole. What has
//! not changed since the last one (compiled policies, opened secrets) is shared with it.

mod build;
mod levels;
mod refresh;
mod usage;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use policies::{Named, Policy, PolicyKind};
use registry_runtime::SecretString;
use registry_types::AccountId;

use crate::caller::{CallerKind, Principal};
use crate::oidc::Provider;
use crate::session::Link;
use crate::tokens::TokenKeys;

pub(crate) use build::Builder;
use levels::Levels;
pub(crate) use refresh::{FRESH_FOR, milliseconds, spawn as spawn_refresher};
pub(crate) use usage::ROLE as ROLE_USE;
use usage::UseLog;

/// One generation of everything that decides.
#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) security_generation: i64,
    pub(crate) file_generation: i64,
    /// Users and roles by uid.
    entities: HashMap<Arc<str>, Arc<Entity>>,
    /// By folded name, of other accounts by account and name.
    users: HashMap<String, Arc<Entity>>,
    roles: HashMap<String, Arc<Entity>>,
    keys: HashMap<Arc<str>, Arc<Key>>,
    managed: HashMap<Arc<str>, Managed>,
    /// Policies of files, by the ARN of their resource.
    resource: HashMap<Box<str>, Vec<Named>>,
    pub(crate) levels: Levels,
    /// OIDC providers by the URL of their issuer.
    providers: HashMap<Box<str>, Arc<Provider>>,
    /// The generation of each, by its uid.
    provider_generations: HashMap<Arc<str>, i64>,
    revoked_sessions: HashSet<Box<str>>,
    pub(crate) token_keys: TokenKeys,
    token_key_ids: HashMap<i64, Arc<crate::tokens::TokenKey>>,
    compiled: HashMap<(PolicyKind, Arc<str>), Arc<Policy>>,
}

/// A managed policy that may be attached.
struct Managed {
    document: Arc<str>,
    /// Compiled as a session policy when first used as one; None when it cannot be one.
    session: OnceLock<Option<Arc<Policy>>>,
}

/// A user or a role.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) kind: CallerKind,
    pub(crate) account: AccountId,
    pub(crate) uid: Arc<str>,
    pub(crate) name: Arc<str>,
    /// Whether Berth made this user for a host.
    pub(crate) of_host: bool,
    pub(crate) arn: Arc<str>,
    pub(crate) generation: i64,
    pub(crate) tags: Vec<(String, String)>,
    /// Its own policies and those of its groups.
    pub(crate) policies: Vec<Named>,
    pub(crate) boundary: Option<Named>,
    /// Of a role.
    pub(crate) trust: Option<Arc<Policy>>,
    pub(crate) max_session_s: i64,
    /// Of a role's sessions.
    pub(crate) use_log: Arc<UseLog>,
}

/// A long-lived access key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) secret: SecretString,
    pub(crate) active: bool,
    pub(crate) generation: i64,
    row_version: i64,
    /// Who signs with it.
    pub(crate) principal: Arc<Principal>,
    pub(crate) use_log: Arc<UseLog>,
}

impl Managed {
    fn new(document: &str) -> Self {
        Self { document: document.into(), session: OnceLock::new() }
    }
}

impl Directory {
    pub(crate) fn key(&self, access_key_id: &str) -> Option<&Arc<Key>> {
        self.keys.get(access_key_id)
    }

    pub(crate) fn entity(&self, kind: CallerKind, uid: &str) -> Option<&Arc<Entity>> {
        self.entities.get(uid).filter(|entity| entity.kind == kind)
    }

    /// A role by its whole ARN, path included.
    pub(crate) fn role_by_arn(&self, arn: &str) -> Option<&Arc<Entity>> {
        let name = arn.rsplit('/').next()?.to_lowercase();
        let account = arn.split(':').nth(4)?;
        let found = self.roles.get(&name).filter(|role| role.account.as_str() == account);
        let found = found.or_else(|| self.roles.get(&format!("{account}/{name}")));
        found.filter(|role| &*role.arn == arn)
    }

    pub(crate) fn user_by_name(&self, name: &str) -> Option<&Arc<Entity>> {
        self.users.get(&name.to_lowercase())
    }

    pub(crate) fn role_by_name(&self, name: &str) -> Option<&Arc<Entity>> {
        self.roles.get(&name.to_lowercase())
    }

    /// Whether everything that a credential depends on is as it was.
    pub(crate) fn holds(&self, chain: &[Link]) -> bool {
        chain.iter().all(|link| match link {
            Link::Key(id, generation) => {
                self.keys.get(id).is_some_and(|key| key.active && key.generation == *generation)
            }
            Link::User(uid, generation) => {
                self.entity(CallerKind::User, uid).is_some_and(|user| user.generation == *generation)
            }
            Link::Role(uid, generation) => {
                self.entity(CallerKind::RoleSession, uid).is_some_and(|role| role.generation == *generation)
            }
            Link::Provider(uid, generation) => self.provider_generations.get(uid) == Some(generation),
            Link::Session(uid) => !self.revoked_sessions.contains(&**uid),
            // For the scheduler to say: see `Identity::holds`.
            Link::Task(_) => true,
        })
    }

    /// The OIDC provider of an issuer.
    pub(crate) fn provider(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.providers.get(issuer)
    }

    pub(crate) fn has_provider(&self, uid: &str) -> bool {
        self.provider_generations.contains_key(uid)
    }

    /// The policies that files give to a resource.
    pub(crate) fn resource_policies(&self, arn: &str) -> &[Named] {
        self.resource.get(arn).map_or(&[], Vec::as_slice)
    }

    /// A managed policy as a session policy; None when there is none of that ARN.
    pub(crate) fn managed_for_session(&self, arn: &str) -> Option<Named> {
        let (name, managed) = self.managed.get_key_value(arn)?;
        let parse = || Policy::parse(&managed.document, PolicyKind::Session).ok().map(Arc::new);
        let policy = managed.session.get_or_init(parse).clone()?;
        Some(Named { name: Arc::clone(name), policy })
    }

    /// Whether a managed policy of this ARN exists.
    pub(crate) fn has_managed(&self, arn: &str) -> bool {
        self.managed.contains_key(arn)
    }
}
