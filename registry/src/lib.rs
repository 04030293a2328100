//! The registry as it is reached: OCI's protocol, Docker's token endpoint and Amazon ECR's API over one core.
//!
//! Handlers parse, ask the gate, call one use-case and render. Invariant: no use-case is called that the gate
//! did not allow.

mod access;
pub mod backup;
mod http;
mod pull_through;
mod workers;

pub use access::Access;
pub use http::{
    BerthQuotas, BerthRecovery, BerthStatus, BerthStore, BerthUpstreams, Ecr, Facts, Oci, Tokens,
};
pub use pull_through::{NotProvided, PullThrough, PullThroughConfig, PullThroughCounts};
pub use workers::Lifecycle;
