//! What the gate is asked for an operation: its action, the ARN of its resource, and the condition keys of its row.
//!
//! A name that does not exist is asked about like one that does, at the path `/`; refusals name kind and name, and
//! no path.

use registry_sql::Tx;
use registry_types::Arn;

use super::call::{Call, find, name_of, word};
use super::error::IamError;
use super::input::{LONGEST_LONG_NAME, LONGEST_NAME, Tags, check_name};
use super::oidc_providers;
use super::operation::{Key, On, Operation};
use crate::check::Check;
use crate::identity::Identity;
use crate::store::entities::{self, Entity, EntityKind};
use crate::store::instance_profiles;
use crate::store::policies as managed;
use crate::store::providers;

/// The service that roles in instance profiles are for.
const EC2: &str = "ec2.amazonaws.com";

/// A resource and what conditions see of it.
struct Target {
    arn: Arn,
    /// As refusals name it.
    shown: String,
    tags: Tags,
    boundary: Option<String>,
    /// `iam:ResourceTag`, too.
    is_principal: bool,
}

pub(super) fn checks(call: &Call, tx: &Tx<'_>, operation: &Operation) -> Result<Vec<Check>, IamError> {
    let Some(target) = target(call, tx, operation.on)? else {
        let check = Check::any(operation.action);
        return Ok(vec![match operation.on {
            On::KeyOwner => check.shown_as(shown_key(call)?),
            _ => check,
        }]);
    };
    let tagged = |mut check: Check| {
        for (key, value) in &target.tags {
            check = check.with(format!("aws:ResourceTag/{key}"), value);
            if target.is_principal {
                check = check.with(format!("iam:ResourceTag/{key}"), value);
            }
        }
        check
    };
    let mut check = tagged(Check::on(operation.action, target.arn.clone()).shown_as(target.shown.clone()));
    let mut also = Vec::new();
    for key in operation.keys {
        check = match key {
            Key::RequestTags => {
                let tags = call.input.tags()?;
                // Whoever creates with tags needs the right to tag as well.
                if let Some(action) = tagging(operation.on).filter(|_| !tags.is_empty()) {
                    let tagging = Check::on(action, target.arn.clone()).shown_as(target.shown.clone());
                    also.push(with_request_tags(tagging, &tags));
                }
                with_request_tags(check, &tags)
            }
            Key::TagKeys => {
                let keys = call.input.texts("TagKeys")?.into_iter().map(str::to_owned).collect();
                check.with_many("aws:TagKeys", keys)
            }
            Key::PolicyArn => check.with("iam:PolicyARN", policy_arn(call)?.as_str()),
            Key::Boundary => match &target.boundary {
                Some(boundary) => check.with("iam:PermissionsBoundary", boundary),
                None => check,
            },
            Key::NewBoundary => match call.input.text("PermissionsBoundary")? {
                Some(boundary) => check.with("iam:PermissionsBoundary", boundary),
                None => check,
            },
            Key::PassRole => {
                let role = principal(call, tx, EntityKind::Role, name_of(call, EntityKind::Role)?)?;
                also.push(Identity::pass_role_check(&role.arn, EC2).shown_as(role.shown));
                check
            }
            Key::NewName => {
                let renamed = renamed(call, operation.on, &target.arn)?;
                also.extend(
                    renamed.map(|(arn, shown)| tagged(Check::on(operation.action, arn).shown_as(shown))),
                );
                check
            }
        };
    }
    also.insert(0, check);
    Ok(also)
}

/// The right to tag what is created.
fn tagging(on: On) -> Option<&'static str> {
    match on {
        On::NewUser => Some("iam:TagUser"),
        On::NewRole => Some("iam:TagRole"),
        On::NewPolicy => Some("iam:TagPolicy"),
        On::NewInstanceProfile => Some("iam:TagInstanceProfile"),
        On::NewOidcProvider => Some("iam:TagOpenIDConnectProvider"),
        _ => None,
    }
}

