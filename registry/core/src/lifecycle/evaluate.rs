//! Which images a policy expires: decided from facts about images, without I/O.
//!
//! The rules of Amazon ECR: the first rule whose tags fit an image is the only one that can expire it; rules that
//! count see every image whose tags fit, whatever other rules make of it; the older go before the younger. Two
//! passes, so that memory grows with what rules keep and not with what a repository holds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use registry_types::{Digest, Tag};

use super::policy::{LifecyclePolicy, Limit, Rule, Selection};
use crate::tags::matches_pattern;

const DAY_MS: i64 = 24 * 3_600_000;

/// What rules ask of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) digest: Digest,
    pub(super) tags: Vec<Tag>,
    pub(super) pushed_at_ms: i64,
    pub(super) last_pulled_at_ms: Option<i64>,
    pub(super) standing: Standing,
}

/// Whether rules apply to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Free,
    /// Counted, and not to be expired: an index names it.
    Held,
    /// An untagged artifact that refers to an image of the repository: neither counted nor expired but with it.
    WithSubject,
}

/// When an image was pushed; its digest decides between those of one moment.
type Age = (i64, Digest);

/// The first pass: finds for each rule that counts the oldest image that it keeps.
pub(super) struct Counting {
    policy: Arc<LifecyclePolicy>,
    /// Of each rule, the youngest images that fit, as many as it keeps.
    youngest: Vec<BinaryHeap<Reverse<Age>>>,
}

impl Counting {
    pub(super) fn new(policy: Arc<LifecyclePolicy>) -> Self {
        let youngest = policy.rules.iter().map(|_| BinaryHeap::new()).collect();
        Self { policy, youngest }
    }

    pub(super) fn see(&mut self, image: &Facts) {
        if image.standing == Standing::WithSubject {
            return;
        }
        for (rule, youngest) in self.policy.rules.iter().zip(&mut self.youngest) {
            let Limit::CountMoreThan(kept) = rule.limit else { continue };
            if rule.selection.fits(&image.tags) {
                youngest.push(Reverse((image.pushed_at_ms, image.digest.clone())));
                if youngest.len() > kept {
                    youngest.pop();
                }
            }
        }
    }

    pub(super) fn decide(self, now_ms: i64) -> Decision {
        let oldest_kept = self
            .policy
            .rules
            .iter()
            .zip(self.youngest)
            .map(|(rule, mut youngest)| match rule.limit {
                Limit::CountMoreThan(kept) if youngest.len() == kept => {
                    youngest.pop().map(|Reverse(oldest)| oldest)
                }
                _ => None,
            })
            .collect();
        Decision { policy: self.policy, now_ms, oldest_kept }
    }
}

/// The second pass: what becomes of each image.
pub(super) struct Decision {
    policy: Arc<LifecyclePolicy>,
    now_ms: i64,
    /// Of each rule that counts and has enough, the oldest image that it keeps.
    oldest_kept: Vec<Option<Age>>,
}

impl Decision {
    /// The priority of the rule that expires the image, if one does.
    pub(super) fn rule_for(&self, image: &Facts) -> Option<i64> {
        if image.standing != Standing::Free {
            return None;
        }
        let (rule, oldest_kept) = self
            .policy
            .rules
            .iter()
            .zip(&self.oldest_kept)
            .find(|(rule, _)| rule.selection.fits(&image.tags))?;
        self.goes(rule, oldest_kept.as_ref(), image).then_some(rule.priority)
    }

    fn goes(&self, rule: &Rule, oldest_kept: Option<&Age>, image: &Facts) -> bool {
        let is_older =
            |at_ms: i64, days: i64| self.now_ms.saturating_sub(at_ms) > days.saturating_mul(DAY_MS);
        match rule.limit {
            Limit::CountMoreThan(_) => oldest_kept.is_some_and(|(pushed_at_ms, digest)| {
                (image.pushed_at_ms, &image.digest) < (*pushed_at_ms, digest)
            }),
            Limit::DaysSincePushed(days) => is_older(image.pushed_at_ms, days),
            Limit::DaysSincePulled(days) => {
                is_older(image.last_pulled_at_ms.unwrap_or(image.pushed_at_ms), days)
            }
        }
    }
}

impl Selection {
    fn fits(&self, tags: &[Tag]) -> bool {
        match self {
            Self::Any => true,
            Self::Untagged => tags.is_empty(),
            Self::Patterns(patterns) => {
                patterns.iter().all(|pattern| tags.iter().any(|tag| matches_pattern(pattern, tag.as_str())))
            }
            Self::Prefixes(prefixes) => {
                prefixes.iter().all(|prefix| tags.iter().any(|tag| tag.as_str().starts_with(prefix)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
