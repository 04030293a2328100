//! Managed policies on users, groups and roles.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::boundaries::attachable;
use super::call::{Call, find, find_own, name_of};
use super::error::IamError;
use super::input::Page;
use super::managed;
use super::operation::operations;
use super::page::EXAMINED;
use super::target::policy_arn;
use crate::store::entities::EntityKind::{self, Group, Role, User};
use crate::store::entities::{self, Entity};
use crate::store::{Owner, policies};

const MOST_ATTACHED: usize = 20;

operations! {
    Change "AttachUserPolicy" on User [PolicyArn Boundary] => |call, tx| attach(call, tx, User);
    Change "DetachUserPolicy" on User [PolicyArn Boundary] => |call, tx| detach(call, tx, User);
    Read "ListAttachedUserPolicies" on User [] => |call, tx| list(call, tx, User);
    Change "AttachGroupPolicy" on Group [PolicyArn] => |call, tx| attach(call, tx, Group);
    Change "DetachGroupPolicy" on Group [PolicyArn] => |call, tx| detach(call, tx, Group);
    Read "ListAttachedGroupPolicies" on Group [] => |call, tx| list(call, tx, Group);
    Change "AttachRolePolicy" on Role [PolicyArn Boundary] => |call, tx| attach(call, tx, Role);
    Change "DetachRolePolicy" on Role [PolicyArn Boundary] => |call, tx| detach(call, tx, Role);
    Read "ListAttachedRolePolicies" on Role [] => |call, tx| list(call, tx, Role);
    Read "ListEntitiesForPolicy" on Policy [] => list_entities_for_policy;
}

fn attach(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find_own(tx, kind, name_of(call, kind)?)?;
    let arn = policy_arn(call)?;
    attachable(tx, &arn)?;
    let known = policies::attached_to(tx, &principal.uid)?;
    if known.iter().all(|known| known != arn.as_str()) && known.len() >= MOST_ATTACHED {
        let what = match kind {
            User => "PoliciesPerUser",
            Group => "PoliciesPerGroup",
            Role => "PoliciesPerRole",
        };
        return Err(IamError::quota(what, MOST_ATTACHED));
    }
    policies::attach(tx, &principal.uid, arn.as_str(), Owner::Api)?;
    Ok(Value::Null)
}

fn detach(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find_own(tx, kind, name_of(call, kind)?)?;
    let arn = policy_arn(call)?;
    if !policies::detach(tx, &principal.uid, arn.as_str())? {
        return Err(IamError::NoSuchEntity(format!("Policy {arn} was not found.")));
    }
    Ok(Value::Null)
}

fn list(call: &Call, tx: &Tx<'_>, kind: EntityKind) -> Result<Value, IamError> {
    let principal = find(tx, kind, name_of(call, kind)?)?;
    let prefix = call.input.path_prefix()?;
    let mut arns = policies::attached_to(tx, &principal.uid)?;
    arns.retain(|arn| path_of(arn).starts_with(prefix));
    let page = call.input.page()?.of_all(arns, |arn| arn);
    Ok(page.answer("AttachedPolicies", |arn| attached(&arn)))
}

/// An attached policy, as lists show it.
pub(super) fn attached(arn: &str) -> Value {
    json!({ "PolicyName": arn.rsplit('/').next(), "PolicyArn": arn })
}

/// Users, groups and roles that a policy is attached to, or bounds, in one list by unique id.
fn list_entities_for_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let input = &call.input;
    let arn = managed::find(tx, &policy_arn(call)?)?.arn;
    let usage = input.one_of("PolicyUsageFilter", &["PermissionsPolicy", "PermissionsBoundary"])?;
    let kinds = ["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"];
    let wanted = input.one_of("EntityFilter", &kinds)?;
    let prefix = input.path_prefix()?;
    let page = input.page()?;
    let read = page.rows(wanted.is_some() || prefix != "/").min(EXAMINED);
    let mut uids = Vec::new();
    if usage != Some("PermissionsBoundary") {
        uids.extend(policies::attached_principals(tx, &arn, &page.after, read)?);
    }
    if usage != Some("PermissionsPolicy") {
        uids.extend(policies::bounded_principals(tx, &arn, &page.after, read)?);
    }
    uids.sort();
    uids.dedup();
    uids.truncate(read);
    let mut rows = Vec::new();
    for uid in uids {
        let entity = entity(tx, &uid)?;
        rows.push((uid, entity));
    }
    let keep = |(_, entity): &(String, Option<(EntityKind, Entity)>)| {
        entity.as_ref().is_some_and(|(kind, entity)| {
            wanted.is_none_or(|wanted| wanted == name(*kind)) && entity.path.starts_with(prefix)
        })
    };
    Ok(render(&page, rows, read, keep))
}

type Row = (String, Option<(EntityKind, Entity)>);

fn render(page: &Page, rows: Vec<Row>, read: usize, keep: impl Fn(&Row) -> bool) -> Value {
    let paged = page.of(rows, read, |(uid, _)| uid, keep);
    let of = |wanted: EntityKind| -> Vec<Value> {
        let entities = paged.items.iter().filter_map(|(_, entity)| entity.as_ref());
        let entities = entities.filter(|(kind, _)| *kind == wanted);
        entities
            .map(|(_, entity)| {
                let mut shown = json!({});
                shown[format!("{}Name", name(wanted))] = entity.name.clone().into();
                shown[format!("{}Id", name(wanted))] = entity.uid.clone().into();
                shown
            })
            .collect()
    };
    let (users, groups, roles) = (of(User), of(Group), of(Role));
    let mut answer = paged.answer("PolicyUsers", |_| Value::Null);
    answer["PolicyUsers"] = users.into();
    answer["PolicyGroups"] = groups.into();
    answer["PolicyRoles"] = roles.into();
    answer
}

/// Whom a unique id names; nobody of another account.
fn entity(tx: &Tx<'_>, uid: &str) -> Result<Option<(EntityKind, Entity)>, IamError> {
    for kind in [User, Group, Role] {
        if let Some(found) = entities::by_uid(tx, kind, uid)? {
            return Ok(Some((kind, found)));
        }
    }
    Ok(None)
}

fn name(kind: EntityKind) -> &'static str {
    match kind {
        User => "User",
        Group => "Group",
        Role => "Role",
    }
}

/// The path in the ARN of a policy.
fn path_of(arn: &str) -> &str {
    let rest = arn.split_once(":policy").map_or("/", |(_, rest)| rest);
    &rest[..=rest.rfind('/').unwrap_or(0)]
}
