//! Image scanning: `scanOnPush` is stored and shown, and every image says that nothing scans it.

use registry_aws::AwsError;
use registry_core::CoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::invalid;
use super::repositories::ImageScanningConfiguration;
use super::{Ecr, input};

/// ECR's limit for this operation.
const MAX_REPOSITORIES: usize = 25;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutImageScanningConfigurationRequest {
    image_scanning_configuration: ImageScanningConfiguration,
}

/// What images of a repository with `scanOnPush` report.
pub(super) fn not_in_effect() -> Value {
    json!({
        "status": "FINDINGS_UNAVAILABLE",
        "description": "Berth does not scan images: scanOnPush is stored and not in effect.",
    })
}

impl Ecr {
    pub(super) fn get_registry_scanning_configuration(&self) -> Value {
        json!({
            "registryId": self.access.account(),
            "scanningConfiguration": { "scanType": "BASIC", "rules": [] },
        })
    }

    pub(super) async fn batch_get_repository_scanning_configuration(
        &self,
        input: Value,
    ) -> Result<Value, AwsError> {
        let names =
            input::repository_names(&input)?.ok_or_else(|| invalid("repositoryNames", "must not be null"))?;
        if names.len() > MAX_REPOSITORIES {
            return Err(invalid("repositoryNames", "must have 1 to 25 items"));
        }
        let (mut configurations, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            let found = self.registry.repository(&name).await;
            match found.map_err(|error| self.subject(&name).error(error))? {
                Some(repository) => configurations.push(json!({
                    "repositoryArn": self.access.repository_arn(&name),
                    "repositoryName": name,
                    "scanOnPush": repository.scan_on_push,
                    "scanFrequency": if repository.scan_on_push { "SCAN_ON_PUSH" } else { "MANUAL" },
                    "appliedScanFilters": [],
                })),
                None => failures.push(json!({
                    "repositoryName": name,
                    "failureCode": "REPOSITORY_NOT_FOUND",
                    "failureReason": self.subject(&name).error(CoreError::RepositoryNotFound).message,
                })),
            }
        }
        Ok(json!({ "scanningConfigurations": configurations, "failures": failures }))
    }

    pub(super) async fn put_image_scanning_configuration(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: PutImageScanningConfigurationRequest = input::parse(input)?;
        let scan_on_push = request.image_scanning_configuration.scan_on_push;
        let changed = self.registry.set_scan_on_push(&repository.uid, scan_on_push).await;
        changed.map_err(|error| self.subject(&repository.name).error(error))?;
        Ok(json!({
            "registryId": self.access.account(),
            "repositoryName": repository.name,
            "imageScanningConfiguration": { "scanOnPush": scan_on_push },
        }))
    }
}
