//! Berth's own operations that identity serves, and their actions.

use registry_aws::AwsError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    DescribePolicyGeneration,
    PublishPolicies,
}

impl Operation {
    pub(super) const NAMES: &'static [&'static str] = &["DescribePolicyGeneration", "PublishPolicies"];

    pub(super) fn parse(name: &str) -> Result<Self, AwsError> {
        match name {
            "DescribePolicyGeneration" => Ok(Self::DescribePolicyGeneration),
            "PublishPolicies" => Ok(Self::PublishPolicies),
            _ => Err(AwsError::unknown_operation()),
        }
    }

    pub(super) fn action(self) -> &'static str {
        match self {
            Self::DescribePolicyGeneration => "berth:DescribePolicyGeneration",
            Self::PublishPolicies => "berth:PublishPolicies",
        }
    }
}
