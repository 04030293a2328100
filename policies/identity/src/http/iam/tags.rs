//! Tags of users, roles, policies and instance profiles.

use registry_sql::Tx;
use serde_json::Value;

use super::call::{Call, find, find_own, name_of};
use super::error::IamError;
use super::input::{Tags, merge_tags, same_tag};
use super::operation::operations;
use super::target::policy_arn;
use super::{instance_profiles, managed, render};
use crate::store::entities::{self, EntityKind};
use crate::store::{instance_profiles as profiles, policies};

operations! {
    Change "TagUser" on User [RequestTags] => |call, tx| tag(call, tx, Tagged::User);
    Change "UntagUser" on User [TagKeys] => |call, tx| untag(call, tx, Tagged::User);
    Read "ListUserTags" on User [] => |call, tx| list(call, tx, Tagged::User);
    Change "TagRole" on Role [RequestTags] => |call, tx| tag(call, tx, Tagged::Role);
    Change "UntagRole" on Role [TagKeys] => |call, tx| untag(call, tx, Tagged::Role);
    Read "ListRoleTags" on Role [] => |call, tx| list(call, tx, Tagged::Role);
    Change "TagPolicy" on Policy [RequestTags] => |call, tx| tag(call, tx, Tagged::Policy);
    Change "UntagPolicy" on Policy [TagKeys] => |call, tx| untag(call, tx, Tagged::Policy);
    Read "ListPolicyTags" on Policy [] => |call, tx| list(call, tx, Tagged::Policy);
    Change "TagInstanceProfile" on InstanceProfile [RequestTags] =>
        |call, tx| tag(call, tx, Tagged::InstanceProfile);
    Change "UntagInstanceProfile" on InstanceProfile [TagKeys] =>
        |call, tx| untag(call, tx, Tagged::InstanceProfile);
    Read "ListInstanceProfileTags" on InstanceProfile [] => |call, tx| list(call, tx, Tagged::InstanceProfile);
}

#[derive(Clone, Copy)]
enum Tagged {
    User,
    Role,
    Policy,
    InstanceProfile,
}

fn tag(call: &Call, tx: &Tx<'_>, what: Tagged) -> Result<Value, IamError> {
    let new = call.input.tags()?;
    change(call, tx, what, |known| merge_tags(known, new))
}

fn untag(call: &Call, tx: &Tx<'_>, what: Tagged) -> Result<Value, IamError> {
    let keys = call.input.texts("TagKeys")?;
    let gone = |tag: &(String, String)| keys.iter().any(|key| same_tag(key, &tag.0));
    change(call, tx, what, |known| Ok(known.into_iter().filter(|tag| !gone(tag)).collect()))
}

fn change(
    call: &Call,
    tx: &Tx<'_>,
    what: Tagged,
    change: impl FnOnce(Tags) -> Result<Tags, IamError>,
) -> Result<Value, IamError> {
    match what {
        Tagged::User | Tagged::Role => {
            let principal = find_own(tx, kind(what), name_of(call, kind(what))?)?;
            entities::set_tags(tx, &principal.uid, &change(principal.tags)?)?;
        }
        Tagged::Policy => {
            let policy = managed::find_own(tx, &policy_arn(call)?)?;
            policies::describe(tx, &policy.arn, &policy.description, &change(policy.tags)?)?;
        }
        Tagged::InstanceProfile => {
            let profile = instance_profiles::named(call, tx)?;
            profiles::set_tags(tx, &profile.uid, &change(profile.tags)?)?;
        }
    }
    Ok(Value::Null)
}

fn list(call: &Call, tx: &Tx<'_>, what: Tagged) -> Result<Value, IamError> {
    let tags = match what {
        Tagged::User | Tagged::Role => find(tx, kind(what), name_of(call, kind(what))?)?.tags,
        Tagged::Policy => managed::find(tx, &policy_arn(call)?)?.tags,
        Tagged::InstanceProfile => instance_profiles::named(call, tx)?.tags,
    };
    let page = call.input.page()?.of_all(tags, |(key, _)| key);
    Ok(page.answer("Tags", |tag| render::tags(&[tag]).swap_remove(0)))
}

fn kind(what: Tagged) -> EntityKind {
    match what {
        Tagged::Role => EntityKind::Role,
        Tagged::User | Tagged::Policy | Tagged::InstanceProfile => EntityKind::User,
    }
}
