//! What tokens are made and checked with: session tokens, bearer tokens and ECR tokens.
//!
//! Two token keys are live at once; each signs for two days and is accepted for two more, longer than
//! any token lives. Every use has a key of its own, derived from the token key.

mod key;
mod signed;

#[cfg(test)]
mod tests;

pub(crate) use key::{TokenKey, TokenKeys};
pub(crate) use signed::{Audience, Claims, TokenError};

/// How long a token key signs: longer than the longest token lives.
pub(crate) const KEY_LIFE_MS: i64 = 48 * 60 * 60 * 1000;

/// How long a new token key waits until every server knows it.
pub(crate) const KEY_SETTLES_MS: i64 = 5_000;

/// Longest token of any kind that is looked at.
pub(crate) const LONGEST_TOKEN: usize = 16 * 1024;
