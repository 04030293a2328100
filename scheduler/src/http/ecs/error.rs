//! ECS's exceptions with the messages that its clients look for.

use registry_aws::AwsError;
use scheduler_protocol::{INACTIVE_INSTANCE, UNKNOWN_INSTANCE};

pub(crate) fn client(message: impl Into<String>) -> AwsError {
    AwsError::client("ClientException", message)
}

pub(crate) fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::invalid_parameter(message)
}

pub(crate) fn cluster_not_found() -> AwsError {
    AwsError::client("ClusterNotFoundException", "Cluster not found.")
}

pub(crate) fn service_not_found() -> AwsError {
    AwsError::client("ServiceNotFoundException", "Service not found.")
}

pub(crate) fn service_not_active() -> AwsError {
    AwsError::client("ServiceNotActiveException", "Service was not ACTIVE.")
}

pub(crate) fn task_not_found() -> AwsError {
    invalid("The referenced task was not found.")
}

pub(crate) fn instance_not_found() -> AwsError {
    invalid(UNKNOWN_INSTANCE)
}

/// A host speaks for an instance that was deregistered.
pub(crate) fn instance_inactive() -> AwsError {
    client(format!(
        "{INACTIVE_INSTANCE}: it was deregistered. Its host comes back as a new one: by another join token, or without \
         what its agent has saved."
    ))
}

pub(crate) fn definition_not_found() -> AwsError {
    client("TaskDefinition not found.")
}

pub(crate) fn target_not_found(id: &str) -> AwsError {
    AwsError::client("TargetNotFoundException", format!("Could not find the target {id}."))
}

pub(crate) fn resource_not_found() -> AwsError {
    AwsError::client("ResourceNotFoundException", "The specified resource could not be found.")
}

pub(crate) fn conflict(message: impl Into<String>) -> AwsError {
    AwsError::client("ConflictException", message)
}

pub(crate) fn limit(message: impl Into<String>) -> AwsError {
    AwsError::client("LimitExceededException", message)
}

pub(crate) fn access_denied(message: impl Into<String>) -> AwsError {
    AwsError::new(400, "AccessDeniedException", message)
}

/// A known operation, or a member of one, that Berth does not offer.
pub(crate) fn unsupported(what: &str) -> AwsError {
    AwsError::client("UnsupportedFeatureException", format!("Berth does not support {what}."))
}
