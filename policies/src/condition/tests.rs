//! One row for each documented fact about a condition.

use super::read;
use crate::context::Context;
use crate::finding::Findings;
use crate::json;

/// Context `k` as given: `None` for a missing key, one element for a single value, `Many` otherwise.
enum Given<'a> {
    Missing,
    One(&'a str),
    Many(&'a [&'a str]),
}

fn holds(operator: &str, values: &str, given: &Given<'_>) -> bool {
    let text = format!("{{\"{operator}\": {{\"x:K\": {values}}}}}");
    let node = json::parse(&text).unwrap();
    let mut findings = Findings::new(&text);
    let conditions = read(&node, true, &mut findings);
    assert!(!findings.has_errors(), "{text}: {:?}", findings.into_sorted());
    let mut context = Context::new();
    context.set("aws:username", "alice");
    context.set("x:star", "*");
    match given {
        Given::Missing => {}
        Given::One(value) => context.set("x:k", *value),
        Given::Many(values) => context.set("x:k", values.iter().map(ToString::to_string).collect::<Vec<_>>()),
    }
    conditions.iter().all(|condition| condition.holds(&context))
}

fn complaint(operator: &str, values: &str) -> String {
    let text = format!("{{\"{operator}\": {{\"x:K\": {values}}}}}");
    let node = json::parse(&text).unwrap();
    let mut findings = Findings::new(&text);
    read(&node, true, &mut findings);
    findings.into_sorted().iter().map(|finding| finding.message.clone()).collect::<Vec<_>>().join("; ")
}

