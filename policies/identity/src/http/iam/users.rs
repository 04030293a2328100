//! Users.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::boundaries::boundary_of_request;
use super::call::{Call, find, find_own};
use super::error::IamError;
use super::input::LONGEST_NAME;
use super::operation::operations;
use super::render;
use crate::store::entities::{self, EntityKind};
use crate::store::principals::{self, NewUser};
use crate::store::{Owner, keys, policies};

operations! {
    Change "CreateUser" on NewUser [RequestTags NewBoundary] => create_user;
    Read "GetUser" on UserOrSelf [] => get_user;
    Read "ListUsers" on Nothing [] => list_users;
    Change "UpdateUser" on User [NewName] => update_user;
    Change "DeleteUser" on User [] => delete_user;
}

fn create_user(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let name = call.input.name("UserName", LONGEST_NAME)?;
    free(tx, name)?;
    let user = NewUser {
        uid: call.unique_id("AIDA"),
        name: name.to_owned(),
        path: call.input.path("Path")?.unwrap_or("/").to_owned(),
        boundary: boundary_of_request(call, tx)?,
        tags: call.input.tags()?,
        owner: Owner::Api,
        foreign: None,
    };
    principals::insert_user(tx, &user, call.now_ms)?;
    Ok(json!({ "User": render::user(call, &find(tx, EntityKind::User, name)?) }))
}

fn get_user(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    Ok(json!({ "User": render::user(call, &find(tx, EntityKind::User, call.user_name()?)?) }))
}

fn list_users(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (page, prefix) = (call.input.page()?, call.input.path_prefix()?);
    let read = page.rows(prefix != "/");
    let users = entities::list(tx, EntityKind::User, &page.after, read)?;
    let users = page.of(users, read, |user| &user.key, |user| user.path.starts_with(prefix));
    Ok(users.answer("Users", |user| render::listed(render::user(call, &user))))
}

fn update_user(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let user = find_own(tx, EntityKind::User, call.input.name("UserName", LONGEST_NAME)?)?;
    let name = call.input.optional_name("NewUserName", LONGEST_NAME)?.unwrap_or(&user.name);
    let path = call.input.path("NewPath")?.unwrap_or(&user.path);
    if principals::name_key(name) != user.key {
        free(tx, name)?;
    }
    entities::rename(tx, EntityKind::User, &user.uid, name, path)?;
    Ok(Value::Null)
}

/// Only a user that has nothing left is deleted; everything that was made with it ends.
fn delete_user(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let user = find_own(tx, EntityKind::User, call.input.name("UserName", LONGEST_NAME)?)?;
    if !keys::of_user(tx, &user.uid)?.is_empty() {
        return Err(IamError::conflict("delete access keys"));
    }
    if !policies::inline_of(tx, &user.uid)?.is_empty() {
        return Err(IamError::conflict("delete policies"));
    }
    if !policies::attached_to(tx, &user.uid)?.is_empty() {
        return Err(IamError::conflict("detach all policies"));
    }
    if !entities::groups_of(tx, &user.uid)?.is_empty() {
        return Err(IamError::conflict("remove users from group"));
    }
    principals::delete_user(tx, &user.uid)?;
    Ok(Value::Null)
}

fn free(tx: &Tx<'_>, name: &str) -> Result<(), IamError> {
    if entities::find(tx, EntityKind::User, name)?.is_some() {
        return Err(IamError::EntityAlreadyExists(format!("User with name {name} already exists.")));
    }
    Ok(())
}
