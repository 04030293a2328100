//! What is told of the registry as a whole.

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
}
