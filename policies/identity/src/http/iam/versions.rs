//! Versions of managed policies: five at most, one of them in effect.

use registry_aws::timestamp::iso8601;
use registry_sql::Tx;
use registry_types::Arn;
use serde_json::{Value, json};

use super::call::Call;
use super::document::{self, encoded};
use super::error::IamError;
use super::managed::{SHIPPED_MS, find_own, stored};
use super::operation::operations;
use super::target::policy_arn;
use crate::store::policies::{self as store, PolicyVersion};

const MOST_VERSIONS: usize = 5;

operations! {
    Change "CreatePolicyVersion" on Policy [] => create_policy_version;
    Read "GetPolicyVersion" on Policy [] => get_policy_version;
    Read "ListPolicyVersions" on Policy [] => list_policy_versions;
    Change "DeletePolicyVersion" on Policy [] => delete_policy_version;
    Change "SetDefaultPolicyVersion" on Policy [] => set_default_policy_version;
}

fn create_policy_version(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let policy = find_own(tx, &policy_arn(call)?)?;
    let text = call.input.required("PolicyDocument")?;
    document::managed(text)?;
    if store::versions(tx, &policy)?.len() >= MOST_VERSIONS {
        return Err(IamError::LimitExceeded(format!(
            "A managed policy can have up to {MOST_VERSIONS} versions. Before you create a new version, you must \
             delete an existing version."
        )));
    }
    let made = PolicyVersion {
        version: policy.last_version + 1,
        document: text.to_owned(),
        created_ms: call.now_ms,
    };
    store::insert_version(tx, &policy.uid, &made)?;
    let is_default = call.input.flag("SetAsDefault")?;
    if is_default {
        store::set_default_version(tx, &policy.uid, &made, call.now_ms)?;
    }
    Ok(json!({ "PolicyVersion": render(&made, is_default) }))
}

fn get_policy_version(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let arn = policy_arn(call)?;
    let (default, versions) = all(tx, arn.as_str())?;
    let version = pick(call, &arn, versions)?;
    Ok(json!({ "PolicyVersion": with_document(&version, version.version == default) }))
}

fn list_policy_versions(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (default, versions) = all(tx, policy_arn(call)?.as_str())?;
    // The newest first.
    let keyed: Vec<(String, PolicyVersion)> = versions
        .into_iter()
        .map(|version| (format!("{:020}", i64::MAX.saturating_sub(version.version)), version))
        .collect();
    let page = call.input.page()?.of_all(keyed, |(key, _)| key);
    Ok(page.answer("Versions", |(_, version)| render(&version, version.version == default)))
}

fn delete_policy_version(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let arn = policy_arn(call)?;
    let policy = find_own(tx, &arn)?;
    let version = pick(call, &arn, store::versions(tx, &policy)?)?;
    if version.version == policy.default_version {
        return Err(IamError::DeleteConflict("Cannot delete the default version of a policy.".to_owned()));
    }
    store::delete_version(tx, &policy.uid, version.version)?;
    Ok(Value::Null)
}

fn set_default_policy_version(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let arn = policy_arn(call)?;
    let policy = find_own(tx, &arn)?;
    let version = pick(call, &arn, store::versions(tx, &policy)?)?;
    store::set_default_version(tx, &policy.uid, &version, call.now_ms)?;
    Ok(Value::Null)
}

/// The number in effect, and every version.
fn all(tx: &Tx<'_>, arn: &str) -> Result<(i64, Vec<PolicyVersion>), IamError> {
    if let Some(shipped) = policies::managed::by_arn(arn) {
        let document = shipped.document.to_owned();
        return Ok((1, vec![PolicyVersion { version: 1, document, created_ms: SHIPPED_MS }]));
    }
    let policy = stored(tx, arn)?;
    Ok((policy.default_version, store::versions(tx, &policy)?))
}

/// Every version of a policy with its document, as the details of the account show them.
pub(super) fn with_documents(tx: &Tx<'_>, arn: &str) -> Result<Vec<Value>, IamError> {
    let (default, versions) = all(tx, arn)?;
    let render = |version: &PolicyVersion| with_document(version, version.version == default);
    Ok(versions.iter().map(render).collect())
}

/// The version that a request names, such as `v2`.
fn pick(call: &Call, arn: &Arn, versions: Vec<PolicyVersion>) -> Result<PolicyVersion, IamError> {
    let text = call.input.required("VersionId")?;
    let number = text.strip_prefix('v').and_then(|number| number.parse::<i64>().ok());
    let number = number.ok_or_else(|| {
        IamError::Validation(format!(
            "1 validation error detected: Value '{text}' at 'versionId' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: v[1-9][0-9]*(\\.[A-Za-z0-9-]*)?"
        ))
    })?;
    let missing = || IamError::NoSuchEntity(format!("Policy {arn} version {text} does not exist."));
    versions.into_iter().find(|version| version.version == number).ok_or_else(missing)
}

fn render(version: &PolicyVersion, is_default: bool) -> Value {
    json!({
        "VersionId": format!("v{}", version.version),
        "IsDefaultVersion": is_default,
        "CreateDate": iso8601(version.created_ms),
    })
}

fn with_document(version: &PolicyVersion, is_default: bool) -> Value {
    let mut rendered = render(version, is_default);
    rendered["Document"] = encoded(&version.document).into();
    rendered
}
