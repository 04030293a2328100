//! The engine against a naive reading of the rules, and against what the documentation of IAM says.

mod documented;
mod naming;
mod random;
mod reference;
