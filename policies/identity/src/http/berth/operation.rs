//! Berth's own operations that identity serves, and their actions.

use registry_aws::AwsError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    DescribePolicyGeneration,
    GetPolicyFiles,
    PublishPolicies,
    RevokeSessions,
    WhoCan,
}

impl Operation {
    pub(super) const NAMES: &'static [&'static str] =
        &["DescribePolicyGeneration", "GetPolicyFiles", "PublishPolicies", "RevokeSessions", "WhoCan"];

    pub(super) fn parse(name: &str) -> Result<Self, AwsError> {
        match name {
            "DescribePolicyGeneration" => Ok(Self::DescribePolicyGeneration),
            "GetPolicyFiles" => Ok(Self::GetPolicyFiles),
            "PublishPolicies" => Ok(Self::PublishPolicies),
            "RevokeSessions" => Ok(Self::RevokeSessions),
            "WhoCan" => Ok(Self::WhoCan),
            _ => Err(AwsError::unknown_operation()),
        }
    }

    pub(super) fn action(self) -> &'static str {
        match self {
            Self::DescribePolicyGeneration => "berth:DescribePolicyGeneration",
            Self::GetPolicyFiles => "berth:GetPolicyFiles",
            Self::PublishPolicies => "berth:PublishPolicies",
            Self::RevokeSessions => "berth:RevokeSessions",
            Self::WhoCan => "berth:WhoCan",
        }
    }
}
