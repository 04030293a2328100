//! The first start: one transaction makes the account, its administrator, and the roles that ECS files expect.
//!
//! Among several servers one wins, and the others find the account. The bootstrap key counts only then; a
//! later, different value changes nothing.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use registry_runtime::Sealer;
use registry_sql::{Database, Tx};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::config::{BootstrapKey, IdentityConfig};
use crate::credentials::AccessKey;
use crate::error::IdentityError;
use crate::store::keys::{self, NewAccessKey};
use crate::store::principals::{NewRole, NewUser};
use crate::store::{self, Owner};
use crate::unique_id;

mod credentials_file;
mod reset;

#[cfg(test)]
mod tests;

/// What the start found.
#[derive(Clone, Debug)]
pub enum Bootstrap {
    /// The first start: the administrator's key, as configured or made at random.
    Created { key: AccessKey, generated: bool },
    /// A later start.
    Existing {
        /// A bootstrap key is configured, and it is not the one of the first start: it was ignored.
        ignored_bootstrap_key: bool,
    },
}

const ADMINISTRATOR: &str = "administrator";
const ADMINISTRATOR_ACCESS: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const TASK_EXECUTION: &str = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy";
pub(crate) const HOST_AGENT: &str = "arn:aws:iam::aws:policy/BerthHostAgent";

pub(crate) async fn run(
    database: &Database,
    sealer: &Arc<Sealer>,
    config: &IdentityConfig,
    now_ms: i64,
) -> Result<Bootstrap, IdentityError> {
    if let Some(key) = &config.bootstrap {
        key.check()?;
    }
    if let Some(account) = database.point(|tx| store::account::get(tx)).await? {
        credentials_file::settle(config, |key| is_of_account(&account, sealer, key))?;
        return existing(&account, sealer, config);
    }
    let generated = config.bootstrap.is_none();
    let key = match &config.bootstrap {
        Some(key) => AccessKey {
            access_key_id: key.access_key_id.clone(),
            secret_access_key: key.secret_access_key.clone(),
        },
        None => AccessKey {
            access_key_id: unique_id::access_key_id(),
            secret_access_key: unique_id::secret_access_key(),
        },
    };
    // Before the commit: a key that exists and is written nowhere would lock everybody out.
    credentials_file::prepare(config, &key)?;
    let plan = Plan::new(config, sealer, &key, now_ms);
    let (created, account) = database
        .write(move |tx| {
            let created = plan.carry_out(tx)?;
            let account = store::account::get(tx)?.ok_or(registry_sql::Error::NotOneRow { found: 0 })?;
            Ok::<_, registry_sql::Error>((created, account))
        })
        .await?;
    credentials_file::settle(config, |key| is_of_account(&account, sealer, key))?;
    if created { Ok(Bootstrap::Created { key, generated }) } else { existing(&account, sealer, config) }
}

fn existing(
    account: &store::account::Account,
    sealer: &Sealer,
    config: &IdentityConfig,
) -> Result<Bootstrap, IdentityError> {
    if account.account_id != config.account_id.as_str() {
        return Err(IdentityError::AnotherAccount {
            stored: account.account_id.clone(),
            configured: config.account_id.to_string(),
        });
    }
    let ignored_bootstrap_key = config.bootstrap.as_ref().is_some_and(|key| {
        let key = AccessKey {
            access_key_id: key.access_key_id.clone(),
            secret_access_key: key.secret_access_key.clone(),
        };
        !is_of_account(account, sealer, &key)
    });
    if ignored_bootstrap_key {
        tracing::warn!(
            "the bootstrap access key differs from that of the first start and is ignored; \
             `berth admin reset` makes a new one"
        );
    }
    Ok(Bootstrap::Existing { ignored_bootstrap_key })
}

/// Whether this is the key that the account was made with.
fn is_of_account(account: &store::account::Account, sealer: &Sealer, key: &AccessKey) -> bool {
    mark(sealer, key).as_slice().ct_eq(&account.bootstrap_mark).into()
}

