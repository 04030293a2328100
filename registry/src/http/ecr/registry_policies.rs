//! The registry policy: who else may do what to every repository of the registry.

use policies::PolicyKind;
use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{invalid, registry_error};
use super::repository_policies::parse_policy;
use super::{Ecr, input};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutRegistryPolicyRequest {
    policy_text: Option<String>,
}

impl Ecr {
    pub(super) async fn put_registry_policy(&self, input: Value) -> Result<Value, AwsError> {
        let request: PutRegistryPolicyRequest = input::parse(input)?;
        let text = request.policy_text.ok_or_else(|| invalid("policyText", "must not be null"))?;
        parse_policy(&text, PolicyKind::RegistryPolicy)?;
        self.registry.set_registry_policy(Some(text.clone())).await.map_err(registry_error)?;
        self.access.refresh(&self.registry).await.map_err(registry_error)?;
        Ok(self.registry_policy_answer(&text))
    }

    pub(super) async fn get_registry_policy(&self) -> Result<Value, AwsError> {
        let policy = self.registry.registry_policy().await.map_err(registry_error)?;
        policy
            .map(|policy| self.registry_policy_answer(&policy.text))
            .ok_or_else(|| self.no_registry_policy())
    }

    pub(super) async fn delete_registry_policy(&self) -> Result<Value, AwsError> {
        let before = self.registry.set_registry_policy(None).await.map_err(registry_error)?;
        self.access.refresh(&self.registry).await.map_err(registry_error)?;
        before
            .map(|policy| self.registry_policy_answer(&policy.text))
            .ok_or_else(|| self.no_registry_policy())
    }

    fn registry_policy_answer(&self, text: &str) -> Value {
        json!({ "registryId": self.access.account(), "policyText": text })
    }
}
