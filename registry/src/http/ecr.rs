//! Amazon ECR's API over the registry: JSON 1.1, target `AmazonEC2ContainerRegistry_V20150921`.
//!
//! `checks` names what the gate must allow before `call` runs; both read the one table of operations. All 62
//! operations of the API are known; those that are not offered say so, after the gate has said yes.

mod account_settings;
mod authorization;
mod error;
mod images;
mod input;
mod layers;
mod lifecycle_policies;
mod manifests;
mod operation;
mod pull_through;
mod registry_policies;
mod registry_settings;
mod repositories;
mod repository_policies;
mod resource_tags;
mod scanning;
mod through;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, Identity, RequestContext};
use registry_aws::AwsError;
use registry_core::{Registry, Repository};
use registry_types::RepositoryName;
use serde_json::Value;

use self::error::{Subject, invalid, repository_not_found};
use self::operation::{Operation, Target};
use self::through::Asking;
use crate::access::Access;
use crate::pull_through::{PullThrough, PullThroughConfig};

/// The API and what it stands on.
pub struct Ecr {
    registry: Registry,
    identity: Identity,
    access: Arc<Access>,
    /// `HOST[:PORT]` under which clients reach this registry; without it the request's own host stands in.
    advertise: Option<String>,
    pull_through: PullThrough,
}

impl Ecr {
    /// Every operation's name, offered or not.
    pub const OPERATIONS: &'static [&'static str] = Operation::NAMES;

    pub fn new(
        registry: Registry,
        identity: Identity,
        access: Arc<Access>,
        advertise: Option<String>,
    ) -> Self {
        let config = PullThroughConfig::default();
        let pull_through = PullThrough::new(registry.clone(), identity.clone(), Arc::clone(&access), config);
        Self { registry, identity, access, advertise, pull_through }
    }

    /// The same, over rules that others act by.
    #[must_use]
    pub fn with_pull_through(self, pull_through: PullThrough) -> Self {
        Self { pull_through, ..self }
    }

    /// The one host name that every `repositoryUri` begins with.
    fn host(&self, ctx: &RequestContext) -> String {
        self.advertise.clone().or_else(|| ctx.host.clone()).unwrap_or_else(|| {
            format!("{}.dkr.ecr.{}.amazonaws.com", self.access.account(), self.access.region())
        })
    }

    fn subject<'a>(&'a self, repository: &'a RepositoryName) -> Subject<'a> {
        Subject { registry: self.access.account(), repository }
    }

    /// The repository's name in the request, or `RepositoryNotFoundException` when another registry is meant.
    fn named(&self, input: &Value) -> Result<RepositoryName, AwsError> {
        let name = input::repository_name(input)?;
        self.check_registry(input, &name)?;
        Ok(name)
    }

    /// The repository of the request, or `RepositoryNotFoundException`; also when another registry is meant.
    async fn found(&self, input: &Value) -> Result<Repository, AwsError> {
        self.found_by_name(&self.named(input)?).await
    }

    async fn found_by_name(&self, name: &RepositoryName) -> Result<Repository, AwsError> {
        match self.registry.repository(name).await {
            Ok(Some(repository)) => Ok(repository),
            Ok(None) => Err(repository_not_found(self.access.account().as_str(), name)),
            Err(error) => Err(self.subject(name).error(error)),
        }
    }

    /// There is one registry here; in others nothing exists.
    fn check_registry(&self, input: &Value, name: &RepositoryName) -> Result<(), AwsError> {
        match input.get("registryId") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(id)) if id == self.access.account().as_str() => Ok(()),
            Some(Value::String(id)) if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(repository_not_found(id, name))
            }
            Some(_) => Err(invalid("registryId", "must satisfy regular expression '[0-9]{12}'")),
        }
    }

    /// The check of an action on one repository, with that repository's own policy and tags.
    async fn check(&self, action: &'static str, name: &RepositoryName) -> Result<Check, AwsError> {
        let repository =
            self.registry.repository(name).await.map_err(|error| self.subject(name).error(error))?;
        Ok(self.access.check(action, name, repository.as_ref()))
    }

    async fn repository_checks(&self, operation: Operation, input: &Value) -> Result<Vec<Check>, AwsError> {
        let name = input::repository_name(input)?;
        let check = self.check(operation.action(), &name).await?;
        if operation != Operation::CreateRepository {
            return Ok(vec![check]);
        }
        let tags = resource_tags::of_request(input)?;
        if tags.is_empty() {
            return Ok(vec![check]);
        }
        // Whoever creates with tags needs the right to tag as well.
        let tagging = self.access.check(Operation::TagResource.action(), &name, None);
        Ok(vec![with_request_tags(check, &tags), with_request_tags(tagging, &tags)])
    }

    async fn arn_checks(&self, operation: Operation, input: &Value) -> Result<Vec<Check>, AwsError> {
        let name = resource_tags::repository_of_arn(&self.access, input)?;
        let check = self.check(operation.action(), &name).await?;
        Ok(vec![match operation {
            Operation::TagResource => with_request_tags(check, &resource_tags::of_request(input)?),
            Operation::UntagResource => {
                check.with_many("aws:TagKeys", resource_tags::keys_of_request(input)?)
            }
            _ => check,
        }])
    }
}