fn with_request_tags(check: Check, tags: &Tags) -> Check {
    let keys = tags.iter().map(|(key, _)| key.clone()).collect();
    let with_tag =
        |check: Check, (key, value): &(String, String)| check.with(format!("aws:RequestTag/{key}"), value);
    tags.iter().fold(check, with_tag).with_many("aws:TagKeys", keys)
}

/// What a user or group is to be called, when that is another ARN than it has: somebody may trust it.
fn renamed(call: &Call, on: On, known: &Arn) -> Result<Option<(Arn, String)>, IamError> {
    let (kind, member, longest) = match on {
        On::Group => ("group", "NewGroupName", LONGEST_LONG_NAME),
        _ => ("user", "NewUserName", LONGEST_NAME),
    };
    let rest = known.resource().strip_prefix(kind).unwrap_or_default();
    let (path, name) = rest.split_at(rest.rfind('/').map_or(0, |slash| slash + 1));
    let name = call.input.optional_name(member, longest)?.unwrap_or(name);
    let arn = call.arn(kind, call.input.path("NewPath")?.unwrap_or(path), name);
    Ok((arn != *known).then(|| (arn, format!("{kind} {name}"))))
}

/// A refusal names neither the owner of an access key nor whether it has one.
fn shown_key(call: &Call) -> Result<String, IamError> {
    Ok(format!("access key {}", call.input.name("AccessKeyId", LONGEST_LONG_NAME)?))
}

/// None where only a right to everything will do.
fn target(call: &Call, tx: &Tx<'_>, on: On) -> Result<Option<Target>, IamError> {
    let input = &call.input;
    let new = |kind: &str, member: &str, longest: usize| {
        let name = input.name(member, longest)?;
        let arn = call.arn(kind, input.path("Path")?.unwrap_or("/"), name);
        let shown = format!("{kind} {name}");
        Ok::<_, IamError>(Target { arn, shown, tags: Tags::new(), boundary: None, is_principal: false })
    };
    let existing = |kind: EntityKind| principal(call, tx, kind, name_of(call, kind)?);
    Ok(Some(match on {
        On::Nothing => return Ok(None),
        On::NewUser => new("user", "UserName", LONGEST_NAME)?,
        On::NewGroup => new("group", "GroupName", LONGEST_LONG_NAME)?,
        On::NewRole => new("role", "RoleName", LONGEST_NAME)?,
        On::NewPolicy => new("policy", "PolicyName", LONGEST_LONG_NAME)?,
        On::NewInstanceProfile => new("instance-profile", "InstanceProfileName", LONGEST_LONG_NAME)?,
        On::User => existing(EntityKind::User)?,
        On::Group => existing(EntityKind::Group)?,
        On::Role => existing(EntityKind::Role)?,
        On::UserOrSelf => principal(call, tx, EntityKind::User, call.user_name()?)?,
        On::KeyOwner => {
            let shown = shown_key(call)?;
            let Some(owner) = entities::of_key(tx, input.required("AccessKeyId")?)? else { return Ok(None) };
            Target { shown, ..of_entity(call, EntityKind::User, &owner) }
        }
        On::Policy => {
            let arn = policy_arn(call)?;
            let tags = managed::find(tx, arn.as_str())?.map(|policy| policy.tags).unwrap_or_default();
            let shown = format!("policy {arn}");
            Target { arn, shown, tags, boundary: None, is_principal: false }
        }
        On::InstanceProfile => {
            let name = input.name("InstanceProfileName", LONGEST_LONG_NAME)?;
            let found = instance_profiles::find(tx, name)?;
            let (path, tags) = found.map_or(("/".to_owned(), Tags::new()), |found| (found.path, found.tags));
            let arn = call.arn("instance-profile", &path, name);
            Target {
                arn,
                shown: format!("instance profile {name}"),
                tags,
                boundary: None,
                is_principal: false,
            }
        }
        On::NewOidcProvider | On::OidcProvider => {
            let new = on == On::NewOidcProvider;
            let name = if new { oidc_providers::new_name(call)? } else { oidc_providers::name(call)? };
            let found = if new { None } else { providers::find(tx, name)? };
            Target {
                arn: oidc_providers::arn(call, name),
                shown: format!("OIDC provider {name}"),
                tags: found.map(|found| found.tags).unwrap_or_default(),
                boundary: None,
                is_principal: false,
            }
        }
        On::PolicySource => {
            let (kind, name) = policy_source(call)?;
            principal(call, tx, kind, &name)?
        }
    }))
}

