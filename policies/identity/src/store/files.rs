//! What policy files own in the tables, and the changes that make the tables say what the files say.
//!
//! Publishing reads everything first, compares, and then writes what differs, provided that nobody wrote
//! in between: whoever did raised the security generation.

use std::collections::HashMap;

use registry_sql::{Error, Tx, params};

use super::policies::NewManagedPolicy;
use super::principals::{self, NewGroup, NewRole, NewUser};
use super::providers::{self, ProviderRow};
use super::{Owner, keys, policies};

/// How many published sets are kept.
const KEPT_GENERATIONS: i64 = 20;

/// A user, group or role as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredPrincipal {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) owner: String,
    pub(crate) boundary: Option<String>,
    /// JSON object.
    pub(crate) tags: String,
    /// Of a role.
    pub(crate) description: String,
    pub(crate) trust_policy: String,
    pub(crate) max_session_s: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct StoredPolicy {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) document: String,
    pub(crate) owner: String,
}

#[derive(Debug, Clone)]
pub(crate) struct StoredKey {
    pub(crate) user_uid: String,
    pub(crate) active: bool,
    pub(crate) secret: Vec<u8>,
    pub(crate) row_version: i64,
    pub(crate) owner: String,
}

/// The tables at one security generation. Principals and policies by folded name.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) security_generation: i64,
    /// The newest published set: its number and the hash of its contents.
    pub(crate) newest: Option<(i64, String)>,
    pub(crate) users: HashMap<String, StoredPrincipal>,
    pub(crate) groups: HashMap<String, StoredPrincipal>,
    pub(crate) roles: HashMap<String, StoredPrincipal>,
    pub(crate) policies: HashMap<String, StoredPolicy>,
    pub(crate) keys: HashMap<String, StoredKey>,
    /// Of files: (user uid, group uid).
    pub(crate) memberships: Vec<(String, String)>,
    /// Of users that the API put into a group.
    pub(crate) other_memberships: Vec<(String, String)>,
    /// By (principal uid, name).
    pub(crate) inline: HashMap<(String, String), String>,
    /// (principal uid, policy ARN)
    pub(crate) attachments: Vec<(String, String)>,
    /// By resource ARN and name.
    pub(crate) resources: HashMap<(String, String), String>,
    /// OIDC providers by name.
    pub(crate) providers: HashMap<String, ProviderRow>,
}

/// One change to the tables.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    DeleteUser(String),
    DeleteGroup(String),
    DeleteRole(String),
    DeletePolicy(String),
    DeleteKey(String),
    InsertPolicy(NewManagedPolicy),
    UpdatePolicy {
        arn: String,
        document: String,
    },
    InsertUser(NewUser),
    InsertGroup(NewGroup),
    InsertRole(NewRole),
    UpdateUser(NewUser),
    UpdateGroup(NewGroup),
    /// True: the trust policy is another one, which ends what was made with the old.
    UpdateRole(NewRole, bool),
    InsertKey {
        key: keys::NewAccessKey,
        active: bool,
    },
    /// The row's next version, which the secret is sealed for.
    ReplaceSecret {
        access_key_id: String,
        secret: Vec<u8>,
        version: i64,
    },
    SetKeyActive {
        access_key_id: String,
        active: bool,
    },
    Join {
        user: String,
        group: String,
    },
    Leave {
        user: String,
        group: String,
    },
    PutInline {
        principal: String,
        name: String,
        document: String,
    },
    DeleteInline {
        principal: String,
        name: String,
    },
    Attach {
        principal: String,
        arn: String,
    },
    Detach {
        principal: String,
        arn: String,
    },
    PutResource {
        resource: String,
        name: String,
        document: String,
    },
    DeleteResource {
        resource: String,
        name: String,
    },
    PutProvider(ProviderRow),
    DeleteProvider(String),
}

