//! Conditions that are well formed and yet never hold, or hold always.

use super::keys::{self, Held};
use super::operator::Kind;
use super::{Condition, Quantifier, contradiction};
use crate::finding::Findings;
use crate::json::Node;

/// Remarks about a sound Condition element of a statement that speaks of these services.
pub(crate) fn review(node: &Node, variables: bool, services: &[&str], findings: &mut Findings<'_>) {
    let mut places = Vec::new();
    for operator in node.as_object().unwrap_or(&[]) {
        for key in operator.value.as_object().unwrap_or(&[]) {
            places.push((operator.key.as_str(), key.key_at));
        }
    }
    let mut repeated = Findings::new(findings.text());
    let conditions = super::read(node, variables, &mut repeated);
    for (condition, (operator, at)) in conditions.iter().zip(&places) {
        match keys::held(condition.shown_key()) {
            Some(held) => type_of(condition, operator, held, *at, findings),
            None => unknown(condition.shown_key(), services, *at, findings),
        }
    }
    for place in contradiction::find(&conditions) {
        let (condition, (_, at)) = (&conditions[place], places[place]);
        let message = format!(
            "no value of {} meets all conditions on it: the statement never matches",
            condition.shown_key()
        );
        findings.warning(at, message);
    }
}

fn type_of(condition: &Condition, operator: &str, held: Held, at: usize, findings: &mut Findings<'_>) {
    let key = condition.shown_key();
    let kind = condition.operator.kind;
    if held.list && condition.quantifier() == Quantifier::One && kind != Kind::Null {
        findings.warning(
            at,
            format!("{key} holds a list, which {operator} alone never matches: write ForAnyValue:{operator} or ForAllValues:{operator}"),
        );
    } else if !held.suits(kind) {
        let outcome = if condition.operator.negated { "holds always" } else { "never holds" };
        findings.warning(
            at,
            format!(
                "{key} is {}, so {operator} {outcome}: compare it with {}",
                held.described(),
                held.operator()
            ),
        );
    }
}

fn unknown(key: &str, services: &[&str], at: usize, findings: &mut Findings<'_>) {
    let prefix = key.split(':').next().unwrap_or_default();
    // `ISSUER:claim`: issuers have dots, ports and paths.
    let of_an_issuer = prefix.contains('.') || key.matches(':').count() > 1 || key.contains("://");
    if of_an_issuer || (!keys::is_known_prefix(prefix) && services.contains(&prefix)) {
        return;
    }
    let message = match keys::nearest(key) {
        Some(near) => format!("no request has the condition key {key}; is {near} meant?"),
        None => format!("no request has the condition key {key}"),
    };
    findings.warning(at, message);
}
