//! What IAM answers instead of a result, with AWS's codes and states.

use registry_aws::AwsError;
use registry_sql::ConstraintKind;
use thiserror::Error;

/// Why an operation was not done. The text is for the caller.
#[derive(Debug, Error)]
pub(super) enum IamError {
    #[error("{0}")]
    NoSuchEntity(String),
    #[error("{0}")]
    EntityAlreadyExists(String),
    #[error("{0}")]
    DeleteConflict(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error("{0}")]
    MalformedPolicyDocument(String),
    #[error("{0}")]
    InvalidInput(String),
    #[error("{0}")]
    Validation(String),
    /// It belongs to the policy files, or to Berth.
    #[error("{0}")]
    Unmodifiable(String),
    #[error("the database does not answer as it should")]
    Database(#[from] registry_sql::Error),
}

impl IamError {
    pub(super) fn quota(what: &str, most: usize) -> Self {
        Self::LimitExceeded(format!("Cannot exceed quota for {what}: {most}"))
    }

    pub(super) fn conflict(first: &str) -> Self {
        Self::DeleteConflict(format!("Cannot delete entity, must {first} first."))
    }
}

impl From<IamError> for AwsError {
    fn from(error: IamError) -> Self {
        match error {
            IamError::NoSuchEntity(message) => AwsError::new(404, "NoSuchEntity", message),
            IamError::EntityAlreadyExists(message) => AwsError::new(409, "EntityAlreadyExists", message),
            IamError::DeleteConflict(message) => AwsError::new(409, "DeleteConflict", message),
            IamError::LimitExceeded(message) => AwsError::new(409, "LimitExceeded", message),
            IamError::MalformedPolicyDocument(message) => {
                AwsError::client("MalformedPolicyDocument", message)
            }
            IamError::InvalidInput(message) => AwsError::client("InvalidInput", message),
            IamError::Validation(message) => AwsError::client("ValidationError", message),
            IamError::Unmodifiable(message) => AwsError::client("UnmodifiableEntity", message),
            // Another server was faster.
            IamError::Database(registry_sql::Error::Constraint { kind: ConstraintKind::Unique, .. }) => {
                AwsError::new(409, "EntityAlreadyExists", "An entity of this name already exists.")
            }
            IamError::Database(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an operation of IAM failed");
                AwsError::server()
            }
        }
    }
}
