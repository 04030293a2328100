//! Members of STS requests. All leaves of a Query request are strings.

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::Value;

use crate::roles::{AssumeRole, AssumeWithWebIdentity};

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
    provider_id: Option<String>,
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
    input.refuse_unsupported()?;
    let duration_s = input.duration_s()?;
    let role_arn = input.role_arn.ok_or_else(|| missing("roleArn"))?;
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

/// Tags, source identity and external id are no members of this request: a token says what there is of them.
pub(super) fn assume_role_with_web_identity(input: &Value) -> Result<AssumeWithWebIdentity, AwsError> {
    let token = input.get("WebIdentityToken").and_then(Value::as_str);
    let token = token.ok_or_else(|| missing("webIdentityToken"))?.into();
    let mut role = assume_role(input)?;
    (role.external_id, role.source_identity) = (None, None);
    role.tags.clear();
    role.transitive_tag_keys.clear();
    Ok(AssumeWithWebIdentity { role, token })
}

/// The duration that is asked for, in seconds.
pub(super) fn get_session_token(input: &Value) -> Result<Option<i64>, AwsError> {
    let input = Input::deserialize(input).map_err(|_| invalid("A member of the request is malformed."))?;
    input.refuse_unsupported()?;
    input.duration_s()
}

impl Input {
    /// Berth knows no MFA devices, no contexts of identity centers and no providers but those of OIDC.
    fn refuse_unsupported(&self) -> Result<(), AwsError> {
        let unsupported = [
            ("ProviderId", self.provider_id.is_some()),
            ("SerialNumber", self.serial_number.is_some()),
            ("TokenCode", self.token_code.is_some()),
            ("ProvidedContexts", !self.provided_contexts.is_empty()),
        ];
        match unsupported.into_iter().find(|(_, present)| *present) {
            Some((member, _)) => Err(invalid(format!("{member} is not supported."))),
            None => Ok(()),
        }
    }

    fn duration_s(&self) -> Result<Option<i64>, AwsError> {
        let text = self.duration_seconds.as_deref();
        text.map(|text| text.parse().map_err(|_| invalid("DurationSeconds is not a number."))).transpose()
    }
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
