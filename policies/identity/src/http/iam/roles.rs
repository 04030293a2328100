//! Roles and their trust policies.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::boundaries::boundary_of_request;
use super::call::{Call, find, find_own};
use super::error::IamError;
use super::input::LONGEST_NAME;
use super::operation::operations;
use super::{document, render};
use crate::store::entities::{self, EntityKind};
use crate::store::principals::{self, NewRole};
use crate::store::{Owner, instance_profiles, policies};

const LONGEST_DESCRIPTION: usize = 1000;
const SHORTEST_MAXIMUM_S: i64 = 3600;
const LONGEST_MAXIMUM_S: i64 = 43_200;

operations! {
    Change "CreateRole" on NewRole [RequestTags NewBoundary] => create_role;
    Read "GetRole" on Role [Boundary] => get_role;
    Read "ListRoles" on Nothing [] => list_roles;
    Change "UpdateRole" on Role [Boundary] => update_role;
    Change "UpdateRoleDescription" on Role [Boundary] => update_role_description;
    Change "UpdateAssumeRolePolicy" on Role [Boundary] => update_assume_role_policy;
    Change "DeleteRole" on Role [Boundary] => delete_role;
}

fn create_role(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let name = name(call)?;
    if entities::find(tx, EntityKind::Role, name)?.is_some() {
        return Err(IamError::EntityAlreadyExists(format!("Role with name {name} already exists.")));
    }
    let trust_policy = call.input.required("AssumeRolePolicyDocument")?;
    document::trust(trust_policy)?;
    let role = NewRole {
        uid: call.unique_id("AROA"),
        name: name.to_owned(),
        path: call.input.path("Path")?.unwrap_or("/").to_owned(),
        description: description(call)?.unwrap_or_default().to_owned(),
        trust_policy: trust_policy.to_owned(),
        max_session_s: maximum(call)?.unwrap_or(SHORTEST_MAXIMUM_S),
        boundary: boundary_of_request(call, tx)?,
        tags: call.input.tags()?,
        owner: Owner::Api,
        foreign: None,
    };
    principals::insert_role(tx, &role, call.now_ms)?;
    Ok(json!({ "Role": render::role(call, &find(tx, EntityKind::Role, name)?) }))
}

fn get_role(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    Ok(json!({ "Role": render::role(call, &find(tx, EntityKind::Role, name(call)?)?) }))
}

fn list_roles(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (page, prefix) = (call.input.page()?, call.input.path_prefix()?);
    let read = page.rows(prefix != "/");
    let roles = entities::list(tx, EntityKind::Role, &page.after, read)?;
    let roles = page.of(roles, read, |role| &role.key, |role| role.path.starts_with(prefix));
    Ok(roles.answer("Roles", |role| render::listed(render::role(call, &role))))
}

fn update_role(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let role = find_own(tx, EntityKind::Role, name(call)?)?;
    let description = description(call)?.unwrap_or(&role.description);
    entities::set_role(tx, &role.uid, description, maximum(call)?.unwrap_or(role.max_session_s))?;
    Ok(json!({}))
}

fn update_role_description(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let role = find_own(tx, EntityKind::Role, name(call)?)?;
    call.input.required("Description")?;
    let description = description(call)?.unwrap_or_default();
    entities::set_role(tx, &role.uid, description, role.max_session_s)?;
    Ok(json!({ "Role": render::role(call, &find(tx, EntityKind::Role, &role.name)?) }))
}

fn update_assume_role_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let role = find_own(tx, EntityKind::Role, name(call)?)?;
    let trust_policy = call.input.required("PolicyDocument")?;
    document::trust(trust_policy)?;
    if trust_policy != role.trust_policy {
        entities::set_trust(tx, &role.uid, trust_policy)?;
    }
    Ok(Value::Null)
}

/// Only a role that has nothing left is deleted; its sessions end.
fn delete_role(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let role = find_own(tx, EntityKind::Role, name(call)?)?;
    if !instance_profiles::of_role(tx, &role.uid, "", 1)?.is_empty() {
        return Err(IamError::conflict("remove roles from instance profile"));
    }
    if !policies::inline_of(tx, &role.uid)?.is_empty() {
        return Err(IamError::conflict("delete policies"));
    }
    if !policies::attached_to(tx, &role.uid)?.is_empty() {
        return Err(IamError::conflict("detach all policies"));
    }
    principals::delete_role(tx, &role.uid)?;
    Ok(Value::Null)
}

fn name(call: &Call) -> Result<&str, IamError> {
    call.input.name("RoleName", LONGEST_NAME)
}

fn description(call: &Call) -> Result<Option<&str>, IamError> {
    let description = call.input.text("Description")?;
    match description {
        Some(text) if text.chars().count() > LONGEST_DESCRIPTION => Err(IamError::Validation(format!(
            "1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have \
             length less than or equal to {LONGEST_DESCRIPTION}"
        ))),
        description => Ok(description),
    }
}

/// The longest that sessions of the role may last, in seconds.
fn maximum(call: &Call) -> Result<Option<i64>, IamError> {
    call.input.number("MaxSessionDuration", SHORTEST_MAXIMUM_S, LONGEST_MAXIMUM_S)
}
