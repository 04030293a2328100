//! Why a signature is refused. Nothing here tells whether an access key exists.

use thiserror::Error;

use crate::error::AwsError;

/// A refused signature. Turn it into the caller's answer with `AwsError::from`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SigV4Error {
    /// The signature's parts cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// A header or query parameter that carries meaning occurs more than once.
    #[error("'{0}' must occur once")]
    Duplicate(String),
    /// The request is signed in the Authorization header and in the query.
    #[error("the request is signed in the Authorization header and in the query: use one")]
    BothForms,
    /// A header that must be signed is not among the signed ones.
    #[error("the header '{0}' must be signed")]
    Unsigned(String),
    /// A header is named as signed and is not in the request.
    #[error("the signed header '{0}' is not in the request")]
    Absent(String),
    /// The credential scope is not for this service, region or day.
    #[error("{0}")]
    Scope(String),
    /// The time of signing, or the presigned lifetime, is over.
    #[error("Signature expired: {signed_at} is now earlier than {earliest}")]
    Expired { signed_at: String, earliest: String },
    /// Signed in the future, beyond the tolerance.
    #[error("Signature not yet current: {signed_at} is still later than {latest}")]
    NotYetValid { signed_at: String, latest: String },
    /// The body that was read is not the body that was signed.
    #[error("the body does not match the signed X-Amz-Content-Sha256")]
    PayloadMismatch,
    /// UNSIGNED-PAYLOAD where the body must be signed.
    #[error("the body of this request must be signed")]
    PayloadUnsigned,
    /// This very signature was used before, on a request that must not be repeated.
    #[error("the request was already received; sign it anew")]
    Replayed,
    /// The signature does not hold.
    #[error("the signature does not match")]
    Mismatch,
}

impl From<SigV4Error> for AwsError {
    fn from(error: SigV4Error) -> Self {
        match error {
            SigV4Error::Malformed(_)
            | SigV4Error::Duplicate(_)
            | SigV4Error::BothForms
            | SigV4Error::Unsigned(_)
            | SigV4Error::Absent(_) => Self::incomplete_signature(capitalized(&error.to_string())),
            SigV4Error::Scope(_)
            | SigV4Error::Expired { .. }
            | SigV4Error::NotYetValid { .. }
            | SigV4Error::PayloadMismatch
            | SigV4Error::PayloadUnsigned => Self::invalid_signature(capitalized(&error.to_string())),
            // Two clients that ask for the same in one second sign alike. This code makes clients sign and ask anew.
            SigV4Error::Replayed => {
                let throttling = Self::throttling();
                Self::new(throttling.status, throttling.code, capitalized(&error.to_string()))
            }
            SigV4Error::Mismatch => Self::signature_mismatch(),
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).chain(['.']).collect(),
        None => String::new(),
    }
}
