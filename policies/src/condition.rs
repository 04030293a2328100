//! Conditions: one operator, one key, its values.
//!
//! AND over operators and keys, OR over values; a negated operator is true when none of its values
//! matches. What a missing key means depends on the operator: see [`Condition::holds`].

mod contradiction;
mod date;
mod keys;
mod number;
mod operator;
mod review;
mod test;

use crate::context::{Context, ContextValue, FoldedKey};
use crate::finding::Findings;
use crate::json::{Node, Value};
use crate::pattern::Variable;
pub(crate) use operator::Quantifier;
use operator::{Kind, Operator};
pub(crate) use review::review;
use test::Test;

#[derive(Debug)]
pub(crate) struct Condition {
    operator: Operator,
    key: FoldedKey,
    test: Test,
    /// For explanations: `StringEquals aws:username ["alice"]`.
    shown: Box<str>,
    /// As written, for explanations.
    shown_key: Box<str>,
}

impl Condition {
    pub(crate) fn holds(&self, context: &Context) -> bool {
        let value = context.get_folded(&self.key);
        if let Test::Null(wanted) = &self.test {
            return wanted.contains(&value.is_none());
        }
        let Some(value) = value else {
            return self.operator.if_exists
                || match self.operator.quantifier {
                    Quantifier::One => self.operator.negated,
                    Quantifier::ForAllValues => true,
                    Quantifier::ForAnyValue => false,
                };
        };
        let passes = |value: &String| self.test.matches(value, context) != self.operator.negated;
        match (self.operator.quantifier, value) {
            (Quantifier::One, ContextValue::One(value)) => passes(value),
            // A list needs a set operator; without one even a negated comparison fails.
            (Quantifier::One, ContextValue::Many(_)) => false,
            (Quantifier::ForAllValues, value) => value.values().iter().all(passes),
            (Quantifier::ForAnyValue, value) => value.values().iter().any(passes),
        }
    }

    pub(crate) fn key(&self) -> &str {
        self.key.text()
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn shown_key(&self) -> &str {
        &self.shown_key
    }

    pub(crate) fn quantifier(&self) -> Quantifier {
        self.operator.quantifier
    }

    /// It tests that a key is there: `"Null": {key: "false"}`.
    pub(crate) fn demands_presence(&self) -> bool {
        matches!(&self.test, Test::Null(wanted) if wanted.iter().all(|absent| !absent))
    }

    /// It holds only for values that the condition names, not for any value whatever.
    pub(crate) fn narrows(&self) -> bool {
        !self.operator.negated
            && !self.operator.if_exists
            && self.operator.quantifier != Quantifier::ForAllValues
            && self.test.narrows()
    }

    pub(crate) fn variables(&self) -> Vec<&Variable> {
        self.test.variables()
    }
}

/// Reads a Condition element: `{operator: {key: value or list}}`.
pub(crate) fn read(node: &Node, variables: bool, findings: &mut Findings<'_>) -> Vec<Condition> {
    let Some(operators) = node.as_object() else {
        findings.error(node.start, format!("Condition is an object, not {}", node.kind()));
        return Vec::new();
    };
    let mut conditions = Vec::new();
    for member in operators {
        let operator = match Operator::parse(&member.key) {
            Ok(operator) => operator,
            Err(message) => {
                findings.error(member.key_at, message);
                continue;
            }
        };
        let Some(keys) = member.value.as_object() else {
            let message =
                format!("{} holds an object of condition keys, not {}", member.key, member.value.kind());
            findings.error(member.value.start, message);
            continue;
        };
        if keys.is_empty() {
            findings.error(member.value.start, format!("{} names no condition key", member.key));
        }
        let mut seen: Vec<FoldedKey> = Vec::new();
        for entry in keys {
            check_key(&entry.key, entry.key_at, findings);
            let key = FoldedKey::new(&entry.key);
            if seen.contains(&key) {
                findings.error(
                    entry.key_at,
                    format!("the condition key {:?} stands here a second time", entry.key),
                );
            }
            let values = texts(&entry.value, findings);
            let test = compile(&operator, &values, variables, findings);
            let written: Vec<&str> = values.iter().map(|(_, text)| text.as_str()).collect();
            seen.push(key.clone());
            conditions.push(Condition {
                operator,
                key,
                test,
                shown: format!("{} {} {written:?}", member.key, entry.key).into(),
                shown_key: entry.key.as_str().into(),
            });
        }
    }
    conditions
}

fn check_key(key: &str, at: usize, findings: &mut Findings<'_>) {
    let plausible = key.split_once(':').is_some_and(|(prefix, name)| !prefix.is_empty() && !name.is_empty());
    if !plausible {
        findings.error(at, format!("{key:?} is not a condition key: write `service:Key` or `aws:Key`"));
    } else if key.contains(['*', '?', '$']) {
        findings
            .warning(at, format!("the condition key {key:?} is compared as it stands, wildcards and all"));
    }
}

/// The values with their places; numbers and booleans may stand without quotes.
fn texts(node: &Node, findings: &mut Findings<'_>) -> Vec<(usize, String)> {
    let mut texts = Vec::new();
    for item in node.items() {
        match &item.value {
            Value::String(text) | Value::Number(text) => texts.push((item.start, text.clone())),
            Value::Bool(value) => texts.push((item.start, value.to_string())),
            _ => findings.error(item.start, format!("a condition value is a string, not {}", item.kind())),
        }
    }
    if node.items().is_empty() {
        findings.warning(node.start, "an empty list of values: no value of a request is one of them");
    }
    texts
}

fn compile(
    operator: &Operator,
    values: &[(usize, String)],
    variables: bool,
    findings: &mut Findings<'_>,
) -> Test {
    let mut test = Test::empty(operator.kind);
    for (at, text) in values {
        if variables && text.contains("${") && !operator.kind.takes_variables() {
            findings.error(*at, "variables stand only in values of String and Arn operators");
        } else if let Err(message) = test.push(text, operator.kind, variables) {
            findings.error(*at, message);
        }
    }
    if operator.kind == Kind::Null && values.len() > 1 {
        findings.warning(values[0].0, "Null with both true and false holds always");
    }
    test
}

#[cfg(test)]
mod tests;
