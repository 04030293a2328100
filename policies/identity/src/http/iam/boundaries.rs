//! Permissions boundaries of users and roles.

use registry_sql::Tx;
use registry_types::Arn;
use serde_json::Value;

use super::call::{Call, find_own, name_of};
use super::error::IamError;
use super::operation::operations;
use super::target::policy_arn_in;
use crate::store::entities::{self, EntityKind};
use crate::store::policies;

operations! {
    Change "PutUserPermissionsBoundary" on User [NewBoundary] => |call, tx| put(call, tx, EntityKind::User);
    Change "DeleteUserPermissionsBoundary" on User [Boundary] => |call, tx| delete(call, tx, EntityKind::User);
    Change "PutRolePermissionsBoundary" on Role [NewBoundary] => |call, tx| put(call, tx, EntityKind::Role);
    Change "DeleteRolePermissionsBoundary" on Role [Boundary] => |call, tx| delete(call, tx, EntityKind::Role);
}

fn put(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    call.input.required("PermissionsBoundary")?;
    let boundary = boundary_of_request(call, tx)?;
    let principal = find_own(tx, kind, name_of(call, kind)?)?;
    entities::set_boundary(tx, &principal.uid, boundary.as_deref())?;
    Ok(Value::Null)
}

fn delete(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find_own(tx, kind, name_of(call, kind)?)?;
    if principal.boundary.is_none() {
        return Err(IamError::NoSuchEntity(format!("{} has no permissions boundary.", principal.name)));
    }
    entities::set_boundary(tx, &principal.uid, None)?;
    Ok(Value::Null)
}

/// The boundary that a request gives to a principal; it must be there.
pub(super) fn boundary_of_request(call: &Call, tx: &Tx<'_>) -> Result<Option<String>, IamError> {
    let Some(text) = call.input.text("PermissionsBoundary")? else { return Ok(None) };
    let arn = policy_arn_in(call, text)?;
    attachable(tx, &arn)?;
    Ok(Some(arn.to_string()))
}

/// Whether a managed policy is there, shipped or stored.
pub(super) fn attachable(tx: &Tx<'_>, arn: &Arn) -> Result<(), IamError> {
    let there = policies::managed_policy_exists(tx, arn.as_str())?;
    if there {
        return Ok(());
    }
    Err(IamError::NoSuchEntity(format!("Policy {arn} does not exist or is not attachable.")))
}