fn with_request_tags(mut check: Check, tags: &BTreeMap<String, String>) -> Check {
    for (key, value) in tags {
        check = check.with(format!("aws:RequestTag/{key}"), value);
    }
    check.with_many("aws:TagKeys", tags.keys().cloned().collect())
}

fn parse_operation(name: &str) -> Result<Operation, AwsError> {
    Operation::parse(name).ok_or_else(AwsError::unknown_operation)
}

#[async_trait]
impl AwsApi for Ecr {
    fn signing_name(&self) -> &'static str {
        "ecr"
    }

    fn target_prefix(&self) -> &'static str {
        "AmazonEC2ContainerRegistry_V20150921"
    }

    fn operations(&self) -> &'static [&'static str] {
        Operation::NAMES
    }

    fn answers_with_secret(&self, operation: &str) -> bool {
        operation == "GetAuthorizationToken"
    }

    /// The largest layer part in base64, which is longer than a manifest of 4 MiB with every quote escaped; and as much
    /// more as lets one that is too large be refused as such.
    fn body_limit(&self) -> usize {
        32 * 1024 * 1024
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        let operation = parse_operation(operation)?;
        match operation.target() {
            Target::Registry => Ok(vec![Check::any(operation.action())]),
            Target::Repository => self.repository_checks(operation, input).await,
            Target::Arn => self.arn_checks(operation, input).await,
            Target::Repositories => match input::repository_names(input)? {
                None => Ok(vec![Check::on(operation.action(), self.access.every_repository())]),
                Some(names) => {
                    let mut checks = Vec::with_capacity(names.len());
                    for name in &names {
                        checks.push(self.check(operation.action(), name).await?);
                    }
                    Ok(checks)
                }
            },
        }
    }

    async fn call(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        let operation = parse_operation(operation)?;
        let asking = Asking { ecr: self, ctx, caller, operation };
        match operation {
            Operation::GetAuthorizationToken => self.get_authorization_token(ctx, caller, input),

            Operation::CreateRepository => self.create_repository(ctx, input).await,
            Operation::DescribeRepositories => self.describe_repositories(ctx, caller, input).await,
            Operation::DeleteRepository => self.delete_repository(ctx, input).await,
            Operation::PutImageTagMutability => self.put_image_tag_mutability(input).await,

            Operation::SetRepositoryPolicy => self.set_repository_policy(ctx, caller, input).await,
            Operation::GetRepositoryPolicy => self.get_repository_policy(input).await,
            Operation::DeleteRepositoryPolicy => self.delete_repository_policy(input).await,

            Operation::TagResource => self.tag_resource(input).await,
            Operation::UntagResource => self.untag_resource(input).await,
            Operation::ListTagsForResource => self.list_tags_for_resource(input).await,

            Operation::ListImages => self.list_images(input).await,
            Operation::DescribeImages => self.describe_images(input).await,
            Operation::BatchGetImage => self.batch_get_image(asking, input).await,
            Operation::BatchDeleteImage => self.batch_delete_image(input).await,
            Operation::PutImage => self.put_image(input).await,
            Operation::ListImageReferrers => self.list_image_referrers(asking, input).await,

            Operation::BatchCheckLayerAvailability => self.batch_check_layer_availability(input).await,
            Operation::InitiateLayerUpload => self.initiate_layer_upload(caller, input).await,
            Operation::UploadLayerPart => Box::pin(self.upload_layer_part(caller, input)).await,
            Operation::CompleteLayerUpload => self.complete_layer_upload(caller, input).await,
            Operation::GetDownloadUrlForLayer => self.get_download_url_for_layer(asking, input).await,

            Operation::DescribeRegistry => Ok(self.describe_registry()),
            Operation::PutRegistryPolicy => self.put_registry_policy(input).await,
            Operation::GetRegistryPolicy => self.get_registry_policy().await,
            Operation::DeleteRegistryPolicy => self.delete_registry_policy().await,
            Operation::PutAccountSetting => self.put_account_setting(input).await,
            Operation::GetAccountSetting => self.get_account_setting(input).await,
            Operation::PutLifecyclePolicy => self.put_lifecycle_policy(input).await,
            Operation::GetLifecyclePolicy => self.get_lifecycle_policy(input).await,
            Operation::DeleteLifecyclePolicy => self.delete_lifecycle_policy(input).await,
            Operation::StartLifecyclePolicyPreview => self.start_lifecycle_policy_preview(input).await,
            Operation::GetLifecyclePolicyPreview => self.get_lifecycle_policy_preview(input).await,
            Operation::GetRegistryScanningConfiguration => Ok(self.get_registry_scanning_configuration()),
            Operation::BatchGetRepositoryScanningConfiguration => {
                self.batch_get_repository_scanning_configuration(input).await
            }
            Operation::PutImageScanningConfiguration => self.put_image_scanning_configuration(input).await,

            Operation::CreatePullThroughCacheRule => self.create_pull_through_cache_rule(input).await,
            Operation::DescribePullThroughCacheRules => self.describe_pull_through_cache_rules(input).await,
            Operation::DeletePullThroughCacheRule => self.delete_pull_through_cache_rule(input).await,
            Operation::UpdatePullThroughCacheRule => self.update_pull_through_cache_rule(input).await,
            Operation::ValidatePullThroughCacheRule => self.validate_pull_through_cache_rule(input).await,

            Operation::CreateRepositoryCreationTemplate
            | Operation::DeleteRepositoryCreationTemplate
            | Operation::DeleteSigningConfiguration
            | Operation::DeregisterPullTimeUpdateExclusion
            | Operation::DescribeImageReplicationStatus
            | Operation::DescribeImageScanFindings
            | Operation::DescribeImageSigningStatus
            | Operation::DescribeReplicationBackfillResults
            | Operation::DescribeRepositoryCreationTemplates
            | Operation::GetSigningConfiguration
            | Operation::ListPullTimeUpdateExclusions
            | Operation::ListReplicationBackfills
            | Operation::PutRegistryScanningConfiguration
            | Operation::PutReplicationConfiguration
            | Operation::PutSigningConfiguration
            | Operation::RegisterPullTimeUpdateExclusion
            | Operation::StartImageScan
            | Operation::StartReplicationBackfill
            | Operation::StopReplicationBackfill
            | Operation::UpdateImageStorageClass
            | Operation::UpdateRepositoryCreationTemplate => {
                Err(AwsError::unsupported(format_args!("the operation {} of Amazon ECR", operation.name())))
            }
        }
    }
}