/// A published set.
#[derive(Debug, Clone)]
pub(crate) struct NewGeneration {
    pub(crate) number: i64,
    pub(crate) published_by: String,
    pub(crate) content_sha256: String,
    /// The files: a JSON object of texts by name.
    pub(crate) texts: String,
}

pub(crate) fn load(tx: &Tx<'_>) -> Result<Stored, Error> {
    let newest = tx.query_optional(
        "SELECT generation, content_sha256 FROM identity_file_generations ORDER BY generation DESC LIMIT 1",
        &[],
    )?;
    let mut stored = Stored {
        security_generation: super::security_generation(tx)?,
        newest: newest.map(|row| Ok::<_, Error>((row.get(0)?, row.get(1)?))).transpose()?,
        ..Stored::default()
    };
    stored.users = principals(
        tx,
        "SELECT name_key, uid, name, path, owner, boundary, tags, '', '', 0 FROM identity_users",
    )?;
    stored.groups = principals(
        tx,
        "SELECT name_key, uid, name, path, owner, NULL, '{}', '', '', 0 FROM identity_groups",
    )?;
    stored.roles = principals(
        tx,
        "SELECT name_key, uid, name, path, owner, boundary, tags, description, trust_policy, max_session_s \
         FROM identity_roles",
    )?;
    for row in tx.query("SELECT name_key, arn, name, document, owner FROM identity_managed_policies", &[])? {
        let policy =
            StoredPolicy { arn: row.get(1)?, name: row.get(2)?, document: row.get(3)?, owner: row.get(4)? };
        stored.policies.insert(row.get(0)?, policy);
    }
    let sql = "SELECT access_key_id, user_uid, active, secret, row_version, owner FROM identity_access_keys";
    for row in tx.query(sql, &[])? {
        let key = StoredKey {
            user_uid: row.get(1)?,
            active: row.get(2)?,
            secret: row.get(3)?,
            row_version: row.get(4)?,
            owner: row.get(5)?,
        };
        stored.keys.insert(row.get(0)?, key);
    }
    for row in tx.query("SELECT user_uid, group_uid, owner FROM identity_memberships", &[])? {
        let of_files = Owner::parse(&row.get::<String>(2)?) == Owner::Files;
        let list = if of_files { &mut stored.memberships } else { &mut stored.other_memberships };
        list.push((row.get(0)?, row.get(1)?));
    }
    for row in tx.query("SELECT principal_uid, name, document FROM identity_inline_policies", &[])? {
        stored.inline.insert((row.get(0)?, row.get(1)?), row.get(2)?);
    }
    for row in tx.query("SELECT principal_uid, policy_arn FROM identity_attachments", &[])? {
        stored.attachments.push((row.get(0)?, row.get(1)?));
    }
    for row in tx.query("SELECT resource, name, document FROM identity_resource_policies", &[])? {
        stored.resources.insert((row.get(0)?, row.get(1)?), row.get(2)?);
    }
    stored.providers = providers::all(tx)?.into_iter().map(|row| (row.name.clone(), row)).collect();
    Ok(stored)
}

fn principals(tx: &Tx<'_>, sql: &'static str) -> Result<HashMap<String, StoredPrincipal>, Error> {
    let rows = tx.query(sql, &[])?;
    rows.iter()
        .map(|row| {
            let principal = StoredPrincipal {
                uid: row.get(1)?,
                name: row.get(2)?,
                path: row.get(3)?,
                owner: row.get(4)?,
                boundary: row.get(5)?,
                tags: row.get(6)?,
                description: row.get(7)?,
                trust_policy: row.get(8)?,
                max_session_s: row.get(9)?,
            };
            Ok((row.get(0)?, principal))
        })
        .collect()
}

/// The newest set of all and the newest of one publisher: number and hash of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) of_all: (i64, String),
    pub(crate) of_publisher: (i64, String),
}