impl BootstrapKey {
    /// # Errors
    /// Says what is wrong with it, whether it is needed or not.
    pub fn check(&self) -> Result<(), IdentityError> {
        let id = self.access_key_id.as_bytes();
        let id_is_good = (16..=128).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !id_is_good {
            return Err(IdentityError::BootstrapKey(
                "the bootstrap access key id must be 16 to 128 of A-Z and 0-9",
            ));
        }
        if self.secret_access_key.expose().chars().count() < 32 {
            return Err(IdentityError::BootstrapKey(
                "the bootstrap secret access key must have 32 characters or more",
            ));
        }
        Ok(())
    }
}

/// A keyed hash of a bootstrap key: tells a different one without keeping the secret in clear.
fn mark(sealer: &Sealer, key: &AccessKey) -> Vec<u8> {
    let mac_key = sealer.derive("identity: mark of the bootstrap key");
    let mut mac = Hmac::<Sha256>::new_from_slice(mac_key.expose()).expect("HMAC takes any key");
    mac.update(key.access_key_id.as_bytes());
    mac.update(&[0]);
    mac.update(key.secret_access_key.expose().as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Everything the first transaction writes, made before it, so that it can run again.
struct Plan {
    account_id: String,
    mark: Vec<u8>,
    administrator: NewUser,
    key: NewAccessKey,
    roles: Vec<(NewRole, &'static str)>,
    now_ms: i64,
}

impl Plan {
    fn new(config: &IdentityConfig, sealer: &Sealer, key: &AccessKey, now_ms: i64) -> Self {
        let administrator = administrator();
        let role = |name: &str, description: &str, service: &str| NewRole {
            uid: unique_id::role(),
            name: name.to_owned(),
            path: "/".to_owned(),
            description: description.to_owned(),
            trust_policy: service_trust(service),
            max_session_s: 3600,
            boundary: None,
            tags: Vec::new(),
            owner: Owner::Api,
            foreign: None,
        };
        Self {
            account_id: config.account_id.to_string(),
            mark: mark(sealer, key),
            key: seal_key(sealer, key, &administrator.uid, Owner::Api),
            administrator,
            roles: vec![
                (
                    role(
                        "ecsTaskExecutionRole",
                        "Pulls the images of tasks and sends their logs",
                        "ecs-tasks.amazonaws.com",
                    ),
                    TASK_EXECUTION,
                ),
                (
                    role("ecsInstanceRole", "Lets a host take part in a cluster", "ec2.amazonaws.com"),
                    HOST_AGENT,
                ),
            ],
            now_ms,
        }
    }

    fn carry_out(&self, tx: &Tx<'_>) -> Result<bool, registry_sql::Error> {
        if !store::account::create(tx, &self.account_id, &self.mark, self.now_ms)? {
            return Ok(false);
        }
        store::principals::insert_user(tx, &self.administrator, self.now_ms)?;
        store::policies::attach(tx, &self.administrator.uid, ADMINISTRATOR_ACCESS, Owner::Api)?;
        store::keys::insert(tx, &self.key, self.now_ms)?;
        for (role, policy) in &self.roles {
            store::principals::insert_role(tx, role, self.now_ms)?;
            store::policies::attach(tx, &role.uid, policy, Owner::Api)?;
        }
        Ok(true)
    }
}

fn administrator() -> NewUser {
    NewUser {
        uid: unique_id::user(),
        name: ADMINISTRATOR.to_owned(),
        path: "/".to_owned(),
        boundary: None,
        tags: Vec::new(),
        owner: Owner::Api,
        foreign: None,
    }
}

fn service_trust(service: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"{service}"}},"Action":"sts:AssumeRole"}}]}}"#
    )
}

/// An access key as its row holds it.
pub(crate) fn seal_key(sealer: &Sealer, key: &AccessKey, user_uid: &str, owner: Owner) -> NewAccessKey {
    let version = keys::FIRST_VERSION.to_be_bytes();
    let aad = keys::aad(&key.access_key_id, user_uid, &version);
    NewAccessKey {
        access_key_id: key.access_key_id.clone(),
        user_uid: user_uid.to_owned(),
        secret: sealer.seal(keys::SECRET_COLUMN, &aad, key.secret_access_key.expose().as_bytes()),
        owner,
    }
}
