//! The operations of STS that Berth serves.

use registry_aws::AwsError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AssumeRole,
    GetCallerIdentity,
    GetSessionToken,
}

impl Operation {
    pub(super) const NAMES: &'static [&'static str] = &["AssumeRole", "GetCallerIdentity", "GetSessionToken"];

    pub(super) fn parse(name: &str) -> Result<Self, AwsError> {
        match name {
            "AssumeRole" => Ok(Self::AssumeRole),
            "GetCallerIdentity" => Ok(Self::GetCallerIdentity),
            "GetSessionToken" => Ok(Self::GetSessionToken),
            _ => Err(AwsError::unknown_operation()),
        }
    }
}
