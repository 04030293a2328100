//! What can go wrong, by what the receiver can do about it.

use registry_aws::AwsError;
use thiserror::Error;

use crate::api::Protocol;
use crate::authorize::Denied;

/// An error of the identity store or of an operation on it.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("the database does not answer as it should")]
    Database(#[from] registry_sql::Error),
    #[error("a sealed value does not open: {0}")]
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
    File { what: &'static str, #[source] source: std::io::Error },
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
    /// The credentials are right, but may not be used this way.
    #[error("{0}")]
    Denied(Denied),
    #[error("the policies in memory are older than a second")]
    Unavailable,
}

impl AuthenticationError {
    /// AWS's code, status and message, which differ between the JSON and the Query services.
    pub fn to_aws(&self, protocol: Protocol) -> AwsError {
        let json = protocol == Protocol::Json;
        let error = |status, code: &'static str, message: &str| AwsError::new(status, code, message);
        match self {
            Self::Missing if json => {
                error(400, "MissingAuthenticationTokenException", "Missing Authentication Token")
            }
            Self::Missing => error(403, "MissingAuthenticationToken", "Request is missing Authentication Token"),
            Self::Malformed(aws) => aws.clone(),
            Self::Mismatch => error(
                if json { 400 } else { 403 },
                if json { "InvalidSignatureException" } else { "SignatureDoesNotMatch" },
                "The request signature we calculated does not match the signature you provided. Check your AWS \
                 Secret Access Key and signing method. Consult the service documentation for details.",
            ),
            Self::InvalidToken => error(
                if json { 400 } else { 403 },
                if json { "UnrecognizedClientException" } else { "InvalidClientTokenId" },
                "The security token included in the request is invalid.",
            ),
            Self::Expired => error(
                if json { 400 } else { 403 },
                if json { "ExpiredTokenException" } else { "ExpiredToken" },
                "The security token included in the request is expired",
            ),
            Self::Denied(denied) => denied.to_aws(protocol),
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
            Self::Denied(_) => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The answer while the snapshot is too old to decide with.
pub(crate) fn unavailable() -> AwsError {
    AwsError::new(503, "ServiceUnavailable", "The service cannot decide about requests at the moment. Try again.")
}
