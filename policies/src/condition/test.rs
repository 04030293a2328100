//! The compiled values of a condition, and the comparison of one context value with them.
//!
//! A context value that is not of the operator's type equals nothing.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::date::parse_date;
use super::number::{Comparison, Number};
use super::operator::Kind;
use crate::context::Context;
use crate::pattern::{ArnPattern, Pattern, SplitArn, Syntax, Variable};

#[derive(Debug)]
pub(super) enum Test {
    Text(Vec<Pattern>),
    TextIgnoringCase(Vec<Pattern>),
    Number(Comparison, Vec<Number>),
    /// Microseconds since the Unix epoch.
    Date(Comparison, Vec<i64>),
    Bool(Vec<bool>),
    /// Canonical base64, so that equal bytes are equal texts.
    Binary(Vec<Box<str>>),
    Ip(Vec<IpNet>),
    Arn(Vec<ArnPattern>),
    /// True: the key must be absent.
    Null(Vec<bool>),
}

impl Test {
    pub(super) fn empty(kind: Kind) -> Test {
        match kind {
            Kind::StringEquals | Kind::StringLike => Test::Text(Vec::new()),
            Kind::StringEqualsIgnoreCase => Test::TextIgnoringCase(Vec::new()),
            Kind::Numeric(comparison) => Test::Number(comparison, Vec::new()),
            Kind::Date(comparison) => Test::Date(comparison, Vec::new()),
            Kind::Bool => Test::Bool(Vec::new()),
            Kind::Binary => Test::Binary(Vec::new()),
            Kind::Ip => Test::Ip(Vec::new()),
            Kind::Arn => Test::Arn(Vec::new()),
            Kind::Null => Test::Null(Vec::new()),
        }
    }

    /// Adds a value of the policy.
    pub(super) fn push(&mut self, text: &str, kind: Kind, variables: bool) -> Result<(), String> {
        match self {
            Test::Text(patterns) | Test::TextIgnoringCase(patterns) => {
                let syntax = Syntax { wildcards: kind == Kind::StringLike, variables };
                patterns.push(Pattern::compile(text, syntax)?);
            }
            Test::Number(_, numbers) => {
                numbers.push(Number::parse(text).ok_or_else(|| format!("{text:?} is not a number"))?);
            }
            Test::Date(_, dates) => {
                let date = parse_date(text);
                dates.push(date.ok_or_else(|| {
                    format!("{text:?} is not a date: write 2026-11-01T00:00:00Z, or seconds since 1970")
                })?);
            }
            Test::Bool(values) | Test::Null(values) => {
                values.push(parse_bool(text).ok_or_else(|| format!("{text:?} is neither true nor false"))?);
            }
            Test::Binary(values) => {
                STANDARD.decode(text).map_err(|_| format!("{text:?} is not base64"))?;
                values.push(text.into());
            }
            Test::Ip(networks) => {
                let network = parse_network(text);
                networks.push(
                    network.ok_or_else(|| format!("{text:?} is neither an IP address nor a CIDR block"))?,
                );
            }
            Test::Arn(patterns) => patterns.push(ArnPattern::condition(text, variables)?),
        }
        Ok(())
    }

    /// Whether the context value matches at least one value of the policy.
    pub(super) fn matches(&self, value: &str, context: &Context) -> bool {
        match self {
            Test::Text(patterns) => patterns.iter().any(|pattern| pattern.matches(value, context)),
            Test::TextIgnoringCase(patterns) => {
                patterns.iter().any(|pattern| pattern.equals_ignoring_case(value, context))
            }
            Test::Number(comparison, numbers) => Number::parse(value)
                .is_some_and(|value| numbers.iter().any(|number| comparison.holds(value.cmp(number)))),
            Test::Date(comparison, dates) => parse_date(value)
                .is_some_and(|value| dates.iter().any(|date| comparison.holds(value.cmp(date)))),
            Test::Bool(values) => parse_bool(value).is_some_and(|value| values.contains(&value)),
            Test::Binary(values) => values.iter().any(|known| **known == *value),
            Test::Ip(networks) => value.parse::<IpAddr>().is_ok_and(|address| {
                let address = address.to_canonical();
                networks.iter().any(|network| network.contains(&address))
            }),
            Test::Arn(patterns) => SplitArn::split(value)
                .is_some_and(|arn| patterns.iter().any(|pattern| pattern.matches(&arn, context))),
            Test::Null(_) => false,
        }
    }

    /// Every value names something: none of them is only wildcards, or a variable, which may be the compared value
    /// itself.
    pub(super) fn narrows(&self) -> bool {
        let any = match self {
            Test::Text(patterns) => patterns.iter().any(Pattern::is_only_wildcards),
            Test::Null(_) => true,
            _ => false,
        };
        !any && self.variables().is_empty()
    }

    pub(super) fn variables(&self) -> Vec<&Variable> {
        match self {
            Test::Text(patterns) | Test::TextIgnoringCase(patterns) => {
                patterns.iter().flat_map(Pattern::variables).collect()
            }
            Test::Arn(patterns) => patterns.iter().flat_map(ArnPattern::variables).collect(),
            _ => Vec::new(),
        }
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A block, or a bare address as a block of one.
fn parse_network(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}
