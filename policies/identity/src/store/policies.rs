//! Managed policies, inline policies, attachments, and the resource policies that files own.

use registry_sql::{Error, Tx, params};
use registry_types::AccountId;

use super::{Owner, principals};

/// A managed policy to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewManagedPolicy {
    pub(crate) arn: String,
    /// `ANPA…`
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) document: String,
    pub(crate) owner: Owner,
    /// The other account it belongs to; none for the one that owns everything here.
    pub(crate) foreign: Option<AccountId>,
}

pub(crate) fn insert_managed(tx: &Tx<'_>, policy: &NewManagedPolicy, now_ms: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_managed_policies \
         (arn, uid, name, name_key, path, document, created_ms, updated_ms, owner) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
        params![
            policy.arn.as_str(),
            policy.uid.as_str(),
            policy.name.as_str(),
            principals::name_key_in(policy.foreign.as_ref(), &policy.name),
            policy.path.as_str(),
            policy.document.as_str(),
            now_ms,
            policy.owner.as_str()
        ],
    )?;
    Ok(())
}

pub(crate) fn attach(tx: &Tx<'_>, principal_uid: &str, policy_arn: &str, owner: Owner) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_attachments (principal_uid, policy_arn, owner) VALUES ($1, $2, $3) \
         ON CONFLICT (principal_uid, policy_arn) DO NOTHING",
        params![principal_uid, policy_arn, owner.as_str()],
    )?;
    Ok(())
}

/// Detaches a policy. False when it was not attached.
pub(crate) fn detach(tx: &Tx<'_>, principal_uid: &str, policy_arn: &str) -> Result<bool, Error> {
    let changed = tx.execute(
        "DELETE FROM identity_attachments WHERE principal_uid = $1 AND policy_arn = $2",
        params![principal_uid, policy_arn],
    )?;
    Ok(changed > 0)
}

pub(crate) fn put_inline(
    tx: &Tx<'_>,
    principal_uid: &str,
    name: &str,
    document: &str,
    owner: Owner,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_inline_policies (principal_uid, name, document, owner) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (principal_uid, name) DO UPDATE SET document = excluded.document, owner = excluded.owner",
        params![principal_uid, name, document, owner.as_str()],
    )?;
    Ok(())
}

/// Adds a policy of files to a resource, named by its whole ARN.
pub(crate) fn insert_resource_policy(
    tx: &Tx<'_>,
    resource: &str,
    name: &str,
    document: &str,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_resource_policies (resource, name, document) VALUES ($1, $2, $3)",
        params![resource, name, document],
    )?;
    Ok(())
}
