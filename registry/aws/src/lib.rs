//! The wire protocols of AWS: request signing, JSON 1.1, Query with XML, errors, page tokens, and a client.
//!
//! Servers and clients of Berth share this room, so that what one signs the other verifies. Nothing here
//! knows an operation, a policy or a store; verification is pure, and takes time and secret as arguments.

mod client;
mod credentials;
mod error;
pub mod json;
pub mod page;
pub mod query;
pub mod sigv4;
pub mod target;
pub mod timestamp;

pub use client::{Client, ClientError};
pub use credentials::Credentials;
pub use error::AwsError;
