//! The APIs that identity itself serves.

mod berth;
mod iam;
mod sts;

pub use berth::{BerthIdentity, RepositoryPolicies};
pub use iam::Iam;
pub use sts::Sts;