fn principal(call: &Call, tx: &Tx<'_>, kind: EntityKind, name: &str) -> Result<Target, IamError> {
    Ok(match entities::find(tx, kind, name)? {
        Some(found) => of_entity(call, kind, &found),
        None => Target {
            arn: call.arn(word(kind), "/", name),
            shown: format!("{} {name}", word(kind)),
            tags: Tags::new(),
            boundary: None,
            is_principal: true,
        },
    })
}

fn of_entity(call: &Call, kind: EntityKind, found: &Entity) -> Target {
    Target {
        arn: call.arn(word(kind), &found.path, &found.name),
        shown: format!("{} {}", word(kind), found.name),
        tags: found.tags.clone(),
        boundary: found.boundary.clone(),
        is_principal: true,
    }
}

/// The managed policy that is named: one of the account, or a shipped one.
pub(super) fn policy_arn(call: &Call) -> Result<Arn, IamError> {
    policy_arn_in(call, call.input.required("PolicyArn")?)
}

pub(super) fn policy_arn_in(call: &Call, text: &str) -> Result<Arn, IamError> {
    let malformed = || IamError::InvalidInput(format!("ARN {text} is not valid."));
    let arn: Arn = text.parse().map_err(|_| malformed())?;
    let ours = arn.account() == call.account.as_str() || arn.account() == "aws";
    let named = arn.resource().strip_prefix("policy/").and_then(|rest| rest.rsplit('/').next());
    let name = named.filter(|_| ours && arn.service() == "iam" && arn.region().is_empty());
    check_name("policyArn", name.ok_or_else(malformed)?, LONGEST_LONG_NAME).map_err(|_| malformed())?;
    Ok(arn)
}

/// The principal whose policies are simulated: its kind and name. The path in its ARN has to be right, too.
pub(super) fn policy_source(call: &Call) -> Result<(EntityKind, String), IamError> {
    let text = call.input.required("PolicySourceArn")?;
    let malformed =
        || IamError::InvalidInput(format!("Invalid Entity Arn: {text} does not identify an entity."));
    let arn: Arn = text.parse().map_err(|_| malformed())?;
    let (kind, rest) = arn.resource().split_once('/').ok_or_else(malformed)?;
    let kind = match kind {
        "user" => EntityKind::User,
        "group" => EntityKind::Group,
        "role" => EntityKind::Role,
        _ => return Err(malformed()),
    };
    let name = rest.rsplit('/').next().unwrap_or_default();
    check_name("policySourceArn", name, LONGEST_LONG_NAME).map_err(|_| malformed())?;
    if arn.service() != "iam" || arn.account() != call.account.as_str() {
        return Err(malformed());
    }
    Ok((kind, name.to_owned()))
}

/// The principal of [`policy_source`], if it is there under this very ARN.
pub(super) fn find_policy_source(call: &Call, tx: &Tx<'_>) -> Result<(EntityKind, Entity), IamError> {
    let (kind, name) = policy_source(call)?;
    let found = find(tx, kind, &name)?;
    let arn = call.arn(word(kind), &found.path, &found.name);
    if arn.as_str() != call.input.required("PolicySourceArn")? {
        return Err(IamError::NoSuchEntity(format!("The {} with name {name} cannot be found.", word(kind))));
    }
    Ok((kind, found))
}
