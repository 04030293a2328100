//! What is told of the registry as a whole, and what cannot be set yet.

use registry_aws::AwsError;
use serde_json::{Value, json};

use super::Ecr;

impl Ecr {
    pub(super) fn describe_registry(&self) -> Value {
        json!({
            "registryId": self.access.account(),
            "replicationConfiguration": { "rules": [] },
        })
    }

    pub(super) fn no_registry_policy(&self) -> AwsError {
        AwsError::client(
            "RegistryPolicyNotFoundException",
            format!("Registry policy does not exist in the registry with id '{}'", self.access.account()),
        )
    }

    pub(super) async fn get_lifecycle_policy(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        Err(AwsError::client(
            "LifecyclePolicyNotFoundException",
            format!(
                "Lifecycle policy does not exist for the repository with name '{}' in the registry with id '{}'",
                repository.name,
                self.access.account()
            ),
        ))
    }
}
