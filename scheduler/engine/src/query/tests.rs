//! The cluster query language against one instance.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::InstanceStatus;
use crate::resources::Registered;

fn matches(text: &str) -> bool {
    let attributes = [
        ("ecs.instance-type", Some("g2.xlarge")),
        ("ecs.availability-zone", Some("us-east-1a")),
        ("stack", Some("prod")),
        ("size", Some("10")),
        ("gpu", None),
    ];
    let instance = Instance {
        id: "i".into(),
        ec2_instance_id: "i-0123".to_owned(),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1.105.0".to_owned(),
        // 2018-06-18T22:28:28Z
        registered_at_ms: 1_529_360_908_000,
        registered: Registered::default(),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).into(),
        listens: false,
    };
    let groups = BTreeMap::from([(Group::from("service:db"), 1), (Group::from("family:web"), 2)]);
    let subject = Subject { instance: &instance, groups: &groups, running_tasks: 3 };
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&subject)
}

#[test]
fn expressions_that_hold() {
    for text in [
        "attribute:stack == prod",
        "attribute:stack equals \"prod\"",
        "attribute:stack=='prod'",
        "attribute:stack != test",
        "attribute:missing != test",
        "attribute:stack exists",
        "attribute:gpu exists",
        "attribute:missing !exists",
        "attribute:missing not_exists",
        "attribute:ecs.instance-type =~ g2.*",
        "attribute:ecs.instance-type matches (g2|p3)\\..*",
        "attribute:ecs.instance-type !~ t2.*",
        "attribute:ecs.availability-zone in [us-east-1a, us-east-1b]",
        "attribute:ecs.availability-zone not_in ['us-east-1c']",
        "attribute:ecs.availability-zone !in [us-east-1c]",
        "attribute:size > 9",
        "attribute:size less_than_equal 10",
        "agentConnected == true",
        "agentVersion >= 1.9.0",
        "agentVersion == 1.105",
        "ec2InstanceId in ['i-0123', 'i-4']",
        "registeredAt >= 2018-06-18",
        "registeredAt == 2018-06-18T22:28:28Z",
        "registeredAt == 2018-06-19T00:28:28+02:00",
        "registeredAt < 2018-06-18T22:28:29+00:00",
        "runningTasksCount <= 3",
        "task:group == service:db",
        "task:group =~ family:.*",
        "not(task:group == service:cache)",
        "!(task:group == service:cache)",
        "task:group != service:cache",
        "(attribute:stack == test or attribute:stack == prod) and attribute:gpu exists",
        "attribute:stack == test || attribute:stack == prod && agentConnected == true",
        "not not attribute:stack == prod",
    ] {
        assert!(matches(text), "{text}");
    }
}

#[test]
fn expressions_that_do_not_hold() {
    for text in [
        "attribute:stack == test",
        "attribute:stack == pro",
        "attribute:ecs.instance-type =~ g2",
        "attribute:ecs.instance-type =~ 2.*",
        "attribute:size > 9000",
        "attribute:size == 10.0",
        "attribute:stack > 9z and attribute:stack < 9z",
        "agentVersion > 1.105.0",
        "registeredAt > 2018-06-19",
        "runningTasksCount > 3",
        "task:group == service:cache",
        "not(task:group == service:db)",
        "attribute:missing == x",
        "attribute:missing > 1",
        "attribute:stack == prod and attribute:stack == test",
        "registeredAt == yesterday",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn and_binds_closer_than_or() {
    assert!(matches("attribute:stack == prod or attribute:stack == a and attribute:stack == b"));
    assert!(!matches("(attribute:stack == prod or attribute:stack == a) and attribute:stack == b"));
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, problem, at) in [
        ("", "expected a subject", 1),
        ("attribute: == x", "expected a subject", 1),
        ("color == red", "expected a subject", 1),
        ("attribute:a ~ b", "expected an operator", 13),
        ("attribute:a ==", "expected a value", 15),
        ("attribute:a == 'b", "a quote is not closed", 16),
        ("attribute:a in b", "expected `[`", 16),
        ("attribute:a in [b", "expected `,` or `]`", 18),
        ("attribute:a == b c", "unexpected text", 18),
        ("(attribute:a == b", "expected `)`", 18),
        ("attribute:a == b and", "expected a subject", 21),
        ("attribute:a =~ (", "not a regular expression", 15),
        ("attribute:a =~ 'x{1000}{1000}'", "not a regular expression", 15),
    ] {
        let error = Expression::parse(text).unwrap_err();
        assert!(error.problem.starts_with(problem), "{text}: {error}");
        assert_eq!(error.at, at, "{text}: {error}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = format!("{}attribute:a exists{}", "(".repeat(900), ")".repeat(900));
    assert_eq!(Expression::parse(&nested).unwrap_err().problem, "nested too deeply");
    let negated = format!("{} attribute:a exists", "not ".repeat(400));
    assert_eq!(Expression::parse(&negated).unwrap_err().problem, "nested too deeply");
    let long = format!("attribute:a == {}", "é".repeat(2000));
    assert_eq!(Expression::parse(&long).unwrap_err().problem, "more than 2000 characters");
    let wide = vec!["attribute:a exists"; 80].join(" or ");
    assert!(Expression::parse(&wide).is_ok());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z:=!<>~()\\[\\],'\" |&.é]{0,60}") {
        drop(Expression::parse(&text));
    }
}