/// None when this publisher has published none that is still kept.
pub(crate) fn newest(tx: &Tx<'_>, published_by: &str) -> Result<Option<Newest>, Error> {
    let of_all = tx.query_optional(
        "SELECT generation, content_sha256 FROM identity_file_generations ORDER BY generation DESC LIMIT 1",
        &[],
    )?;
    let of_publisher = tx.query_optional(
        "SELECT generation, content_sha256 FROM identity_file_generations WHERE published_by = $1 \
         ORDER BY generation DESC LIMIT 1",
        params![published_by],
    )?;
    let (Some(of_all), Some(of_publisher)) = (of_all, of_publisher) else { return Ok(None) };
    Ok(Some(Newest {
        of_all: (of_all.get(0)?, of_all.get(1)?),
        of_publisher: (of_publisher.get(0)?, of_publisher.get(1)?),
    }))
}

/// The texts of the newest published set.
pub(crate) fn newest_texts(tx: &Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
    let row = tx.query_optional(
        "SELECT files FROM identity_file_generations ORDER BY generation DESC LIMIT 1",
        &[],
    )?;
    row.map(|row| row.get(0)).transpose()
}

/// Makes the changes, if the tables are still as they were read. False: they are not, and nothing changed.
pub(crate) fn publish(
    tx: &Tx<'_>,
    read_at: i64,
    changes: &[Change],
    generation: &NewGeneration,
    now_ms: i64,
) -> Result<bool, Error> {
    if super::security_generation(tx)? != read_at {
        return Ok(false);
    }
    for change in changes {
        apply(tx, change, now_ms)?;
    }
    tx.execute(
        "INSERT INTO identity_file_generations (generation, published_ms, published_by, content_sha256, files) \
         VALUES ($1, $2, $3, $4, $5)",
        params![
            generation.number,
            now_ms,
            generation.published_by.as_str(),
            generation.content_sha256.as_str(),
            generation.texts.as_bytes()
        ],
    )?;
    tx.execute(
        "DELETE FROM identity_file_generations WHERE generation <= $1",
        params![generation.number - KEPT_GENERATIONS],
    )?;
    super::bump(tx)?;
    Ok(true)
}

fn apply(tx: &Tx<'_>, change: &Change, now_ms: i64) -> Result<(), Error> {
    match change {
        Change::DeleteUser(uid) => principals::delete_user(tx, uid)?,
        Change::DeleteGroup(uid) => principals::delete_group(tx, uid)?,
        Change::DeleteRole(uid) => principals::delete_role(tx, uid)?,
        Change::DeletePolicy(arn) => {
            tx.execute("DELETE FROM identity_managed_policies WHERE arn = $1", params![arn.as_str()])?;
        }
        Change::DeleteKey(id) => {
            keys::delete(tx, id)?;
        }
        Change::InsertPolicy(policy) => policies::insert_managed(tx, policy, now_ms)?,
        Change::UpdatePolicy { arn, document } => {
            tx.execute(
                "UPDATE identity_managed_policies SET document = $2, updated_ms = $3 WHERE arn = $1",
                params![arn.as_str(), document.as_str(), now_ms],
            )?;
        }
        Change::InsertUser(user) => principals::insert_user(tx, user, now_ms)?,
        Change::InsertGroup(group) => principals::insert_group(tx, group, now_ms)?,
        Change::InsertRole(role) => principals::insert_role(tx, role, now_ms)?,
        Change::UpdateUser(user) => update_user(tx, user)?,
        Change::UpdateGroup(group) => {
            tx.execute(
                "UPDATE identity_groups SET name = $2, path = $3 WHERE uid = $1",
                params![group.uid.as_str(), group.name.as_str(), group.path.as_str()],
            )?;
        }
        Change::UpdateRole(role, trust_changed) => update_role(tx, role, *trust_changed)?,
        Change::InsertKey { key, active } => insert_key(tx, key, *active, now_ms)?,
        Change::ReplaceSecret { access_key_id, secret, version } => {
            tx.execute(
                "UPDATE identity_access_keys SET secret = $2, row_version = $3, generation = generation + 1 \
                 WHERE access_key_id = $1",
                params![access_key_id.as_str(), secret.as_slice(), *version],
            )?;
        }
        Change::SetKeyActive { access_key_id, active } => {
            keys::set_active(tx, access_key_id, *active)?;
        }
        Change::Join { user, group } => principals::insert_membership(tx, user, group, Owner::Files)?,
        Change::Leave { user, group } => {
            tx.execute(
                "DELETE FROM identity_memberships WHERE user_uid = $1 AND group_uid = $2",
                params![user.as_str(), group.as_str()],
            )?;
        }
        Change::PutInline { principal, name, document } => {
            policies::put_inline(tx, principal, name, document, Owner::Files)?;
        }
        Change::DeleteInline { principal, name } => {
            tx.execute(
                "DELETE FROM identity_inline_policies WHERE principal_uid = $1 AND name = $2",
                params![principal.as_str(), name.as_str()],
            )?;
        }
        Change::Attach { principal, arn } => policies::attach(tx, principal, arn, Owner::Files)?,
        Change::Detach { principal, arn } => {
            policies::detach(tx, principal, arn)?;
        }
        Change::PutResource { resource, name, document } => {
            delete_resource(tx, resource, name)?;
            policies::insert_resource_policy(tx, resource, name, document)?;
        }
        Change::DeleteResource { resource, name } => delete_resource(tx, resource, name)?,
        Change::PutProvider(row) => {
            let created_ms = if row.created_ms == 0 { now_ms } else { row.created_ms };
            providers::put(tx, &ProviderRow { created_ms, ..row.clone() })?;
        }
        Change::DeleteProvider(name) => providers::delete(tx, name)?,
    }
    Ok(())
}

