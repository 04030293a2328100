//! Instance profiles. Nothing here runs on EC2: they are kept for what files and tools written for it expect.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::{Call, find};
use super::error::IamError;
use super::input::{LONGEST_LONG_NAME, LONGEST_NAME};
use super::operation::operations;
use super::render;
use crate::store::entities::{self, EntityKind};
use crate::store::instance_profiles::{self as store, InstanceProfile};

operations! {
    Change "CreateInstanceProfile" on NewInstanceProfile [RequestTags] => create_instance_profile;
    Read "GetInstanceProfile" on InstanceProfile [] => get_instance_profile;
    Read "ListInstanceProfiles" on Nothing [] => list_instance_profiles;
    Read "ListInstanceProfilesForRole" on Role [] => list_instance_profiles_for_role;
    Change "AddRoleToInstanceProfile" on InstanceProfile [PassRole] => add_role_to_instance_profile;
    Change "RemoveRoleFromInstanceProfile" on InstanceProfile [] => remove_role_from_instance_profile;
    Change "DeleteInstanceProfile" on InstanceProfile [] => delete_instance_profile;
}

fn create_instance_profile(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let name = name(call)?;
    if store::find(tx, name)?.is_some() {
        return Err(IamError::EntityAlreadyExists(format!("Instance Profile {name} already exists.")));
    }
    let profile = InstanceProfile {
        uid: call.unique_id("AIPA"),
        name: name.to_owned(),
        path: call.input.path("Path")?.unwrap_or("/").to_owned(),
        created_ms: call.now_ms,
        role_uid: None,
        tags: call.input.tags()?,
    };
    store::insert(tx, &profile)?;
    Ok(json!({ "InstanceProfile": shown(call, tx, &profile)? }))
}

fn get_instance_profile(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    Ok(json!({ "InstanceProfile": shown(call, tx, &named(call, tx)?)? }))
}

fn list_instance_profiles(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (page, prefix) = (call.input.page()?, call.input.path_prefix()?);
    let read = page.rows(prefix != "/");
    let rows = keyed(store::list(tx, &page.after, read)?);
    let paged = page.of(rows, read, |(key, _)| key, |(_, profile)| profile.path.starts_with(prefix));
    let mut rendered = all_shown(call, tx, &paged.items)?.into_iter();
    Ok(paged.answer("InstanceProfiles", |_| rendered.next().unwrap_or_default()))
}

fn list_instance_profiles_for_role(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let role = find(tx, EntityKind::Role, call.input.name("RoleName", LONGEST_NAME)?)?;
    let page = call.input.page()?;
    let read = page.rows(false);
    let rows = keyed(store::of_role(tx, &role.uid, &page.after, read)?);
    let paged = page.of(rows, read, |(key, _)| key, |_| true);
    let mut rendered = all_shown(call, tx, &paged.items)?.into_iter();
    Ok(paged.answer("InstanceProfiles", |_| rendered.next().unwrap_or_default()))
}

fn add_role_to_instance_profile(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let profile = named(call, tx)?;
    let role = find(tx, EntityKind::Role, call.input.name("RoleName", LONGEST_NAME)?)?;
    let taken = match &profile.role_uid {
        Some(uid) => entities::by_uid(tx, EntityKind::Role, uid)?.is_some(),
        None => false,
    };
    if taken {
        return Err(IamError::quota("InstanceSessionsPerInstanceProfile", 1));
    }
    store::set_role(tx, &profile.uid, Some(&role.uid))?;
    Ok(Value::Null)
}

fn remove_role_from_instance_profile(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let profile = named(call, tx)?;
    let role = find(tx, EntityKind::Role, call.input.name("RoleName", LONGEST_NAME)?)?;
    if profile.role_uid.as_ref() != Some(&role.uid) {
        return Err(IamError::NoSuchEntity(format!(
            "Role {} does not exist in the instance profile {}.",
            role.name, profile.name
        )));
    }
    store::set_role(tx, &profile.uid, None)?;
    Ok(Value::Null)
}

fn delete_instance_profile(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let profile = named(call, tx)?;
    if let Some(uid) = &profile.role_uid
        && entities::by_uid(tx, EntityKind::Role, uid)?.is_some()
    {
        return Err(IamError::conflict("remove roles from instance profile"));
    }
    store::delete(tx, &profile.uid)?;
    Ok(Value::Null)
}

fn name(call: &Call) -> Result<&str, IamError> {
    call.input.name("InstanceProfileName", LONGEST_LONG_NAME)
}

pub(super) fn named(call: &Call, tx: &Tx<'_>) -> Result<InstanceProfile, IamError> {
    let name = name(call)?;
    let missing = || IamError::NoSuchEntity(format!("Instance Profile {name} cannot be found."));
    store::find(tx, name)?.ok_or_else(missing)
}

fn keyed(profiles: Vec<InstanceProfile>) -> Vec<(String, InstanceProfile)> {
    profiles.into_iter().map(|profile| (profile.key(), profile)).collect()
}

fn all_shown(call: &Call, tx: &Tx<'_>, rows: &[(String, InstanceProfile)]) -> Result<Vec<Value>, IamError> {
    rows.iter().map(|(_, profile)| Ok(render::listed(shown(call, tx, profile)?))).collect()
}

/// With its role, if that is still there: one of the files may be gone.
pub(super) fn shown(call: &Call, tx: &Tx<'_>, profile: &InstanceProfile) -> Result<Value, IamError> {
    let role = match &profile.role_uid {
        Some(uid) => entities::by_uid(tx, EntityKind::Role, uid)?,
        None => None,
    };
    Ok(render::instance_profile(call, profile, role.as_ref()))
}
