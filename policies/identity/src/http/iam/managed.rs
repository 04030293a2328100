//! Managed policies: those of the account, and the shipped ones, which nobody changes.

use base64::Engine;
use policies::managed::{self as shipped, ManagedPolicy as Shipped};
use registry_aws::timestamp::iso8601;
use registry_sql::Tx;
use registry_types::Arn;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::call::{Call, modifiable};
use super::error::IamError;
use super::input::LONGEST_LONG_NAME;
use super::operation::operations;
use super::target::policy_arn;
use super::{document, render};
use crate::store::policies::{self as store, ManagedPolicy, NewManagedPolicy, PolicyVersion};
use crate::store::{Owner, principals};

/// When the shipped policies were written: 2026-11-01.
pub(super) const SHIPPED_MS: i64 = 1_793_491_200_000;

const LONGEST_DESCRIPTION: usize = 1000;

operations! {
    Change "CreatePolicy" on NewPolicy [RequestTags] => create_policy;
    Read "GetPolicy" on Policy [] => get_policy;
    Read "ListPolicies" on Nothing [] => list_policies;
    Change "DeletePolicy" on Policy [] => delete_policy;
}

/// A policy as answers show it.
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) arn: String,
    pub(super) path: String,
    pub(super) description: String,
    pub(super) default_version: i64,
    pub(super) created_ms: i64,
    pub(super) updated_ms: i64,
    pub(super) tags: Vec<(String, String)>,
    /// Where it stands in lists: the account's own come before the shipped ones.
    pub(super) key: String,
}

fn create_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let name = call.input.name("PolicyName", LONGEST_LONG_NAME)?;
    if store::find_by_name(tx, name)?.is_some() {
        return Err(IamError::EntityAlreadyExists(format!(
            "A policy called {name} already exists. Duplicate names are not allowed."
        )));
    }
    let text = call.input.required("PolicyDocument")?;
    document::managed(text)?;
    let description = call.input.text("Description")?.unwrap_or_default();
    if description.chars().count() > LONGEST_DESCRIPTION {
        return Err(IamError::Validation(format!(
            "1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have \
             length less than or equal to {LONGEST_DESCRIPTION}"
        )));
    }
    let path = call.input.path("Path")?.unwrap_or("/");
    let policy = NewManagedPolicy {
        arn: call.arn("policy", path, name).to_string(),
        uid: call.unique_id("ANPA"),
        name: name.to_owned(),
        path: path.to_owned(),
        document: text.to_owned(),
        owner: Owner::Api,
        foreign: None,
    };
    store::insert_managed(tx, &policy, call.now_ms)?;
    store::describe(tx, &policy.arn, description, &call.input.tags()?)?;
    let first = PolicyVersion { version: 1, document: policy.document.clone(), created_ms: call.now_ms };
    store::insert_version(tx, &policy.uid, &first)?;
    let made = stored(tx, &policy.arn)?;
    Ok(json!({ "Policy": listed(tx, &Shown::from(&made))? }))
}

fn get_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let shown = find(tx, &policy_arn(call)?)?;
    let mut policy = listed(tx, &shown)?;
    policy["Description"] = json!(Some(&shown.description).filter(|text| !text.is_empty()));
    policy["Tags"] = json!(render::some_tags(&shown.tags));
    Ok(json!({ "Policy": policy }))
}

fn list_policies(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let input = &call.input;
    let scope = input.one_of("Scope", &["All", "AWS", "Local"])?.unwrap_or("All");
    let usage = input.one_of("PolicyUsageFilter", &["PermissionsPolicy", "PermissionsBoundary"])?;
    let (only_attached, prefix) = (input.flag("OnlyAttached")?, input.path_prefix()?);
    let page = input.page()?;
    let filtered = only_attached || usage.is_some() || prefix != "/";
    let read = page.rows(filtered);
    let mut rows = Vec::new();
    if scope != "AWS" && !page.after.starts_with('~') {
        rows.extend(store::list(tx, &page.after, read)?.iter().map(Shown::from));
    }
    if scope != "Local" && rows.len() < read {
        let mut all: Vec<Shown> = shipped::all().iter().map(Shown::from).collect();
        all.sort_by(|one, other| one.key.cmp(&other.key));
        let room = read - rows.len();
        rows.extend(all.into_iter().filter(|shown| shown.key > page.after).take(room));
    }
    let mut counted = Vec::new();
    for shown in rows {
        let uses = if filtered { store::uses(tx, &shown.arn)? } else { (0, 0) };
        counted.push((shown, uses));
    }
    let keep = |(shown, (attached, bounds)): &(Shown, (i64, i64))| {
        let used = match usage {
            Some("PermissionsBoundary") => *bounds > 0,
            Some(_) => *attached > 0,
            None => !only_attached || *attached > 0,
        };
        used && shown.path.starts_with(prefix)
    };
    let policies = page.of(counted, read, |(shown, _)| &shown.key, keep);
    let mut rendered = Vec::new();
    for (shown, _) in &policies.items {
        rendered.push(listed(tx, shown)?);
    }
    let mut rendered = rendered.into_iter();
    Ok(policies.answer("Policies", |_| rendered.next().unwrap_or_default()))
}

