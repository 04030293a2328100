//! What the rules say about single services.

use super::Prepared;
use crate::pattern::FoldedAction;

/// Services that resource control policies reach, in order: Organizations user guide, "List of AWS services
/// that support RCPs".
const RESOURCE_CONTROLLED: [&str; 62] = [
    "aoss",
    "appconfig",
    "appstream",
    "autoscaling",
    "autoscaling-plans",
    "budgets",
    "clouddirectory",
    "cloudfront",
    "cloudsearch",
    "cloudtrail-data",
    "codeartifact",
    "codebuild",
    "codecommit",
    "codepipeline",
    "cognito-identity",
    "cognito-idp",
    "comprehend",
    "comprehendmedical",
    "compute-optimizer",
    "cost-optimization-hub",
    "dax",
    "dsql",
    "dynamodb",
    "ecr",
    "ecr-public",
    "events",
    "firehose",
    "fis",
    "fms",
    "gamelift",
    "health",
    "inspector-scan",
    "kendra",
    "kinesisvideo",
    "kms",
    "logs",
    "memorydb",
    "networkmonitor",
    "notifications",
    "opensearch",
    "pca-connector-ad",
    "personalize",
    "polly",
    "pricing",
    "resource-groups",
    "rolesanywhere",
    "s3",
    "secretsmanager",
    "servicediscovery",
    "signin",
    "sqs",
    "sts",
    "support",
    "swf",
    "textract",
    "timestream-influxdb",
    "transcribe",
    "transfer",
    "translate",
    "wafv2",
    "workspaces",
    "xray",
];

/// Whether resource control policies bear on this action.
pub(super) fn are_resource_controlled(action: &FoldedAction<'_>) -> bool {
    // The one action that the guide excepts.
    action.text() != "kms:retiregrant" && RESOURCE_CONTROLLED.binary_search(&action.service()).is_ok()
}

/// Whether what is asked is to become a role, which its trust policy decides about.
pub(super) fn takes_a_role(request: &Prepared<'_>) -> bool {
    request.action.text().starts_with("sts:assumerole") || is_sts_on_a_role(request)
}

/// Whether the resource's own policy must allow, even inside one account: the trust policy of a role and the
/// policy of a KMS key.
pub(super) fn resource_decides(request: &Prepared<'_>) -> bool {
    let part = request.resource.map_or("", |arn| arn.resource_part());
    takes_a_role(request) || (request.action.service() == "kms" && part.starts_with("key/"))
}

fn is_sts_on_a_role(request: &Prepared<'_>) -> bool {
    // TagSession and SetSourceIdentity.
    request.action.service() == "sts"
        && request.resource.is_some_and(|arn| arn.resource_part().starts_with("role/"))
}

#[cfg(test)]
mod tests {
    use super::RESOURCE_CONTROLLED;

    #[test]
    fn services_can_be_searched() {
        assert!(RESOURCE_CONTROLLED.is_sorted());
    }
}
