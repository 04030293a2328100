//! From tables to a directory.
//!
//! A policy that does not parse (the grammar may have become stricter since it was stored) may hold a
//! Deny that nobody reads any more: it is replaced by one that denies everything.

use std::collections::HashMap;
use std::sync::Arc;

use policies::{Named, Policy, PolicyKind, managed};
use registry_runtime::Sealer;
use registry_types::AccountId;

use super::{Directory, Entity, Key, Managed};
use crate::caller::{CallerKind, Principal};
use crate::error::IdentityError;
use crate::oidc::Provider;
use crate::session::Link;
use crate::store::keys;
use crate::store::load::{AccessKeyRow, RoleRow, Tables, TokenKeyRow, UserRow};
use crate::store::{Level, Owner};
use crate::tokens::{TokenKey, TokenKeys};

/// What a directory is built with.
pub(crate) struct Builder {
    pub(crate) account: AccountId,
    pub(crate) sealer: Arc<Sealer>,
    /// The directory of before.
    pub(crate) previous: Arc<Directory>,
}

const DENY_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
const TRUST_NOBODY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"*"}]}"#;

/// The policies of every principal, by uid.
struct Grants {
    inline: HashMap<String, Vec<(String, String)>>,
    attached: HashMap<String, Vec<String>>,
}

impl Builder {
    pub(crate) fn build(&self, tables: Tables) -> Result<Directory, IdentityError> {
        let mut directory = Directory {
            security_generation: tables.security_generation,
            file_generation: tables.file_generation,
            revoked_sessions: tables.revoked_sessions.into_iter().map(Into::into).collect(),
            ..Directory::default()
        };
        for policy in managed::all() {
            directory.managed.insert(policy.arn.into(), Managed::new(policy.document));
        }
        for (arn, document) in tables.managed {
            directory.managed.insert(arn.into(), Managed::new(&document));
        }
        let mut grants = Grants { inline: HashMap::new(), attached: HashMap::new() };
        for (uid, name, document) in tables.inline {
            grants.inline.entry(uid).or_default().push((name, document));
        }
        for (uid, arn) in tables.attachments {
            grants.attached.entry(uid).or_default().push(arn);
        }

        let groups: HashMap<&str, Vec<Named>> = tables
            .groups
            .iter()
            .map(|group| {
                (group.uid.as_str(), self.policies(&mut directory, &grants, &group.uid, &group.name))
            })
            .collect();
        let mut memberships: HashMap<String, Vec<Named>> = HashMap::new();
        for (user, group) in &tables.memberships {
            if let Some(policies) = groups.get(group.as_str()) {
                memberships.entry(user.clone()).or_default().extend(policies.iter().cloned());
            }
        }

        for user in tables.users {
            let mut policies = self.policies(&mut directory, &grants, &user.uid, &user.name);
            policies.extend(memberships.remove(&user.uid).unwrap_or_default());
            let key = user.key.clone();
            let entity = Arc::new(self.user(&mut directory, user, policies));
            directory.users.insert(key, Arc::clone(&entity));
            directory.entities.insert(Arc::clone(&entity.uid), entity);
        }
        for role in tables.roles {
            let policies = self.policies(&mut directory, &grants, &role.uid, &role.name);
            let key = role.key.clone();
            let entity = Arc::new(self.role(&mut directory, role, policies));
            directory.roles.insert(key, Arc::clone(&entity));
            directory.entities.insert(Arc::clone(&entity.uid), entity);
        }
        for (resource, name, document) in tables.resource {
            if let Ok(level) = resource.parse::<Level>() {
                let policy = self.compile(&mut directory, level.kind, document.into(), &name);
                directory.levels.add(level, Named { name: name.into(), policy });
                continue;
            }
            let policy = self.compile(&mut directory, PolicyKind::RepositoryPolicy, document.into(), &name);
            directory.resource.entry(resource.into()).or_default().push(Named { name: name.into(), policy });
        }
        for row in tables.providers {
            let provider = Provider {
                uid: row.uid.into(),
                generation: row.generation,
                arn: format!("arn:aws:iam::{}:oidc-provider/{}", self.account, row.name).into(),
                name: row.name.into(),
                client_ids: row.client_ids,
            };
            directory.provider_generations.insert(Arc::clone(&provider.uid), provider.generation);
            directory.providers.insert(provider.url().into(), Arc::new(provider));
        }
        for row in tables.access_keys {
            self.access_key(&mut directory, row);
        }
        self.token_keys(&mut directory, tables.token_keys)?;
        Ok(directory)
    }

