//! The policy language of IAM: documents are parsed once into compiled matchers, and a request is
//! decided against all policies that bear on it.
//!
//! Pure: no clock, no I/O, no randomness. Everything a decision depends on comes in as an argument,
//! so the server, `policy simulate` and the tests all decide alike. Deciding allocates nothing while
//! the answer is yes.

mod actions;
mod batch;
mod condition;
mod context;
mod document;
mod evaluate;
mod explain;
mod finding;
pub mod json;
mod lint;
pub mod managed;
mod pattern;
mod principal;
mod spelling;
mod statement;

pub use actions::actions_of;
pub use batch::{Answer, Batch, Ground};
pub use context::{Context, ContextValue};
pub use document::{Effect, Named, Policy, PolicyKind};
pub use evaluate::{Decision, PolicySet, Reason, Request, StatementRef, evaluate};
pub use explain::{Considered, Verdict, decide_with_grounds, explain};
pub use finding::{Finding, Findings, Severity};
pub use lint::{Outline, Shadow, lint, outlines};
pub use principal::Principal;
