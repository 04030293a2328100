//! Users, groups, roles and what else answers are made of. Members without a value are left out.

use registry_aws::timestamp::iso8601;
use serde_json::{Value, json};

use super::call::{Call, word};
use super::document::encoded;
use crate::caller::CallerKind;
use crate::store::entities::{Entity, EntityKind};
use crate::store::instance_profiles::InstanceProfile;

pub(super) fn user(call: &Call, user: &Entity) -> Value {
    json!({
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.uid,
        "Arn": arn(call, EntityKind::User, user),
        "CreateDate": iso8601(user.created_ms),
        "PermissionsBoundary": boundary(user),
        "Tags": some_tags(&user.tags),
    })
}

pub(super) fn group(call: &Call, group: &Entity) -> Value {
    json!({
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.uid,
        "Arn": arn(call, EntityKind::Group, group),
        "CreateDate": iso8601(group.created_ms),
    })
}

pub(super) fn role(call: &Call, role: &Entity) -> Value {
    json!({
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.uid,
        "Arn": arn(call, EntityKind::Role, role),
        "CreateDate": iso8601(role.created_ms),
        "AssumeRolePolicyDocument": encoded(&role.trust_policy),
        "Description": Some(&role.description).filter(|text| !text.is_empty()),
        "MaxSessionDuration": role.max_session_s,
        "PermissionsBoundary": boundary(role),
        "RoleLastUsed": last_used(call, role),
        "Tags": some_tags(&role.tags),
    })
}

/// When a session of the role was used: what is written down, or what this server has seen since.
fn last_used(call: &Call, role: &Entity) -> Value {
    let seen = call.directory.entity(CallerKind::RoleSession, &role.uid);
    let seen = seen.and_then(|role| role.use_log.latest()).map(|(at_ms, _)| at_ms);
    match role.last_used_ms.max(seen) {
        Some(at_ms) => json!({ "LastUsedDate": iso8601(at_ms), "Region": call.identity.region().as_str() }),
        None => json!({}),
    }
}

pub(super) fn instance_profile(call: &Call, profile: &InstanceProfile, of: Option<&Entity>) -> Value {
    json!({
        "Path": profile.path,
        "InstanceProfileName": profile.name,
        "InstanceProfileId": profile.uid,
        "Arn": call.arn("instance-profile", &profile.path, &profile.name).as_str(),
        "CreateDate": iso8601(profile.created_ms),
        "Roles": of.map(|found| listed(role(call, found))).into_iter().collect::<Vec<_>>(),
        "Tags": some_tags(&profile.tags),
    })
}

/// As lists show it: without tags, boundary and last use, for which one asks by name.
pub(super) fn listed(mut entity: Value) -> Value {
    if let Some(members) = entity.as_object_mut() {
        members.remove("Tags");
        members.remove("PermissionsBoundary");
        members.remove("RoleLastUsed");
    }
    entity
}

pub(super) fn tags(tags: &[(String, String)]) -> Vec<Value> {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

pub(super) fn some_tags(of: &[(String, String)]) -> Option<Vec<Value>> {
    Some(tags(of)).filter(|tags| !tags.is_empty())
}

fn arn(call: &Call, kind: EntityKind, entity: &Entity) -> String {
    call.arn(word(kind), &entity.path, &entity.name).to_string()
}

pub(super) fn boundary(entity: &Entity) -> Option<Value> {
    let arn = entity.boundary.as_ref()?;
    Some(json!({ "PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn }))
}