fn delete_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let policy = find_own(tx, &policy_arn(call)?)?;
    let (attached, bounds) = store::uses(tx, &policy.arn)?;
    if attached + bounds > 0 {
        return Err(IamError::DeleteConflict("Cannot delete a policy attached to entities.".to_owned()));
    }
    if store::versions(tx, &policy)?.len() > 1 {
        return Err(IamError::DeleteConflict(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's \
             versions. The default version is deleted with the policy."
                .to_owned(),
        ));
    }
    store::delete_managed(tx, &policy)?;
    Ok(Value::Null)
}

/// A policy of the account or a shipped one.
pub(super) fn find(tx: &Tx<'_>, arn: &Arn) -> Result<Shown, IamError> {
    if let Some(shipped) = shipped::by_arn(arn.as_str()) {
        return Ok(Shown::from(shipped));
    }
    Ok(Shown::from(&stored(tx, arn.as_str())?))
}

pub(super) fn stored(tx: &Tx<'_>, arn: &str) -> Result<ManagedPolicy, IamError> {
    let missing = || IamError::NoSuchEntity(format!("Policy {arn} was not found."));
    store::find(tx, arn)?.ok_or_else(missing)
}

/// A policy of the account that the API may change.
pub(super) fn find_own(tx: &Tx<'_>, arn: &Arn) -> Result<ManagedPolicy, IamError> {
    if shipped::by_arn(arn.as_str()).is_some() {
        return Err(IamError::Unmodifiable(format!(
            "The policy {arn} is shipped with Berth and never changes."
        )));
    }
    let policy = stored(tx, arn.as_str())?;
    modifiable(policy.owner, "policy", &policy.path, &policy.name)?;
    Ok(policy)
}

pub(super) fn listed(tx: &Tx<'_>, shown: &Shown) -> Result<Value, IamError> {
    let (attached, bounds) = store::uses(tx, &shown.arn)?;
    Ok(json!({
        "PolicyName": shown.name,
        "PolicyId": shown.uid,
        "Arn": shown.arn,
        "Path": shown.path,
        "DefaultVersionId": format!("v{}", shown.default_version),
        "AttachmentCount": attached,
        "PermissionsBoundaryUsageCount": bounds,
        "IsAttachable": true,
        "CreateDate": iso8601(shown.created_ms),
        "UpdateDate": iso8601(shown.updated_ms),
    }))
}

impl From<&ManagedPolicy> for Shown {
    fn from(policy: &ManagedPolicy) -> Self {
        Self {
            name: policy.name.clone(),
            uid: policy.uid.clone(),
            arn: policy.arn.clone(),
            path: policy.path.clone(),
            description: policy.description.clone(),
            default_version: policy.default_version,
            created_ms: policy.created_ms,
            updated_ms: policy.updated_ms,
            tags: policy.tags.clone(),
            key: policy.key.clone(),
        }
    }
}

impl From<&Shipped> for Shown {
    fn from(policy: &Shipped) -> Self {
        Self {
            name: policy.name.to_owned(),
            uid: shipped_id(policy.arn),
            arn: policy.arn.to_owned(),
            path: policy.path.to_owned(),
            description: policy.description.to_owned(),
            default_version: 1,
            created_ms: SHIPPED_MS,
            updated_ms: SHIPPED_MS,
            tags: Vec::new(),
            // No name begins so.
            key: format!("~{}", principals::name_key(policy.name)),
        }
    }
}

/// The same on every server: made of the ARN.
fn shipped_id(arn: &str) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(arn.as_bytes()));
    let letters = hash.chars().filter(char::is_ascii_alphanumeric).take(17);
    "ANPA".chars().chain(letters.map(|letter| letter.to_ascii_uppercase())).collect()
}
