//! The operations of STS that Berth serves.

use registry_aws::AwsError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AssumeRole,
    GetCallerIdentity,
}

impl Operation {
    pub(super) const NAMES: &'static [&'static str] = &["AssumeRole", "GetCallerIdentity"];

    pub(super) fn parse(name: &str) -> Result<Self, AwsError> {
        match name {
            "AssumeRole" => Ok(Self::AssumeRole),
            "GetCallerIdentity" => Ok(Self::GetCallerIdentity),
            _ => Err(AwsError::unknown_operation()),
        }
    }
}
