//! The names of condition operators, taken apart.

use super::number::Comparison;
use crate::spelling;

/// How a condition reads a key that holds several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    One,
    ForAllValues,
    ForAnyValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    Numeric(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    Ip,
    Arn,
    Null,
}

impl Kind {
    pub(super) fn takes_variables(self) -> bool {
        matches!(self, Kind::StringEquals | Kind::StringEqualsIgnoreCase | Kind::StringLike | Kind::Arn)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) kind: Kind,
    pub(super) negated: bool,
    pub(super) if_exists: bool,
    pub(super) quantifier: Quantifier,
}

const KINDS: [(&str, Kind, bool); 27] = [
    ("StringEquals", Kind::StringEquals, false),
    ("StringNotEquals", Kind::StringEquals, true),
    ("StringEqualsIgnoreCase", Kind::StringEqualsIgnoreCase, false),
    ("StringNotEqualsIgnoreCase", Kind::StringEqualsIgnoreCase, true),
    ("StringLike", Kind::StringLike, false),
    ("StringNotLike", Kind::StringLike, true),
    ("NumericEquals", Kind::Numeric(Comparison::Equal), false),
    ("NumericNotEquals", Kind::Numeric(Comparison::Equal), true),
    ("NumericLessThan", Kind::Numeric(Comparison::Less), false),
    ("NumericLessThanEquals", Kind::Numeric(Comparison::LessOrEqual), false),
    ("NumericGreaterThan", Kind::Numeric(Comparison::Greater), false),
    ("NumericGreaterThanEquals", Kind::Numeric(Comparison::GreaterOrEqual), false),
    ("DateEquals", Kind::Date(Comparison::Equal), false),
    ("DateNotEquals", Kind::Date(Comparison::Equal), true),
    ("DateLessThan", Kind::Date(Comparison::Less), false),
    ("DateLessThanEquals", Kind::Date(Comparison::LessOrEqual), false),
    ("DateGreaterThan", Kind::Date(Comparison::Greater), false),
    ("DateGreaterThanEquals", Kind::Date(Comparison::GreaterOrEqual), false),
    ("Bool", Kind::Bool, false),
    ("BinaryEquals", Kind::Binary, false),
    ("IpAddress", Kind::Ip, false),
    ("NotIpAddress", Kind::Ip, true),
    // The two pairs are the same: both compare segment by segment, with wildcards.
    ("ArnEquals", Kind::Arn, false),
    ("ArnLike", Kind::Arn, false),
    ("ArnNotEquals", Kind::Arn, true),
    ("ArnNotLike", Kind::Arn, true),
    ("Null", Kind::Null, false),
];

impl Operator {
    pub(super) fn parse(name: &str) -> Result<Operator, String> {
        let (quantifier, rest) = if let Some(rest) = name.strip_prefix("ForAllValues:") {
            (Quantifier::ForAllValues, rest)
        } else if let Some(rest) = name.strip_prefix("ForAnyValue:") {
            (Quantifier::ForAnyValue, rest)
        } else {
            (Quantifier::One, name)
        };
        let (base, if_exists) = match rest.strip_suffix("IfExists") {
            Some(base) => (base, true),
            None => (rest, false),
        };
        let Some((_, kind, negated)) = KINDS.iter().find(|(known, ..)| *known == base) else {
            return Err(unknown(name, base));
        };
        if *kind == Kind::Null && (if_exists || quantifier != Quantifier::One) {
            return Err(format!("{name}: Null takes neither IfExists nor a set operator"));
        }
        Ok(Operator { kind: *kind, negated: *negated, if_exists, quantifier })
    }
}

fn unknown(name: &str, base: &str) -> String {
    match KINDS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(base)) {
        Some((known, ..)) => format!("{name} is not a condition operator; it is written {known}"),
        None => match spelling::nearest(KINDS.iter().map(|(known, ..)| *known), base) {
            Some(near) => format!("{name} is not a condition operator; is {near} meant?"),
            None => format!("{name} is not a condition operator"),
        },
    }
}
