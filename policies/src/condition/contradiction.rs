//! Conditions on one key that exclude each other.
//!
//! One condition that only certain values meet is taken, and those values are tried on the others. Of
//! numbers and dates the ends of every range are tried, and what lies next to them.

use ipnet::IpNet;

use super::number::Number;
use super::test::Test;
use super::{Condition, Quantifier};
use crate::context::Context;

/// The numbers of conditions that no value can meet together with the others on their key; one for each key.
pub(super) fn find(conditions: &[Condition]) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for (number, seed) in conditions.iter().enumerate() {
        let known = found.iter().any(|known| conditions[*known].key == seed.key);
        let plain = seed.operator.quantifier == Quantifier::One
            && !seed.operator.negated
            && !seed.operator.if_exists
            && seed.test.variables().is_empty();
        if known || !plain {
            continue;
        }
        let others: Vec<&Condition> = conditions
            .iter()
            .filter(|other| {
                other.key == seed.key
                    && other.operator.quantifier == Quantifier::One
                    && other.test.variables().is_empty()
            })
            .collect();
        let impossible = match &seed.test {
            Test::Ip(networks) => {
                !networks.iter().any(|network| others.iter().all(|other| admits(other, network)))
            }
            _ => candidates(seed, &others)
                .is_some_and(|values| !values.iter().any(|value| meets(&others, seed, value))),
        };
        if impossible {
            found.push(number);
        }
    }
    found
}

fn meets(conditions: &[&Condition], seed: &Condition, value: &str) -> bool {
    let mut context = Context::new();
    context.set(seed.shown_key(), value);
    conditions.iter().all(|condition| condition.holds(&context))
}

/// Values of which at least one meets all, if any value does. None where they cannot be named.
fn candidates(seed: &Condition, others: &[&Condition]) -> Option<Vec<String>> {
    match &seed.test {
        Test::Text(patterns) | Test::TextIgnoringCase(patterns) => {
            patterns.iter().map(|pattern| pattern.literal().map(str::to_owned)).collect()
        }
        Test::Bool(values) => Some(values.iter().map(bool::to_string).collect()),
        Test::Number(..) => {
            let numbers = others.iter().flat_map(|other| match &other.test {
                Test::Number(_, numbers) => numbers.as_slice(),
                _ => &[],
            });
            Some(numbers.flat_map(|number| number.around()).map(Number::to_text).collect())
        }
        Test::Date(..) => {
            let dates = others.iter().flat_map(|other| match &other.test {
                Test::Date(_, dates) => dates.as_slice(),
                _ => &[],
            });
            let near =
                dates.flat_map(|micros| [micros - 1, *micros, micros + 1]).filter(|micros| *micros >= 0);
            Some(near.map(|micros| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)).collect())
        }
        Test::Ip(_) | Test::Binary(_) | Test::Arn(_) | Test::Null(_) => None,
    }
}

/// Whether a condition leaves something of a block of addresses.
fn admits(condition: &Condition, block: &IpNet) -> bool {
    match (&condition.test, condition.operator.negated) {
        (Test::Ip(networks), false) => {
            networks.iter().any(|network| network.contains(block) || block.contains(network))
        }
        (Test::Ip(networks), true) => !networks.iter().any(|network| network.contains(block)),
        (Test::Null(wanted), _) => wanted.contains(&false),
        _ => true,
    }
}