    fn policies(&self, into: &mut Directory, grants: &Grants, uid: &str, name: &str) -> Vec<Named> {
        let mut policies = Vec::new();
        for arn in grants.attached.get(uid).into_iter().flatten() {
            policies.extend(self.managed(into, PolicyKind::Identity, arn));
        }
        for (policy_name, document) in grants.inline.get(uid).into_iter().flatten() {
            let name = format!("{name}/{policy_name}");
            let policy = self.compile(into, PolicyKind::Identity, document.as_str().into(), &name);
            policies.push(Named { name: name.into(), policy });
        }
        policies
    }

    fn managed(&self, into: &mut Directory, kind: PolicyKind, arn: &str) -> Option<Named> {
        let (name, managed) = into.managed.get_key_value(arn)?;
        let (name, document) = (Arc::clone(name), Arc::clone(&managed.document));
        let policy = self.compile(into, kind, document, arn);
        Some(Named { name, policy })
    }

    /// A boundary whose policy is gone bounds to nothing.
    fn boundary(&self, into: &mut Directory, arn: Option<&str>) -> Option<Named> {
        let arn = arn?;
        let bound = self.managed(into, PolicyKind::Boundary, arn);
        Some(bound.unwrap_or_else(|| Named {
            name: arn.into(),
            policy: self.compile(into, PolicyKind::Boundary, DENY_ALL.into(), arn),
        }))
    }

