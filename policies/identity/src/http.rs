//! The APIs that identity itself serves.

mod sts;

pub use sts::Sts;