/// Sessions know their user or role by its ARN, which somebody else may have next: with another one they end.
fn update_user(tx: &Tx<'_>, user: &NewUser) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_users SET generation = generation + CASE WHEN name = $2 AND path = $3 THEN 0 ELSE 1 END, \
         name = $2, path = $3, boundary = $4, tags = $5 WHERE uid = $1",
        params![
            user.uid.as_str(),
            user.name.as_str(),
            user.path.as_str(),
            user.boundary.clone(),
            principals::tags_text(&user.tags)
        ],
    )?;
    Ok(())
}

fn update_role(tx: &Tx<'_>, role: &NewRole, trust_changed: bool) -> Result<(), Error> {
    tx.execute(
        "UPDATE identity_roles SET name = $2, path = $3, description = $4, trust_policy = $5, \
         max_session_s = $6, boundary = $7, tags = $8, \
         generation = generation + CASE WHEN name = $2 AND path = $3 THEN CAST($9 AS BIGINT) ELSE 1 END WHERE uid = $1",
        params![
            role.uid.as_str(),
            role.name.as_str(),
            role.path.as_str(),
            role.description.as_str(),
            role.trust_policy.as_str(),
            role.max_session_s,
            role.boundary.clone(),
            principals::tags_text(&role.tags),
            i64::from(trust_changed)
        ],
    )?;
    Ok(())
}

/// The id may have been used before, by a key that was deleted: the generation is one that none has had,
/// so that what was made with the old key stays dead.
fn insert_key(tx: &Tx<'_>, key: &keys::NewAccessKey, active: bool, now_ms: i64) -> Result<(), Error> {
    keys::insert(tx, key, now_ms)?;
    tx.execute(
        "UPDATE identity_access_keys SET active = $2, generation = $3 WHERE access_key_id = $1",
        params![key.access_key_id.as_str(), i64::from(active), now_ms],
    )?;
    Ok(())
}

fn delete_resource(tx: &Tx<'_>, resource: &str, name: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM identity_resource_policies WHERE resource = $1 AND name = $2",
        params![resource, name],
    )?;
    Ok(())
}
