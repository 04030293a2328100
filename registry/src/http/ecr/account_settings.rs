//! Account settings: what holds for every repository of the registry.

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{invalid, registry_error};
use super::{Ecr, input};

const BLOB_MOUNTING: &str = "BLOB_MOUNTING";
const POLICY_SCOPE: &str = "REGISTRY_POLICY_SCOPE";
const SCAN_TYPE: &str = "BASIC_SCAN_TYPE_VERSION";
/// Registry policies hold for every action of ECR here.
const EVERY_ACTION: &str = "V2";

#[derive(Deserialize)]
struct Setting {
    name: String,
    value: Option<String>,
}

impl Ecr {
    pub(super) async fn get_account_setting(&self, input: Value) -> Result<Value, AwsError> {
        let Setting { name, .. } = input::parse(input)?;
        let value = match name.as_str() {
            BLOB_MOUNTING => {
                let enabled = self.registry.blob_mounting().await.map_err(registry_error)?;
                if enabled { "ENABLED" } else { "DISABLED" }
            }
            POLICY_SCOPE => EVERY_ACTION,
            _ => return Err(unknown(&name)),
        };
        Ok(json!({ "name": name, "value": value }))
    }

    /// What is not in effect is not stored.
    pub(super) async fn put_account_setting(&self, input: Value) -> Result<Value, AwsError> {
        let Setting { name, value } = input::parse(input)?;
        let value = value.ok_or_else(|| invalid("value", "must not be null"))?;
        match (name.as_str(), value.as_str()) {
            (BLOB_MOUNTING, "ENABLED" | "DISABLED") => {
                let set = self.registry.set_blob_mounting(value == "ENABLED").await;
                set.map_err(registry_error)?;
            }
            (BLOB_MOUNTING, _) => return Err(invalid("value", "must be one of [ENABLED, DISABLED]")),
            (POLICY_SCOPE, EVERY_ACTION) => {}
            (POLICY_SCOPE, _) => {
                return Err(AwsError::unsupported(format_args!(
                    "the value {value:.20} of {POLICY_SCOPE}: registry policies hold for every action ({EVERY_ACTION})"
                )));
            }
            _ => return Err(unknown(&name)),
        }
        Ok(json!({ "name": name, "value": value }))
    }
}

fn unknown(name: &str) -> AwsError {
    if name == SCAN_TYPE {
        return AwsError::unsupported(format_args!("the account setting {SCAN_TYPE}"));
    }
    invalid("name", "must be one of [BASIC_SCAN_TYPE_VERSION, REGISTRY_POLICY_SCOPE, BLOB_MOUNTING]")
}