#[test]
fn single_values() {
    for (operator, values, given, expected) in [
        ("StringEquals", r#""a""#, "a", true),
        ("StringEquals", r#""a""#, "A", false),
        ("StringEquals", r#"["b", "a"]"#, "a", true),
        ("StringEquals", r#""a*""#, "ab", false),
        ("StringEquals", r#""a*""#, "a*", true),
        ("StringEquals", r#""${*}""#, "*", true),
        ("StringEquals", r#""${aws:username}""#, "alice", true),
        ("StringEquals", "5", "5", true),
        ("StringEquals", "true", "true", true),
        ("StringNotEquals", r#"["a", "b"]"#, "a", false),
        ("StringNotEquals", r#"["a", "b"]"#, "b", false),
        ("StringNotEquals", r#"["a", "b"]"#, "c", true),
        ("StringEqualsIgnoreCase", r#""aÉ""#, "Aé", true),
        ("StringEqualsIgnoreCase", r#""${aws:USERNAME}""#, "ALICE", true),
        ("StringEqualsIgnoreCase", r#""a*""#, "ab", false),
        ("StringNotEqualsIgnoreCase", r#""a""#, "A", false),
        ("StringNotEqualsIgnoreCase", r#""a""#, "b", true),
        ("StringLike", r#""a*""#, "abc", true),
        ("StringLike", r#""a?c""#, "abc", true),
        ("StringLike", r#""a?c""#, "ac", false),
        ("StringLike", r#""A*""#, "abc", false),
        ("StringLike", r#""${x:star}""#, "anything", false),
        ("StringLike", r#""${x:star}""#, "*", true),
        ("StringLike", r#""${aws:username}-*""#, "alice-1", true),
        ("StringLike", r#""${missing:key, 'a*'}""#, "ab", false),
        ("StringLike", r#""${missing:key, 'a*'}""#, "a*", true),
        ("StringNotLike", r#"["a*", "b*"]"#, "bc", false),
        ("StringNotLike", r#"["a*", "b*"]"#, "c", true),
        ("NumericEquals", r#""10""#, "10.0", true),
        ("NumericEquals", r#"["1", "2"]"#, "2", true),
        ("NumericEquals", "10", "ten", false),
        ("NumericNotEquals", "10", "11", true),
        ("NumericNotEquals", "10", "10", false),
        ("NumericLessThan", "10", "9.99", true),
        ("NumericLessThan", "10", "10", false),
        ("NumericLessThanEquals", "10", "10", true),
        ("NumericGreaterThan", "10", "10.01", true),
        ("NumericGreaterThan", "10", "10", false),
        ("NumericGreaterThanEquals", "10", "10", true),
        ("NumericLessThan", "-5", "-6", true),
        ("DateEquals", r#""2026-11-01T00:00:00Z""#, "1793491200", true),
        ("DateNotEquals", r#""2026-11-01T00:00:00Z""#, "1793491201", true),
        ("DateLessThan", r#""2026-11-01T00:00:00Z""#, "2026-10-31T23:59:59Z", true),
        ("DateLessThanEquals", r#""2026-11-01T00:00:00Z""#, "2026-11-01T01:00:00+01:00", true),
        ("DateGreaterThan", r#""2026-11-01""#, "2026-11-01T00:00:01Z", true),
        ("DateGreaterThan", r#""2026-11-01""#, "2026-11-01T00:00:00Z", false),
        ("DateGreaterThanEquals", "1793491200", "2026-11-01", true),
        ("DateLessThan", r#""2026-11-01""#, "yesterday", false),
        ("Bool", r#""true""#, "true", true),
        ("Bool", "true", "True", true),
        ("Bool", r#""false""#, "true", false),
        ("Bool", r#"["true", "false"]"#, "false", true),
        ("Bool", r#""true""#, "yes", false),
        ("BinaryEquals", r#""QmluYXJ5""#, "QmluYXJ5", true),
        ("BinaryEquals", r#""QmluYXJ5""#, "qmluYXJ5", false),
        ("IpAddress", r#""203.0.113.0/24""#, "203.0.113.77", true),
        ("IpAddress", r#""203.0.113.0/24""#, "203.0.114.1", false),
        ("IpAddress", r#""203.0.113.7""#, "203.0.113.7", true),
        ("IpAddress", r#""203.0.113.7""#, "203.0.113.8", false),
        ("IpAddress", r#"["10.0.0.0/8", "192.168.0.0/16"]"#, "192.168.4.4", true),
        ("IpAddress", r#""10.1.2.3/8""#, "10.200.0.1", true),
        ("IpAddress", r#""2001:db8::/32""#, "2001:db8:1::1", true),
        ("IpAddress", r#""2001:db8::1""#, "2001:db8::1", true),
        ("IpAddress", r#""0.0.0.0/0""#, "2001:db8::1", false),
        ("IpAddress", r#""::/0""#, "10.0.0.1", false),
        ("IpAddress", r#""10.0.0.0/8""#, "::ffff:10.0.0.1", true),
        ("IpAddress", r#""10.0.0.0/8""#, "elsewhere", false),
        ("NotIpAddress", r#""10.0.0.0/8""#, "11.0.0.1", true),
        ("NotIpAddress", r#"["10.0.0.0/8", "11.0.0.0/8"]"#, "11.0.0.1", false),
        ("NotIpAddress", r#""10.0.0.0/8""#, "2001:db8::1", true),
        ("ArnEquals", r#""arn:aws:iam::1:role/*""#, "arn:aws:iam::1:role/a/b", true),
        ("ArnLike", r#""arn:aws:iam::1:role/a?""#, "arn:aws:iam::1:role/ab", true),
        ("ArnLike", r#""arn:aws:*:*:*:role/b""#, "arn:aws:iam::1:role/a", false),
        ("ArnLike", r#""arn:aws:*::*:a""#, "arn:aws:iam::1:role:a", false),
        ("ArnLike", r#""arn:aws:iam::*:*""#, "arn:aws:iam::1:user/a:b", true),
        ("ArnLike", r#""arn:aws:iam::1:user/${aws:username}""#, "arn:aws:iam::1:user/alice", true),
        ("ArnLike", r#""*""#, "arn:aws:iam::1:user/a", true),
        ("ArnLike", r#""arn:aws:iam::1:user/a""#, "user/a", false),
        ("ArnNotEquals", r#""arn:aws:iam::1:role/*""#, "arn:aws:iam::1:user/a", true),
        ("ArnNotLike", r#""arn:aws:iam::1:role/*""#, "arn:aws:iam::1:role/a", false),
    ] {
        let got = holds(operator, values, &Given::One(given));
        assert_eq!(got, expected, "{operator} {values} {given}");
        let got = holds(&format!("{operator}IfExists"), values, &Given::One(given));
        assert_eq!(got, expected, "{operator}IfExists {values} {given}");
        let got = holds(&format!("ForAnyValue:{operator}"), values, &Given::Many(&[given]));
        assert_eq!(got, expected, "ForAnyValue:{operator} {values} {given}");
        let got = holds(&format!("ForAllValues:{operator}"), values, &Given::One(given));
        assert_eq!(got, expected, "ForAllValues:{operator} {values} {given}");
    }
}

#[test]
fn missing_keys() {
    for (operator, value, negated) in [
        ("StringEquals", "a", false),
        ("StringNotEquals", "a", true),
        ("StringEqualsIgnoreCase", "a", false),
        ("StringNotEqualsIgnoreCase", "a", true),
        ("StringLike", "*", false),
        ("StringNotLike", "*", true),
        ("NumericEquals", "1", false),
        ("NumericNotEquals", "1", true),
        ("NumericLessThan", "1", false),
        ("DateEquals", "1", false),
        ("DateNotEquals", "1", true),
        ("Bool", "false", false),
        ("BinaryEquals", "QQ==", false),
        ("IpAddress", "::/0", false),
        ("NotIpAddress", "::/0", true),
        ("ArnLike", "*", false),
        ("ArnNotLike", "*", true),
        ("ArnEquals", "*", false),
        ("ArnNotEquals", "*", true),
    ] {
        let values = format!("{value:?}");
        assert_eq!(holds(operator, &values, &Given::Missing), negated, "{operator}");
        assert!(holds(&format!("{operator}IfExists"), &values, &Given::Missing), "{operator}");
        assert!(holds(&format!("ForAllValues:{operator}"), &values, &Given::Missing), "{operator}");
        assert!(!holds(&format!("ForAnyValue:{operator}"), &values, &Given::Missing), "{operator}");
        assert!(holds(&format!("ForAnyValue:{operator}IfExists"), &values, &Given::Missing), "{operator}");
    }
}

#[test]
fn null_tests_presence_alone() {
    for (value, given, expected) in [
        ("true", Given::Missing, true),
        ("false", Given::Missing, false),
        ("true", Given::One("x"), false),
        ("false", Given::One("x"), true),
        ("false", Given::One(""), true),
        ("false", Given::Many(&["x"]), true),
        ("true", Given::Many(&[]), true),
    ] {
        assert_eq!(holds("Null", value, &given), expected, "{value}");
    }
}

#[test]
fn several_values_need_a_set_operator() {
    for (operator, values, given, expected) in [
        ("StringEquals", r#""a""#, &["a"] as &[&str], false),
        ("StringNotEquals", r#""a""#, &["b"], false),
        ("StringEqualsIfExists", r#""a""#, &["a"], false),
        ("ForAllValues:StringEquals", r#"["a", "b"]"#, &["a", "b"], true),
        ("ForAllValues:StringEquals", r#"["a", "b"]"#, &["a", "c"], false),
        ("ForAllValues:StringEquals", r#"["a", "b"]"#, &[], true),
        ("ForAllValues:StringLike", r#"["a*"]"#, &["a1", "a2"], true),
        ("ForAllValues:StringNotEquals", r#"["a", "b"]"#, &["c", "d"], true),
        ("ForAllValues:StringNotEquals", r#"["a", "b"]"#, &["c", "a"], false),
        ("ForAnyValue:StringEquals", r#"["a", "b"]"#, &["c", "b"], true),
        ("ForAnyValue:StringEquals", r#"["a", "b"]"#, &["c", "d"], false),
        ("ForAnyValue:StringEquals", r#"["a", "b"]"#, &[], false),
        ("ForAnyValue:StringNotEquals", r#"["a", "b"]"#, &["a", "c"], true),
        ("ForAnyValue:StringNotEquals", r#"["a", "b"]"#, &["a", "b"], false),
        ("ForAnyValue:ArnLike", r#""arn:aws:ecs:*:*:cluster/*""#, &["x", "arn:aws:ecs:r:1:cluster/c"], true),
        ("ForAllValues:NumericLessThan", "10", &["1", "9"], true),
        ("ForAllValues:NumericLessThan", "10", &["1", "10"], false),
        ("ForAnyValue:Bool", "true", &["false", "true"], true),
        ("ForAnyValue:IpAddress", r#""10.0.0.0/8""#, &["11.0.0.1", "10.0.0.1"], true),
        ("ForAllValues:DateGreaterThan", "0", &["1", "2"], true),
    ] {
        assert_eq!(holds(operator, values, &Given::Many(given)), expected, "{operator} {values} {given:?}");
    }
}

#[test]
fn a_variable_without_a_value_equals_nothing() {
    assert!(!holds("StringEquals", r#""${no:key}""#, &Given::One("")));
    assert!(holds("StringNotEquals", r#""${no:key}""#, &Given::One("")));
}

#[test]
fn what_an_operator_cannot_read_is_refused() {
    for (operator, values, expected) in [
        ("StringEqual", r#""a""#, "StringEqual is not a condition operator; is StringEquals meant?"),
        ("stringequals", r#""a""#, "stringequals is not a condition operator; it is written StringEquals"),
        ("NullIfExists", "true", "NullIfExists: Null takes neither IfExists nor a set operator"),
        ("ForAnyValue:Null", "true", "ForAnyValue:Null: Null takes neither IfExists nor a set operator"),
        ("NumericEquals", r#""ten""#, "\"ten\" is not a number"),
        (
            "NumericEquals",
            r#""${aws:username}""#,
            "variables stand only in values of String and Arn operators",
        ),
        ("Bool", r#""yes""#, "\"yes\" is neither true nor false"),
        ("BinaryEquals", r#""a""#, "\"a\" is not base64"),
        ("IpAddress", r#""10.0.0.0/33""#, "\"10.0.0.0/33\" is neither an IP address nor a CIDR block"),
        ("StringEquals", "[]", "an empty list of values: no value of a request is one of them"),
        ("StringEquals", "{}", "a condition value is a string, not an object"),
        ("StringEquals", "null", "a condition value is a string, not null"),
        ("StringEquals", r#""${""#, "a variable that is never closed: `}` is missing after `${`"),
        ("ArnLike", r#""role/a""#, "a resource is an ARN (`arn:…`) or `*`"),
        (
            "DateEquals",
            r#""soon""#,
            "\"soon\" is not a date: write 2026-11-01T00:00:00Z, or seconds since 1970",
        ),
    ] {
        assert_eq!(complaint(operator, values), expected, "{operator} {values}");
    }
}
