//! Finding the statements that speak of an action without looking at the others.
//!
//! Exactly named actions stand in a table sorted by hash; patterns are looked at when their service is
//! the request's. What the index offers is always checked against the statement itself.

use super::{Effect, Statement};
use crate::context::hash;
use crate::evaluate::Prepared;
use crate::pattern::ActionPattern;
use crate::principal::element::Grant;

#[derive(Debug)]
pub(crate) struct ActionIndex {
    /// Exactly named actions, sorted by hash; the hashes again by themselves, to search them densely.
    hashes: Box<[u64]>,
    exact: Box<[Entry]>,
    /// Patterns, with the hash of their service; NotAction and `*` bear [`ANY_SERVICE`].
    patterns: Box<[Entry]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u64,
    statement: u32,
    /// Which of the statement's actions.
    action: u32,
    /// How the operation begins; the mask says how much of it is fixed.
    begins: u64,
    mask: u64,
}

impl Entry {
    /// Rules most requests out without a look at the statement.
    fn may_match(&self, request: &Prepared<'_>) -> bool {
        request.action.begins() & self.mask == self.begins
    }
}

const ANY_SERVICE: u64 = 0;

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
        let mut patterns = Vec::new();
        for (number, statement) in (0..).zip(statements) {
            if statement.actions_are_negated() {
                patterns.push(Entry { hash: ANY_SERVICE, statement: number, action: 0, begins: 0, mask: 0 });
                continue;
            }
            for (action, pattern) in (0..).zip(statement.actions()) {
                let (begins, mask) = pattern.begins();
                let entry = |hash| Entry { hash, statement: number, action, begins, mask };
                match pattern {
                    ActionPattern::Exact(_, hash) => exact.push(entry(*hash)),
                    ActionPattern::All => patterns.push(entry(ANY_SERVICE)),
                    ActionPattern::Operations(service, _) => patterns.push(entry(hash(service.as_bytes()))),
                }
            }
        }
        exact.sort_unstable();
        let hashes = exact.iter().map(|entry| entry.hash).collect();
        ActionIndex { hashes, exact: exact.into(), patterns: patterns.into() }
    }

    pub(crate) fn matches(&self, statements: &[Statement], request: &Prepared<'_>) -> Matches {
        let mut found = Matches::default();
        let hash = request.action.hash();
        let start = self.hashes.partition_point(|known| *known < hash);
        let same = self.hashes[start..].iter().take_while(|known| **known == hash).count();
        for entry in &self.exact[start..start + same] {
            found.consider(entry, statements, request);
        }
        let service = request.action.service_hash();
        for entry in &self.patterns {
            if (entry.hash == service || entry.hash == ANY_SERVICE) && entry.may_match(request) {
                found.consider(entry, statements, request);
            }
        }
        found
    }
}

impl Matches {
    fn consider(&mut self, entry: &Entry, statements: &[Statement], request: &Prepared<'_>) {
        let number = entry.statement as usize;
        let statement = &statements[number];
        let known_first = match statement.effect() {
            Effect::Deny => self.deny.is_some_and(|known| known <= number),
            // Nothing is stronger than full: only an earlier statement could still take its place.
            Effect::Allow => self.allow.is_some_and(|(grant, known)| grant == Grant::Full && known <= number),
        };
        if known_first {
            return;
        }
        // The action last: the index has all but decided it.
        let Some(grant) = statement.matches_besides_action(request) else { return };
        if !statement.covers_action_at(entry.action as usize, request) {
            return;
        }
        match statement.effect() {
            Effect::Deny => self.deny = Some(number),
            Effect::Allow => {
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
