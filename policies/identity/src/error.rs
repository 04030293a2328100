//! What can go wrong, by what the receiver can do about it.

use registry_aws::AwsError;
use thiserror::Error;

use crate::authorize::Denied;

/// An error of the identity store or of an operation on it.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("the database does not answer as it should")]
    Database(#[from] registry_sql::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// The key directory is not the one that this database was made with.
    #[error("{0} does not open: the keys are not those of this database")]
    Sealed(&'static str),
    #[error("the account id is {stored} in the database and {configured} in the configuration")]
    AnotherAccount { stored: String, configured: String },
    #[error("{0}")]
    BootstrapKey(&'static str),
    #[error("{0} exists already")]
    AlreadyExists(String),
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("{0} belongs to the policy files: change it there")]
    OwnedByFiles(String),
    #[error("{0}")]
    Invalid(String),
    #[error("the credentials behind this are no longer valid")]
    Revoked,
    #[error("the policies in memory are older than a second: the database did not answer")]
    Stale,
    #[error("{what} failed")]
    File {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Why credentials were not accepted. Never says which part of them was wrong.
#[derive(Debug, Error)]
pub enum AuthenticationError {
    #[error("the request has no credentials")]
    Missing,
    #[error("the request's credentials are malformed: {0}")]
    Malformed(AwsError),
    /// An unknown key and a wrong secret are told alike.
    #[error("the credentials do not match")]
    Mismatch,
    #[error("the token is not valid")]
    InvalidToken,
    #[error("the credentials expired")]
    Expired,
    /// A password or token that crossed a network in clear; it was not looked at.
    #[error("this server takes passwords and tokens over TLS or loopback only")]
    InsecureTransport,
    /// The credentials are right, but may not be used this way.
    #[error("{0}")]
    Denied(Denied),
    #[error("the policies in memory are older than a second")]
    Unavailable,
}

impl AuthenticationError {
    /// AWS's code, status and message.
    pub fn to_aws(&self) -> AwsError {
        match self {
            Self::Missing => AwsError::missing_token(),
            Self::Malformed(aws) => aws.clone(),
            Self::Mismatch => AwsError::signature_mismatch(),
            Self::InvalidToken => AwsError::invalid_token(),
            Self::Expired => AwsError::expired_token(),
            Self::InsecureTransport => AwsError::access_denied(self.to_string()),
            Self::Denied(denied) => denied.to_aws(),
            Self::Unavailable => unavailable(),
        }
    }

    /// The word that the audit log uses.
    pub(crate) fn audit_word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Mismatch => "mismatch",
            Self::InvalidToken => "invalid-token",
            Self::Expired => "expired",
            Self::InsecureTransport => "insecure-transport",
            Self::Denied(_) => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<AuthenticationError> for AwsError {
    fn from(error: AuthenticationError) -> Self {
        error.to_aws()
    }
}

/// The answer while the snapshot is too old to decide with.
pub(crate) fn unavailable() -> AwsError {
    AwsError::unavailable("The service cannot decide about requests at the moment. Try again.")
}