    /// Parses a document, unless the directory of before has it already.
    fn compile(&self, into: &mut Directory, kind: PolicyKind, text: Arc<str>, name: &str) -> Arc<Policy> {
        let key = (kind, text);
        if let Some(policy) = into.compiled.get(&key).or_else(|| self.previous.compiled.get(&key)) {
            let policy = Arc::clone(policy);
            into.compiled.insert(key, Arc::clone(&policy));
            return policy;
        }
        let policy = Policy::parse(&key.1, kind).unwrap_or_else(|findings| {
            let finding = findings.first().map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                policy.name = name,
                finding,
                "a stored policy does not parse: it denies everything"
            );
            let substitute = match kind {
                PolicyKind::Trust
                | PolicyKind::RepositoryPolicy
                | PolicyKind::RegistryPolicy
                | PolicyKind::ResourcePolicy => TRUST_NOBODY,
                PolicyKind::Identity
                | PolicyKind::Session
                | PolicyKind::Boundary
                | PolicyKind::ServiceControl
                | PolicyKind::ResourceControl => DENY_ALL,
            };
            Policy::parse(substitute, kind).expect("the substitutes are well formed")
        });
        let policy = Arc::new(policy);
        into.compiled.insert(key, Arc::clone(&policy));
        policy
    }

    fn user(&self, into: &mut Directory, row: UserRow, policies: Vec<Named>) -> Entity {
        let account = self.account_of(&row.key);
        Entity {
            kind: CallerKind::User,
            arn: format!("arn:aws:iam::{account}:user{}{}", row.path, row.name).into(),
            account,
            uid: row.uid.into(),
            name: row.name.into(),
            of_host: row.owner == Owner::Berth.as_str(),
            generation: row.generation,
            tags: tags(&row.tags),
            policies,
            boundary: self.boundary(into, row.boundary.as_deref()),
            trust: None,
            max_session_s: 0,
            use_log: Arc::default(),
        }
    }

    fn role(&self, into: &mut Directory, row: RoleRow, policies: Vec<Named>) -> Entity {
        let account = self.account_of(&row.key);
        let trust = self.compile(into, PolicyKind::Trust, row.trust_policy.as_str().into(), &row.name);
        let known = self.previous.entities.get(row.uid.as_str());
        let use_log = known.map(|role| Arc::clone(&role.use_log)).unwrap_or_default();
        Entity {
            kind: CallerKind::RoleSession,
            arn: format!("arn:aws:iam::{account}:role{}{}", row.path, row.name).into(),
            account,
            uid: row.uid.into(),
            name: row.name.into(),
            of_host: false,
            generation: row.generation,
            tags: tags(&row.tags),
            policies,
            boundary: self.boundary(into, row.boundary.as_deref()),
            trust: Some(trust),
            max_session_s: row.max_session_s,
            use_log,
        }
    }

    /// The account that a key of a name tells, or the one that owns everything here.
    fn account_of(&self, key: &str) -> AccountId {
        let foreign = key.split_once('/').and_then(|(account, _)| account.parse().ok());
        foreign.unwrap_or_else(|| self.account.clone())
    }

    fn access_key(&self, into: &mut Directory, row: AccessKeyRow) {
        let Some(user) = into.entities.get(row.user_uid.as_str()).cloned() else { return };
        let known = self.previous.keys.get(row.access_key_id.as_str());
        let secret = match known.filter(|key| key.row_version == row.row_version) {
            Some(key) => key.secret.clone(),
            None => {
                let version = row.row_version.to_be_bytes();
                let aad = keys::aad(&row.access_key_id, &row.user_uid, &version);
                let opened = self.sealer.open(keys::SECRET_COLUMN, &aad, &row.secret).ok();
                let Some(secret) = opened.and_then(|secret| secret.to_secret_string()) else {
                    // One damaged row must not keep everybody else from being decided about.
                    tracing::error!(
                        access_key.id = row.access_key_id,
                        "the secret of an access key does not open: the key works nowhere"
                    );
                    return;
                };
                secret
            }
        };
        let access_key_id: Arc<str> = row.access_key_id.into();
        let principal = Arc::new(Principal {
            kind: CallerKind::User,
            account: user.account.clone(),
            arn: Arc::clone(&user.arn),
            user_id: Arc::clone(&user.uid),
            uid: Arc::clone(&user.uid),
            name: Arc::clone(&user.name),
            of_host: user.of_host,
            access_key_id: Some(Arc::clone(&access_key_id)),
            chain: vec![
                Link::Key(Arc::clone(&access_key_id), row.generation),
                Link::User(Arc::clone(&user.uid), user.generation),
            ],
            session: None,
        });
        let use_log = known.map(|key| Arc::clone(&key.use_log)).unwrap_or_default();
        let key = Key {
            use_log,
            secret,
            active: row.active,
            generation: row.generation,
            row_version: row.row_version,
            principal,
        };
        into.keys.insert(access_key_id, Arc::new(key));
    }

    fn token_keys(&self, into: &mut Directory, rows: Vec<TokenKeyRow>) -> Result<(), IdentityError> {
        for row in rows {
            let key = match self.previous.token_key_ids.get(&row.id) {
                Some(key) => Arc::clone(key),
                None => {
                    let opened =
                        self.sealer.open(keys::TOKEN_KEY_COLUMN, &[&row.id.to_be_bytes()], &row.secret);
                    let secret = opened.map_err(|_| IdentityError::Sealed("a token key"))?;
                    let id = u32::try_from(row.id).map_err(|_| IdentityError::Sealed("a token key"))?;
                    Arc::new(TokenKey::new(id, row.created_ms, &secret))
                }
            };
            into.token_key_ids.insert(row.id, key);
        }
        into.token_keys = TokenKeys::new(into.token_key_ids.values().cloned().collect());
        Ok(())
    }
}

fn tags(text: &str) -> Vec<(String, String)> {
    let tags: HashMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    let mut tags: Vec<_> = tags.into_iter().collect();
    tags.sort();
    tags
}
