//! The operations of STS: those that Berth serves, and those it knows and does not offer.

use registry_aws::AwsError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AssumeRole,
    AssumeRoleWithWebIdentity,
    GetCallerIdentity,
    GetSessionToken,
    /// Known and not offered; its IAM action, which is asked for first.
    Unsupported(&'static str),
}

impl Operation {
    pub(super) const NAMES: &'static [&'static str] = &[
        "AssumeRole",
        "GetCallerIdentity",
        "GetSessionToken",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "AssumeRoot",
        "DecodeAuthorizationMessage",
        "GetAccessKeyInfo",
        "GetDelegatedAccessToken",
        "GetFederationToken",
        "GetWebIdentityToken",
    ];

    pub(super) fn parse(name: &str) -> Result<Self, AwsError> {
        match name {
            "AssumeRole" => Ok(Self::AssumeRole),
            "GetCallerIdentity" => Ok(Self::GetCallerIdentity),
            "GetSessionToken" => Ok(Self::GetSessionToken),
            "AssumeRoleWithSAML" => Ok(Self::Unsupported("sts:AssumeRoleWithSAML")),
            "AssumeRoleWithWebIdentity" => Ok(Self::AssumeRoleWithWebIdentity),
            "AssumeRoot" => Ok(Self::Unsupported("sts:AssumeRoot")),
            "DecodeAuthorizationMessage" => Ok(Self::Unsupported("sts:DecodeAuthorizationMessage")),
            "GetAccessKeyInfo" => Ok(Self::Unsupported("sts:GetAccessKeyInfo")),
            "GetDelegatedAccessToken" => Ok(Self::Unsupported("sts:GetDelegatedAccessToken")),
            "GetFederationToken" => Ok(Self::Unsupported("sts:GetFederationToken")),
            "GetWebIdentityToken" => Ok(Self::Unsupported("sts:GetWebIdentityToken")),
            _ => Err(AwsError::unknown_operation()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Operation;

    #[test]
    fn every_operation_is_known_and_named_as_its_action() {
        for name in Operation::NAMES {
            if let Operation::Unsupported(action) = Operation::parse(name).unwrap() {
                assert_eq!(action, format!("sts:{name}"));
            }
        }
        assert!(Operation::parse("TagSession").is_err(), "a right and no operation");
    }
}
