//! The policy language of IAM: documents are parsed once into compiled matchers, and a request is
//! decided against all policies that bear on it.
//!
//! Pure: no clock, no I/O, no randomness. Everything a decision depends on comes in as an argument,
//! so the server, `policy simulate` and the tests all decide alike. Deciding allocates nothing while
//! the answer is yes.

mod context;
mod document;
mod evaluate;
mod finding;
mod principal;

pub use context::{Context, ContextValue};
pub use document::{Effect, Named, Policy, PolicyKind};
pub use evaluate::{Decision, PolicySet, Reason, Request, StatementRef, evaluate};
pub use finding::{Finding, Severity};
pub use principal::Principal;
