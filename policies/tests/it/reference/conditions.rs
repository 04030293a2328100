//! Condition operators, read naively.

use std::net::IpAddr;

use policies::ContextValue;

use super::Keys;
use super::text::{arn, chars, expand, like, segments};

pub(super) fn holds(operator: &str, key: &str, values: &[String], variables: bool, context: &Keys) -> bool {
    let present: Option<Vec<String>> = match context.get(&key.to_lowercase()) {
        Some(ContextValue::One(value)) => Some(vec![value.clone()]),
        Some(ContextValue::Many(values)) if !values.is_empty() => Some(values.clone()),
        _ => None,
    };
    let is_list = matches!(context.get(&key.to_lowercase()), Some(ContextValue::Many(_)));
    if operator == "Null" {
        return values.iter().any(|value| (value == "true") == present.is_none());
    }
    let (set, rest) = match operator.split_once(':') {
        Some((set, rest)) => (set, rest),
        None => ("", operator),
    };
    let base = rest.trim_end_matches("IfExists");
    let if_exists = base != rest;
    let negated = base.contains("Not");
    let Some(given) = present else {
        return match (if_exists, set) {
            (true, _) | (_, "ForAllValues") => true,
            (_, "ForAnyValue") => false,
            _ => negated,
        };
    };
    let passes = |given: &String| {
        let one_matches = values.iter().any(|value| compare(base, value, given, variables, context));
        one_matches != negated
    };
    match set {
        "ForAllValues" => given.iter().all(passes),
        "ForAnyValue" => given.iter().any(passes),
        _ => !is_list && passes(&given[0]),
    }
}

/// The positive comparison behind an operator.
fn compare(base: &str, value: &str, given: &str, variables: bool, context: &Keys) -> bool {
    let text = |wildcards: bool| expand(value, variables, wildcards, context);
    match base.replace("Not", "").as_str() {
        "StringEquals" => text(false).is_some_and(|tokens| like(&tokens, &chars(given))),
        "StringEqualsIgnoreCase" => {
            let lower = expand(&value.to_lowercase(), variables, false, &lowered(context));
            lower.is_some_and(|tokens| like(&tokens, &chars(&given.to_lowercase())))
        }
        "StringLike" => text(true).is_some_and(|tokens| like(&tokens, &chars(given))),
        "ArnEquals" | "ArnLike" if value == "*" => {
            given.splitn(6, ':').count() == 6 && given.starts_with("arn:")
        }
        "ArnEquals" | "ArnLike" => text(true).is_some_and(|tokens| arn(&segments(&tokens), given)),
        "Bool" => {
            value.eq_ignore_ascii_case(given) && ["true", "false"].contains(&value.to_lowercase().as_str())
        }
        "BinaryEquals" => value == given,
        "IpAddress" => in_block(value, given),
        other => {
            let (parse, comparison): (fn(&str) -> Option<f64>, &str) = match other.strip_prefix("Numeric") {
                Some(comparison) => (|text| text.parse().ok(), comparison),
                None => (date, other.strip_prefix("Date").expect("every operator is known")),
            };
            let (Some(value), Some(given)) = (parse(value), parse(given)) else { return false };
            match comparison {
                "Equals" => given == value,
                "LessThan" => given < value,
                "LessThanEquals" => given <= value,
                "GreaterThan" => given > value,
                "GreaterThanEquals" => given >= value,
                unknown => panic!("{unknown}"),
            }
        }
    }
}

fn lowered(context: &Keys) -> Keys {
    let lower = |value: &ContextValue| match value {
        ContextValue::One(value) => ContextValue::One(value.to_lowercase()),
        many => many.clone(),
    };
    context.iter().map(|(key, value)| (key.clone(), lower(value))).collect()
}

/// Seconds since the epoch: digits, or year-month-day with or without a time and its zone.
fn date(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let mut numbers = date.split('-').map(|part| part.parse::<i64>().expect("a number"));
    let (year, month, day) = (numbers.next()?, numbers.next()?, numbers.next()?);
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let (clock, zone) = match time.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let (clock, zone) = time.split_once('+').expect("no case lies west");
            (clock, seconds(zone))
        }
    };
    Some((days * 86_400 + seconds(clock) - zone) as f64)
}

/// Of hours, minutes and perhaps seconds.
fn seconds(clock: &str) -> i64 {
    let parts = clock.split(':').map(|part| part.parse::<i64>().expect("a number"));
    parts.zip([3600, 60, 1]).map(|(part, unit)| part * unit).sum()
}

fn in_block(block: &str, address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let (network, bits) = match block.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().expect("a number")),
        None => (block, 128),
    };
    match (network.parse::<IpAddr>().expect("an address"), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let unused = 32 - bits.min(32);
            u64::from(network.to_bits()) >> unused == u64::from(address.to_bits()) >> unused
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let unused = 128 - bits;
            unused == 128 || network.to_bits() >> unused == address.to_bits() >> unused
        }
        _ => false,
    }
}
