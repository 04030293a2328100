//! The account as a whole: what it holds, in numbers and in full.

use registry_sql::Tx;
use serde_json::{Value, json};

use super::call::Call;
use super::error::IamError;
use super::operation::operations;
use crate::store::entities::{self, EntityKind};
use crate::store::{instance_profiles, policies};

operations! {
    Read "GetAccountSummary" on Nothing [] => get_account_summary;
    Read "ListAccountAliases" on Nothing [] => list_account_aliases;
}

fn get_account_summary(_: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let quotas = [
        ("AccessKeysPerUserQuota", 2),
        ("AttachedPoliciesPerGroupQuota", 20),
        ("AttachedPoliciesPerRoleQuota", 20),
        ("AttachedPoliciesPerUserQuota", 20),
        ("AssumeRolePolicySizeQuota", 4_096),
        ("GroupPolicySizeQuota", 5_120),
        ("GroupsPerUserQuota", 10),
        ("PolicySizeQuota", 6_144),
        ("RolePolicySizeQuota", 10_240),
        ("UserPolicySizeQuota", 2_048),
        ("VersionsPerPolicyQuota", 5),
        ("AccountMFAEnabled", 0),
        ("AccountAccessKeysPresent", 0),
        ("MFADevices", 0),
        ("Users", entities::count(tx, EntityKind::User)?),
        ("Groups", entities::count(tx, EntityKind::Group)?),
        ("Roles", entities::count(tx, EntityKind::Role)?),
        ("Policies", policies::count(tx)?),
        ("InstanceProfiles", instance_profiles::count(tx)?),
    ];
    let entries: Vec<Value> =
        quotas.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    Ok(json!({ "SummaryMap": { "entry": entries } }))
}

/// No account has an alias here.
fn list_account_aliases(call: &Call, _: &Tx<'_>) -> Result<Value, IamError> {
    let none = call.input.page()?.of_all(Vec::<String>::new(), |alias| alias);
    Ok(none.answer("AccountAliases", Value::from))
}
