//! One question to the gate: may the caller do this action on this resource?

use std::sync::Arc;

use policies::{ContextValue, Policy};
use registry_types::Arn;

/// What an operation needs. An operation with several checks needs all of them.
#[derive(Clone, Debug)]
pub struct Check {
    /// The IAM action, such as `ecr:PutImage`.
    pub action: &'static str,
    pub resource: Resource,
    /// Condition keys of this request beside the global ones, such as `ecs:cluster`.
    pub context: Vec<(String, ContextValue)>,
    /// The policy that the resource itself carries (a repository's, set through the ECR API).
    pub resource_policy: Option<Arc<Policy>>,
    /// The policy of the registry that the resource belongs to.
    pub registry_policy: Option<Arc<Policy>>,
    /// How a refusal names the resource, where its ARN would tell what exists; `None` for the ARN itself.
    pub shown: Option<String>,
}

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The action knows no resources: only policies with `Resource: "*"` allow it.
    Any,
    Arn(Arn),
}

impl Resource {
    /// The ARN, or `*`.
    pub fn as_str(&self) -> &str {
        match self {
            Resource::Any => "*",
            Resource::Arn(arn) => arn.as_str(),
        }
    }
}

impl Check {
    /// A check of an action that knows no resources.
    pub fn any(action: &'static str) -> Self {
        Self::of(action, Resource::Any)
    }

    /// A check of an action on one resource.
    pub fn on(action: &'static str, resource: Arn) -> Self {
        Self::of(action, Resource::Arn(resource))
    }

    fn of(action: &'static str, resource: Resource) -> Self {
        Self {
            action,
            resource,
            context: Vec::new(),
            resource_policy: None,
            registry_policy: None,
            shown: None,
        }
    }

    /// Names the resource so in a refusal.
    #[must_use]
    pub fn shown_as(mut self, shown: String) -> Self {
        self.shown = Some(shown);
        self
    }

    /// Adds a condition key with one value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.push((key.into(), ContextValue::One(value.into())));
        self
    }

    /// Adds a condition key with several values, such as `aws:TagKeys`.
    #[must_use]
    pub fn with_many(mut self, key: impl Into<String>, values: Vec<String>) -> Self {
        self.context.push((key.into(), ContextValue::Many(values)));
        self
    }

    /// Adds the resource's own policy.
    #[must_use]
    pub fn with_resource_policy(mut self, policy: Option<Arc<Policy>>) -> Self {
        self.resource_policy = policy;
        self
    }

    /// Adds the policy of the registry that holds the resource.
    #[must_use]
    pub fn with_registry_policy(mut self, policy: Option<Arc<Policy>>) -> Self {
        self.registry_policy = policy;
        self
    }
}
