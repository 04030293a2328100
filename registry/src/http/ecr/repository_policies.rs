//! Repository policies: who else may do what to one repository.

use std::sync::Arc;

use policies::{Finding, Policy, PolicyKind, Severity};
use policies_identity::{Caller, RequestContext};
use registry_aws::AwsError;
use registry_core::Repository;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::invalid;
use super::operation::Operation;
use super::{Ecr, input};

/// ECR's limit, in characters.
const MAX_POLICY_CHARS: usize = 10_240;

/// The one service whose actions are done to repositories.
const SERVICE: &str = "ecr";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetRepositoryPolicyRequest {
    policy_text: Option<String>,
    #[serde(default)]
    force: bool,
}

impl Ecr {
    /// A policy that would keep its own author from changing it again needs `force`.
    pub(super) async fn set_repository_policy(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        input: Value,
    ) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: SetRepositoryPolicyRequest = input::parse(input)?;
        let text = request.policy_text.ok_or_else(|| invalid("policyText", "must not be null"))?;
        let policy = parse_policy(&text, PolicyKind::RepositoryPolicy)?;
        // A document that is in force already stays so; what could never count for a repository is not stored anew.
        if policy.services().any(|service| service != SERVICE) {
            return Err(invalid("PolicyText", "Invalid repository policy provided"));
        }
        let action = Operation::SetRepositoryPolicy.action();
        let check = self.access.check(action, &repository.name, Some(&repository));
        let check = check.with_resource_policy(Some(Arc::new(policy)));
        if !request.force && self.identity.probe(ctx, caller, &check).is_err() {
            return Err(invalid(
                "policyText",
                "the policy would keep you from setting another one in the future; set force to do it anyway",
            ));
        }
        let set = self.registry.set_repository_policy(&repository.uid, Some(text.clone())).await;
        set.map_err(|error| self.subject(&repository.name).error(error))?;
        Ok(self.policy_answer(&repository, &text))
    }

    pub(super) async fn get_repository_policy(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        match &repository.policy {
            Some(policy) => Ok(self.policy_answer(&repository, &policy.text)),
            None => Err(self.no_repository_policy(&repository)),
        }
    }

    pub(super) async fn delete_repository_policy(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let removed = self.registry.set_repository_policy(&repository.uid, None).await;
        match removed.map_err(|error| self.subject(&repository.name).error(error))? {
            Some(policy) => Ok(self.policy_answer(&repository, &policy.text)),
            None => Err(self.no_repository_policy(&repository)),
        }
    }

    fn policy_answer(&self, repository: &Repository, text: &str) -> Value {
        json!({
            "registryId": self.access.account(),
            "repositoryName": repository.name,
            "policyText": text,
        })
    }

    fn no_repository_policy(&self, repository: &Repository) -> AwsError {
        AwsError::client(
            "RepositoryPolicyNotFoundException",
            format!(
                "Repository policy does not exist for the repository with name '{}' in the registry with id '{}'",
                repository.name,
                self.access.account()
            ),
        )
    }
}

/// A document that would not be in force is not stored; the answer says where each error stands.
pub(super) fn parse_policy(text: &str, kind: PolicyKind) -> Result<Policy, AwsError> {
    if text.chars().count() > MAX_POLICY_CHARS {
        return Err(invalid("policyText", "must have at most 10240 characters"));
    }
    match Policy::parse(text, kind) {
        Ok(policy) => Ok(policy),
        Err(findings) => {
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
            let places: Vec<String> = errors.map(place).collect();
            Err(invalid("policyText", &format!("Invalid policy provided: {}", places.join("; "))))
        }
    }
}

fn place(finding: &Finding) -> String {
    format!("line {}, column {}: {}", finding.line, finding.column, finding.message)
}
