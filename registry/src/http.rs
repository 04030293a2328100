//! The registry's protocols over HTTP: OCI for clients that push and pull, ECR's API for administration.

mod berth;
mod ecr;
mod oci;
mod quotas;
mod recovery;
mod status;
mod token;
mod upstreams;

pub use berth::BerthStore;
pub use ecr::Ecr;
pub use oci::Oci;
pub use quotas::BerthQuotas;
pub use recovery::BerthRecovery;
pub use status::{BerthStatus, Facts};
pub use token::Tokens;
pub use upstreams::BerthUpstreams;
