//! Whether an instance satisfies an expression.
//!
//! A subject may have several values (the groups on an instance) or none (an attribute it lacks); a test holds
//! if it holds for one of them, and the negated operators are its exact opposite.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Field, Node, Order, Subject, Test};

pub(super) fn matches(node: &Node, subject: &Subject<'_>) -> bool {
    match node {
        Node::Or(parts) => parts.iter().any(|part| matches(part, subject)),
        Node::And(parts) => parts.iter().all(|part| matches(part, subject)),
        Node::Not(inner) => !matches(inner, subject),
        Node::Compare(field, test) => compare(field, test, subject),
    }
}

fn compare(field: &Field, test: &Test, subject: &Subject<'_>) -> bool {
    let any = |holds: &dyn Fn(&str) -> bool| any_value(field, subject, holds);
    match test {
        Test::Equals(literal) => any(&|value| equal(field, value, literal)),
        Test::NotEquals(literal) => !any(&|value| equal(field, value, literal)),
        Test::Order(wanted, literal) => any(&|value| match (order(field, value, literal), wanted) {
            (None, _) => false,
            (Some(found), Order::Greater) => found.is_gt(),
            (Some(found), Order::GreaterEqual) => found.is_ge(),
            (Some(found), Order::Less) => found.is_lt(),
            (Some(found), Order::LessEqual) => found.is_le(),
        }),
        Test::Exists => exists(field, subject),
        Test::NotExists => !exists(field, subject),
        Test::In(list) => any(&|value| list.iter().any(|literal| equal(field, value, literal))),
        Test::NotIn(list) => !any(&|value| list.iter().any(|literal| equal(field, value, literal))),
        Test::Matches(pattern) => any(&|value| pattern.is_match(value)),
        Test::NotMatches(pattern) => !any(&|value| pattern.is_match(value)),
    }
}

/// An attribute exists also without a value; everything else when it has one.
fn exists(field: &Field, subject: &Subject<'_>) -> bool {
    match field {
        Field::Attribute(name) => subject.instance.attributes.contains_key(name),
        _ => any_value(field, subject, &|_| true),
    }
}

fn any_value(field: &Field, subject: &Subject<'_>, holds: &dyn Fn(&str) -> bool) -> bool {
    let instance = subject.instance;
    let value: Cow<'_, str> = match field {
        Field::TaskGroup => return subject.groups.keys().any(|group| holds(group.as_str())),
        Field::AgentConnected => if instance.agent_connected { "true" } else { "false" }.into(),
        Field::AgentVersion => instance.agent_version.as_str().into(),
        Field::Ec2InstanceId => instance.ec2_instance_id.as_str().into(),
        Field::RegisteredAt => instance.registered_at_ms.to_string().into(),
        Field::RunningTasksCount => subject.running_tasks.to_string().into(),
        Field::Attribute(name) => match instance.attributes.get(name) {
            Some(Some(value)) => value.as_str().into(),
            _ => return false,
        },
    };
    !value.is_empty() && holds(&value)
}

/// Texts are equal as they are written; times, versions and counts by what they mean.
fn equal(field: &Field, value: &str, literal: &str) -> bool {
    match field {
        Field::RegisteredAt | Field::RunningTasksCount | Field::AgentVersion => {
            order(field, value, literal) == Some(Ordering::Equal)
        }
        _ => value == literal,
    }
}

/// How a value stands to a literal; `None` when they cannot be compared.
fn order(field: &Field, value: &str, literal: &str) -> Option<Ordering> {
    match field {
        Field::RegisteredAt => Some(value.parse::<i64>().ok()?.cmp(&timestamp_ms(literal)?)),
        Field::RunningTasksCount => Some(value.parse::<i64>().ok()?.cmp(&literal.parse().ok()?)),
        Field::AgentVersion => Some(version(value)?.cmp(&version(literal)?)),
        Field::Attribute(_) => match (value.parse::<f64>(), literal.parse::<f64>()) {
            (Ok(value), Ok(literal)) if value.is_finite() && literal.is_finite() => {
                value.partial_cmp(&literal)
            }
            _ => Some(value.cmp(literal)),
        },
        _ => Some(value.cmp(literal)),
    }
}

/// `1.105.0` by its numbers; a suffix after `-` or `+` does not count.
fn version(text: &str) -> Option<Vec<u64>> {
    let core = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    while parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

/// `2018-06-18T22:28:28+00:00`, with `Z`, without a zone, or the date alone; milliseconds since the epoch.
fn timestamp_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let mut numbers = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let mut parts = clock.splitn(3, ':').map(|part| part.split('.').next()?.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let offset_minutes = match zone {
        "" | "Z" => 0,
        _ => {
            let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
            let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4)?;
            (number / 100 * 60 + number % 100) * if zone.starts_with('-') { -1 } else { 1 }
        }
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_minutes * 60) * 1000)
}

/// Of the Gregorian calendar, with the year beginning in March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}
