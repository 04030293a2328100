//! Members of STS requests. All leaves of a Query request are strings.

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::Value;

use crate::roles::AssumeRole;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    role_arn: Option<String>,
    role_session_name: Option<String>,
    duration_seconds: Option<String>,
    policy: Option<String>,
    #[serde(default)]
    policy_arns: Vec<PolicyArn>,
    external_id: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    transitive_tag_keys: Vec<String>,
    source_identity: Option<String>,
    serial_number: Option<String>,
    token_code: Option<String>,
    #[serde(default)]
    provided_contexts: Vec<Value>,
}

#[derive(Deserialize)]
struct PolicyArn {
    arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) fn assume_role(input: &Value) -> Result<AssumeRole, AwsError> {
    let input = Input::deserialize(input).map_err(|_| invalid("A member of the request is malformed."))?;
    let unsupported = [
        ("SerialNumber", input.serial_number.is_some()),
        ("TokenCode", input.token_code.is_some()),
        ("ProvidedContexts", !input.provided_contexts.is_empty()),
    ];
    if let Some((member, _)) = unsupported.into_iter().find(|(_, present)| *present) {
        return Err(invalid(format!("{member} is not supported.")));
    }
    let role_arn = input.role_arn.ok_or_else(|| missing("roleArn"))?;
    let duration_s = match input.duration_seconds {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("DurationSeconds is not a number."))?),
    };
    Ok(AssumeRole {
        role_arn: role_arn.parse().map_err(|_| invalid(format!("{role_arn} is invalid")))?,
        session_name: input.role_session_name.ok_or_else(|| missing("roleSessionName"))?,
        duration_s,
        policy: input.policy,
        policy_arns: input.policy_arns.into_iter().map(|policy| policy.arn).collect(),
        external_id: input.external_id,
        tags: input.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
        transitive_tag_keys: input.transitive_tag_keys,
        source_identity: input.source_identity,
    })
}

fn missing(member: &str) -> AwsError {
    invalid(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be \
         null"
    ))
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationError", message)
}
