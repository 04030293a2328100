//! Access keys of users: two each, the secret shown once.

use registry_aws::timestamp::iso8601;
use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::{Call, find, find_own};
use super::error::IamError;
use super::operation::operations;
use super::reports::last_use;
use crate::first_start::seal_key;
use crate::store::Owner;
use crate::store::entities::{self, Entity, EntityKind};
use crate::store::keys::{self, AccessKeyRow};

const MOST_KEYS: usize = 2;

operations! {
    Change "CreateAccessKey" on UserOrSelf [] => create_access_key;
    Read "ListAccessKeys" on UserOrSelf [] => list_access_keys;
    Change "UpdateAccessKey" on UserOrSelf [] => update_access_key;
    Change "DeleteAccessKey" on UserOrSelf [] => delete_access_key;
    Read "GetAccessKeyLastUsed" on KeyOwner [] => get_access_key_last_used;
}

fn create_access_key(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let user = find_own(tx, EntityKind::User, call.user_name()?)?;
    if keys::of_user(tx, &user.uid)?.len() >= MOST_KEYS {
        return Err(IamError::quota("AccessKeysPerUser", MOST_KEYS));
    }
    let row = seal_key(&call.sealer, &call.fresh_key, &user.uid, Owner::Api);
    keys::insert(tx, &row, call.now_ms)?;
    Ok(json!({ "AccessKey": {
        "UserName": user.name,
        "AccessKeyId": row.access_key_id,
        "Status": "Active",
        "SecretAccessKey": call.fresh_key.secret_access_key.expose(),
        "CreateDate": iso8601(call.now_ms),
    }}))
}

fn list_access_keys(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let user = find(tx, EntityKind::User, call.user_name()?)?;
    let keys = call.input.page()?.of_all(keys::of_user(tx, &user.uid)?, |key| &key.access_key_id);
    Ok(keys.answer("AccessKeyMetadata", |key| {
        json!({
            "UserName": user.name,
            "AccessKeyId": key.access_key_id,
            "Status": if key.active { "Active" } else { "Inactive" },
            "CreateDate": iso8601(key.created_ms),
        })
    }))
}

/// What was made with a key before it is disabled stays dead when it is enabled again.
fn update_access_key(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let key = own_key(call, tx)?;
    let status = call.input.one_of("Status", &["Active", "Inactive"])?;
    let active = match status {
        Some(status) => status == "Active",
        None => call.input.required("Status")? == "Active",
    };
    if active != key.active {
        keys::set_active(tx, &key.access_key_id, active)?;
    }
    Ok(Value::Null)
}

fn delete_access_key(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let key = own_key(call, tx)?;
    keys::delete(tx, &key.access_key_id)?;
    Ok(Value::Null)
}

fn get_access_key_last_used(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let id = call.input.required("AccessKeyId")?;
    let Some(owner) = entities::of_key(tx, id)? else { return Err(missing(id)) };
    let latest = last_use(call, tx, id)?;
    let last_used = match latest {
        Some((at_ms, service)) => json!({
            "LastUsedDate": iso8601(at_ms),
            "ServiceName": service,
            "Region": call.identity.region().as_str(),
        }),
        None => json!({ "ServiceName": "N/A", "Region": "N/A" }),
    };
    Ok(json!({ "UserName": owner.name, "AccessKeyLastUsed": last_used }))
}

/// The key that is named, if it is the user's.
fn own_key(call: &Call, tx: &Tx<'_>) -> Result<AccessKeyRow, IamError> {
    let user: Entity = find_own(tx, EntityKind::User, call.user_name()?)?;
    let id = call.input.required("AccessKeyId")?;
    let found = keys::of_user(tx, &user.uid)?.into_iter().find(|key| key.access_key_id == id);
    found.filter(|key| key.owner == Owner::Api).ok_or_else(|| missing(id))
}

fn missing(id: &str) -> IamError {
    let id: String = id.chars().take(128).collect();
    IamError::NoSuchEntity(format!("The Access Key with id {id} cannot be found."))
}
