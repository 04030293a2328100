//! Signature Version 4: reading, verifying and making signatures, in headers and in presigned queries.
//!
//! Verification is stricter than AWS documents it: whatever could change the meaning of a request
//! (`host`, `content-type`, every `x-amz-*`) must be signed and must occur once, and a request is
//! signed in one form only. Pure: time, secret and the hash of the body are arguments.

mod canonical;
mod error;
mod parse;
mod replay;
mod sign;
mod verify;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod vector_tests;

pub use error::SigV4Error;
pub use parse::{Form, Payload, Scope, Signed, parse};
pub use replay::ReplayGuard;
pub use sign::sign;
pub use verify::Expected;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The tolerance in either direction between the clocks of client and server.
pub const DEFAULT_SKEW_MS: i64 = 5 * 60 * 1000;
