//! The operations of Amazon ECR's API, what each is done to, and which are offered here.
//!
//! The one table that gives every operation its name and its IAM action; a name that is not in it is no
//! operation, and nothing is called that the gate did not see under the action written here.

/// What an operation is done to, which is what the gate is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The registry: the action knows no resources.
    Registry,
    /// The repository of the member `repositoryName`.
    Repository,
    /// The repositories of the member `repositoryNames`, or all.
    Repositories,
    /// The repository whose ARN stands in the member `resourceArn`.
    Arn,
}

macro_rules! operations {
    ($($name:ident $target:ident $action:literal,)*) => {
        /// An operation by its name in the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Operation {
            $($name,)*
        }

        impl Operation {
            pub(super) const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            pub(super) fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }

            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The IAM action that must be allowed.
            pub(super) fn action(self) -> &'static str {
                match self {
                    $(Self::$name => $action,)*
                }
            }

            pub(super) fn target(self) -> Target {
                match self {
                    $(Self::$name => Target::$target,)*
                }
            }
        }
    };
}

operations! {
    BatchCheckLayerAvailability Repository "ecr:BatchCheckLayerAvailability",
    BatchDeleteImage Repository "ecr:BatchDeleteImage",
    BatchGetImage Repository "ecr:BatchGetImage",
    BatchGetRepositoryScanningConfiguration Repositories "ecr:BatchGetRepositoryScanningConfiguration",
    CompleteLayerUpload Repository "ecr:CompleteLayerUpload",
    CreatePullThroughCacheRule Registry "ecr:CreatePullThroughCacheRule",
    CreateRepository Repository "ecr:CreateRepository",
    CreateRepositoryCreationTemplate Registry "ecr:CreateRepositoryCreationTemplate",
    DeleteLifecyclePolicy Repository "ecr:DeleteLifecyclePolicy",
    DeletePullThroughCacheRule Registry "ecr:DeletePullThroughCacheRule",
    DeleteRegistryPolicy Registry "ecr:DeleteRegistryPolicy",
    DeleteRepository Repository "ecr:DeleteRepository",
    DeleteRepositoryCreationTemplate Registry "ecr:DeleteRepositoryCreationTemplate",
    DeleteRepositoryPolicy Repository "ecr:DeleteRepositoryPolicy",
    DeleteSigningConfiguration Registry "ecr:DeleteSigningConfiguration",
    DeregisterPullTimeUpdateExclusion Registry "ecr:DeregisterPullTimeUpdateExclusion",
    DescribeImageReplicationStatus Repository "ecr:DescribeImageReplicationStatus",
    DescribeImageScanFindings Repository "ecr:DescribeImageScanFindings",
    DescribeImageSigningStatus Repository "ecr:DescribeImageSigningStatus",
    DescribeImages Repository "ecr:DescribeImages",
    DescribePullThroughCacheRules Registry "ecr:DescribePullThroughCacheRules",
    DescribeRegistry Registry "ecr:DescribeRegistry",
    DescribeReplicationBackfillResults Registry "ecr:DescribeReplicationBackfillResults",
    DescribeRepositories Repositories "ecr:DescribeRepositories",
    DescribeRepositoryCreationTemplates Registry "ecr:DescribeRepositoryCreationTemplates",
    GetAccountSetting Registry "ecr:GetAccountSetting",
    GetAuthorizationToken Registry "ecr:GetAuthorizationToken",
    GetDownloadUrlForLayer Repository "ecr:GetDownloadUrlForLayer",
    GetLifecyclePolicy Repository "ecr:GetLifecyclePolicy",
    GetLifecyclePolicyPreview Repository "ecr:GetLifecyclePolicyPreview",
    GetRegistryPolicy Registry "ecr:GetRegistryPolicy",
    GetRegistryScanningConfiguration Registry "ecr:GetRegistryScanningConfiguration",
    GetRepositoryPolicy Repository "ecr:GetRepositoryPolicy",
    GetSigningConfiguration Registry "ecr:GetSigningConfiguration",
    InitiateLayerUpload Repository "ecr:InitiateLayerUpload",
    // The Service Authorization Reference has no action of this name; referrers are read as OCI's are.
    ListImageReferrers Repository "ecr:ListImages",
    ListImages Repository "ecr:ListImages",
    ListPullTimeUpdateExclusions Registry "ecr:ListPullTimeUpdateExclusions",
    ListReplicationBackfills Registry "ecr:ListReplicationBackfills",
    ListTagsForResource Arn "ecr:ListTagsForResource",
    PutAccountSetting Registry "ecr:PutAccountSetting",
    PutImage Repository "ecr:PutImage",
    PutImageScanningConfiguration Repository "ecr:PutImageScanningConfiguration",
    PutImageTagMutability Repository "ecr:PutImageTagMutability",
    PutLifecyclePolicy Repository "ecr:PutLifecyclePolicy",
    PutRegistryPolicy Registry "ecr:PutRegistryPolicy",
    PutRegistryScanningConfiguration Registry "ecr:PutRegistryScanningConfiguration",
    PutReplicationConfiguration Registry "ecr:PutReplicationConfiguration",
    PutSigningConfiguration Registry "ecr:PutSigningConfiguration",
    RegisterPullTimeUpdateExclusion Registry "ecr:RegisterPullTimeUpdateExclusion",
    SetRepositoryPolicy Repository "ecr:SetRepositoryPolicy",
    StartImageScan Repository "ecr:StartImageScan",
    StartLifecyclePolicyPreview Repository "ecr:StartLifecyclePolicyPreview",
    StartReplicationBackfill Registry "ecr:StartReplicationBackfill",
    StopReplicationBackfill Registry "ecr:StopReplicationBackfill",
    TagResource Arn "ecr:TagResource",
    UntagResource Arn "ecr:UntagResource",
    UpdateImageStorageClass Repository "ecr:UpdateImageStorageClass",
    UpdatePullThroughCacheRule Registry "ecr:UpdatePullThroughCacheRule",
    UpdateRepositoryCreationTemplate Registry "ecr:UpdateRepositoryCreationTemplate",
    UploadLayerPart Repository "ecr:UploadLayerPart",
    ValidatePullThroughCacheRule Registry "ecr:ValidatePullThroughCacheRule",
}

#[cfg(test)]
mod tests {
    use super::Operation;

    #[test]
    fn all_operations_of_the_model_are_known() {
        assert_eq!(Operation::NAMES.len(), 62);
        for name in Operation::NAMES {
            assert_eq!(Operation::parse(name).unwrap().name(), *name);
        }
        assert_eq!(Operation::parse("createRepository"), None);
    }

    #[test]
    fn actions_are_named_as_their_operations_but_for_referrers() {
        for name in Operation::NAMES {
            let action = Operation::parse(name).unwrap().action();
            let expected = if *name == "ListImageReferrers" { "ListImages" } else { name };
            assert_eq!(action, format!("ecr:{expected}"));
        }
    }
}
