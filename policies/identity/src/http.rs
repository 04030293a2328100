//! The APIs that identity itself serves.

mod iam;
mod sts;

pub use iam::Iam;
pub use sts::Sts;
