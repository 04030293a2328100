//! Inline policies of users, groups and roles.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::{Call, find, find_own, name_of, word};
use super::document::{self, encoded};
use super::error::IamError;
use super::input::LONGEST_LONG_NAME;
use super::operation::operations;
use crate::store::entities::EntityKind::{self, Group, Role, User};
use crate::store::{Owner, policies};

operations! {
    Change "PutUserPolicy" on User [Boundary] => |call, tx| put(call, tx, User);
    Read "GetUserPolicy" on User [] => |call, tx| get(call, tx, User);
    Read "ListUserPolicies" on User [] => |call, tx| list(call, tx, User);
    Change "DeleteUserPolicy" on User [Boundary] => |call, tx| delete(call, tx, User);
    Change "PutGroupPolicy" on Group [] => |call, tx| put(call, tx, Group);
    Read "GetGroupPolicy" on Group [] => |call, tx| get(call, tx, Group);
    Read "ListGroupPolicies" on Group [] => |call, tx| list(call, tx, Group);
    Change "DeleteGroupPolicy" on Group [] => |call, tx| delete(call, tx, Group);
    Change "PutRolePolicy" on Role [Boundary] => |call, tx| put(call, tx, Role);
    Read "GetRolePolicy" on Role [] => |call, tx| get(call, tx, Role);
    Read "ListRolePolicies" on Role [] => |call, tx| list(call, tx, Role);
    Change "DeleteRolePolicy" on Role [Boundary] => |call, tx| delete(call, tx, Role);
}

/// What the inline policies of one principal may have together, in characters without white space.
fn largest(kind: EntityKind) -> usize {
    match kind {
        User => 2_048,
        Group => 5_120,
        Role => 10_240,
    }
}

fn put(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find_own(tx, kind, name_of(call, kind)?)?;
    let name = call.input.name("PolicyName", LONGEST_LONG_NAME)?;
    let text = call.input.required("PolicyDocument")?;
    let mut size = document::inline(text)?;
    for (other, document) in policies::inline_of(tx, &principal.uid)? {
        if other != name {
            size += document::inline(&document)?;
        }
    }
    if size > largest(kind) {
        return Err(IamError::LimitExceeded(format!(
            "Maximum policy size of {} bytes exceeded for {} {}",
            largest(kind),
            word(kind),
            principal.name
        )));
    }
    policies::put_inline(tx, &principal.uid, name, text, Owner::Api)?;
    Ok(Value::Null)
}

fn get(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find(tx, kind, name_of(call, kind)?)?;
    let name = call.input.name("PolicyName", LONGEST_LONG_NAME)?;
    let found = policies::inline_of(tx, &principal.uid)?.into_iter().find(|(known, _)| known == name);
    let (_, document) = found.ok_or_else(|| missing(kind, name))?;
    let member = match kind {
        User => "UserName",
        Group => "GroupName",
        Role => "RoleName",
    };
    let mut answer = json!({ "PolicyName": name, "PolicyDocument": encoded(&document) });
    answer[member] = principal.name.into();
    Ok(answer)
}

fn list(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find(tx, kind, name_of(call, kind)?)?;
    let names = call.input.page()?.of_all(policies::inline_of(tx, &principal.uid)?, |(name, _)| name);
    Ok(names.answer("PolicyNames", |(name, _)| name.into()))
}

fn delete(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find_own(tx, kind, name_of(call, kind)?)?;
    let name = call.input.name("PolicyName", LONGEST_LONG_NAME)?;
    if !policies::delete_inline(tx, &principal.uid, name)? {
        return Err(missing(kind, name));
    }
    Ok(Value::Null)
}

fn missing(kind: EntityKind, name: &str) -> IamError {
    IamError::NoSuchEntity(format!("The {} policy with name {name} cannot be found.", word(kind)))
}
