//! Finding the statements that speak of an action without looking at the others.
//!
//! Exactly named actions stand in a table sorted by hash; patterns and NotAction statements are
//! compared one by one. What the index offers is always checked against the statement itself.

use super::{Effect, Statement};
use crate::evaluate::Prepared;
use crate::pattern::ActionPattern;
use crate::principal::element::Grant;

#[derive(Debug)]
pub(crate) struct ActionIndex {
    /// Hash of an exactly named action, and its statement; sorted.
    exact: Box<[(u64, u32)]>,
    /// Statements that name actions by pattern, or by NotAction; in order.
    others: Box<[u32]>,
}

/// The first statements of each effect that match a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Matches {
    pub(crate) deny: Option<usize>,
    /// With the strongest grant; in policies without principals every grant is full.
    pub(crate) allow: Option<(Grant, usize)>,
}

impl ActionIndex {
    pub(super) fn build(statements: &[Statement]) -> ActionIndex {
        let mut exact = Vec::new();
        let mut others = Vec::new();
        for (number, statement) in (0..).zip(statements) {
            let before = exact.len();
            let mut all_exact = !statement.actions_are_negated();
            for pattern in statement.actions() {
                match pattern {
                    ActionPattern::Exact(_, hash) if all_exact => exact.push((*hash, number)),
                    _ => all_exact = false,
                }
            }
            if !all_exact {
                exact.truncate(before);
                others.push(number);
            }
        }
        exact.sort_unstable();
        exact.dedup();
        ActionIndex { exact: exact.into(), others: others.into() }
    }

    pub(crate) fn matches(&self, statements: &[Statement], request: &Prepared<'_>) -> Matches {
        let mut found = Matches::default();
        let hash = request.action.hash();
        let start = self.exact.partition_point(|(known, _)| *known < hash);
        for (_, number) in self.exact[start..].iter().take_while(|(known, _)| *known == hash) {
            found.consider(*number as usize, statements, request);
        }
        for number in &self.others {
            found.consider(*number as usize, statements, request);
        }
        found
    }
}

impl Matches {
    fn consider(&mut self, number: usize, statements: &[Statement], request: &Prepared<'_>) {
        let statement = &statements[number];
        match statement.effect() {
            Effect::Deny => {
                if self.deny.is_none_or(|known| number < known) && statement.matches(request).is_some() {
                    self.deny = Some(number);
                }
            }
            Effect::Allow => {
                // Nothing is stronger than full: only an earlier statement could still take its place.
                if self.allow.is_some_and(|(grant, known)| grant == Grant::Full && known < number) {
                    return;
                }
                let Some(grant) = statement.matches(request) else { return };
                let better = self.allow.is_none_or(|(known_grant, known)| {
                    grant > known_grant || (grant == known_grant && number < known)
                });
                if better {
                    self.allow = Some((grant, number));
                }
            }
        }
    }
}
