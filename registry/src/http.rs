//! The registry's protocols over HTTP: OCI for clients that push and pull, ECR's API for administration.

mod ecr;
mod oci;
mod token;

pub use ecr::Ecr;
pub use oci::Oci;
pub use token::Tokens;
