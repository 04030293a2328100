//! Groups, and who is in them.
//!
//! A user of the API may join a group of the files; the groups of a user of the files stand in its file.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::{Call, find, find_own};
use super::error::IamError;
use super::input::{LONGEST_LONG_NAME, LONGEST_NAME};
use super::operation::operations;
use super::render;
use crate::store::entities::{self, Entity, EntityKind};
use crate::store::principals::{self, NewGroup};
use crate::store::{Owner, policies};

const MOST_GROUPS: usize = 10;

operations! {
    Change "CreateGroup" on NewGroup [] => create_group;
    Read "GetGroup" on Group [] => get_group;
    Read "ListGroups" on Nothing [] => list_groups;
    Read "ListGroupsForUser" on User [] => list_groups_for_user;
    Change "UpdateGroup" on Group [NewName] => update_group;
    Change "DeleteGroup" on Group [] => delete_group;
    Change "AddUserToGroup" on Group [] => add_user_to_group;
    Change "RemoveUserFromGroup" on Group [] => remove_user_from_group;
}

fn create_group(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let name = name(call)?;
    free(tx, name)?;
    let group = NewGroup {
        uid: call.unique_id("AGPA"),
        name: name.to_owned(),
        path: call.input.path("Path")?.unwrap_or("/").to_owned(),
        owner: Owner::Api,
        foreign: None,
    };
    principals::insert_group(tx, &group, call.now_ms)?;
    Ok(json!({ "Group": render::group(call, &find(tx, EntityKind::Group, name)?) }))
}

fn get_group(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let group = find(tx, EntityKind::Group, name(call)?)?;
    let page = call.input.page()?;
    let read = page.rows(false);
    let members = entities::members(tx, &group.uid, &page.after, read)?;
    let members = page.of(members, read, |user| &user.key, |_| true);
    let mut answer = members.answer("Users", |user| render::listed(render::user(call, &user)));
    answer["Group"] = render::group(call, &group);
    Ok(answer)
}

fn list_groups(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (page, prefix) = (call.input.page()?, call.input.path_prefix()?);
    let read = page.rows(prefix != "/");
    let groups = entities::list(tx, EntityKind::Group, &page.after, read)?;
    let groups = page.of(groups, read, |group| &group.key, |group| group.path.starts_with(prefix));
    Ok(groups.answer("Groups", |group| render::group(call, &group)))
}

fn list_groups_for_user(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let user = find(tx, EntityKind::User, call.input.name("UserName", LONGEST_NAME)?)?;
    let groups = call.input.page()?.of_all(entities::groups_of(tx, &user.uid)?, |group| &group.key);
    Ok(groups.answer("Groups", |group| render::group(call, &group)))
}

fn update_group(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let group = find_own(tx, EntityKind::Group, name(call)?)?;
    let name = call.input.optional_name("NewGroupName", LONGEST_LONG_NAME)?.unwrap_or(&group.name);
    let path = call.input.path("NewPath")?.unwrap_or(&group.path);
    if principals::name_key(name) != group.key {
        free(tx, name)?;
    }
    entities::rename(tx, EntityKind::Group, &group.uid, name, path)?;
    Ok(Value::Null)
}

fn delete_group(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let group = find_own(tx, EntityKind::Group, name(call)?)?;
    if entities::has_members(tx, &group.uid)? {
        return Err(IamError::conflict("remove users from group"));
    }
    if !policies::inline_of(tx, &group.uid)?.is_empty() {
        return Err(IamError::conflict("delete policies"));
    }
    if !policies::attached_to(tx, &group.uid)?.is_empty() {
        return Err(IamError::conflict("detach all policies"));
    }
    principals::delete_group(tx, &group.uid)?;
    Ok(Value::Null)
}

fn add_user_to_group(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (user, group) = both(call, tx)?;
    let known = entities::groups_of(tx, &user.uid)?;
    if known.iter().all(|known| known.uid != group.uid) && known.len() >= MOST_GROUPS {
        return Err(IamError::quota("GroupsPerUser", MOST_GROUPS));
    }
    principals::insert_membership(tx, &user.uid, &group.uid, Owner::Api)?;
    Ok(Value::Null)
}

fn remove_user_from_group(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (user, group) = both(call, tx)?;
    if !entities::leave(tx, &user.uid, &group.uid)? {
        return Err(IamError::NoSuchEntity(format!("User {} is not in group {}.", user.name, group.name)));
    }
    Ok(Value::Null)
}

fn both(call: &Call, tx: &Tx<'_>) -> Result<(Entity, Entity), IamError> {
    let group = find(tx, EntityKind::Group, name(call)?)?;
    let user = find_own(tx, EntityKind::User, call.input.name("UserName", LONGEST_NAME)?)?;
    Ok((user, group))
}

fn name(call: &Call) -> Result<&str, IamError> {
    call.input.name("GroupName", LONGEST_LONG_NAME)
}

fn free(tx: &Tx<'_>, name: &str) -> Result<(), IamError> {
    if entities::find(tx, EntityKind::Group, name)?.is_some() {
        return Err(IamError::EntityAlreadyExists(format!("Group with name {name} already exists.")));
    }
    Ok(())
}
