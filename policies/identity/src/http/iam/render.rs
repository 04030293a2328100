//! Users, groups, roles and what else answers are made of. Members without a value are left out.

use registry_aws::timestamp::iso8601;
use serde_json::{Value, json};

use super::call::{Call, word};
use super::document::encoded;
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
        "Tags": some_tags(&role.tags),
    })
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

/// As lists show it: without tags and boundary, for which one asks by name.
pub(super) fn listed(mut entity: Value) -> Value {
    if let Some(members) = entity.as_object_mut() {
        members.remove("Tags");
        members.remove("PermissionsBoundary");
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
