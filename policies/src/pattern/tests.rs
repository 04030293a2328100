use super::{ActionBuffer, ActionPattern, ArnPattern, FoldedAction, Pattern, SplitArn, Syntax};
use crate::context::Context;

const FULL: Syntax = Syntax { wildcards: true, variables: true };

fn like(pattern: &str, text: &str) -> bool {
    Pattern::compile(pattern, FULL).unwrap().matches(text, &context())
}

fn context() -> Context {
    let mut context = Context::new();
    context.set("aws:username", "al*ce");
    context.set("aws:PrincipalTag/Team", "red");
    context.set("aws:TagKeys", vec!["a".to_owned()]);
    context.set("long", "x".repeat(1000));
    context.set("kanji", "日本");
    context
}

#[test]
fn stars_and_question_marks_match_as_documented() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("a*", "a", true),
        ("*a", "ba", true),
        ("a*b*c", "aXbYc", true),
        ("a*b*c", "aXcYb", false),
        ("?", "", false),
        ("?", "ä", true),
        ("??", "ä", false),
        ("a?c*?", "abcd", true),
        ("a?c*?", "abc", false),
        ("*?*?*", "a", false),
        ("*ab?d*", "xxababxdyy", true),
        ("*aab", "aaab", true),
        ("ab*ba", "aba", false),
        ("A", "a", false),
        ("*日?", "日本", true),
    ] {
        assert_eq!(like(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn what_a_variable_brings_is_literal() {
    assert!(like("home/${aws:username}/*", "home/al*ce/x"));
    assert!(!like("home/${aws:username}/*", "home/alice/x"));
    assert!(like("${AWS:principaltag/TEAM}", "red"));
    assert!(like("${kanji}?", "日本x"));
}

#[test]
fn escapes_and_defaults_are_literal() {
    assert!(like("a${*}b${?}c${$}", "a*b?c$"));
    assert!(!like("a${*}b", "axb"));
    assert!(like("${missing, 'de*f'}", "de*f"));
    assert!(!like("${missing, 'de*f'}", "deef"));
    assert!(like("${missing,''}", ""));
    assert!(like("${aws:username , 'x'}", "al*ce"));
}

#[test]
fn a_variable_without_a_single_value_matches_nothing() {
    assert!(!like("*${missing}*", "anything"));
    assert!(!like("${aws:TagKeys, 'a'}", "a"));
}

#[test]
fn malformed_variables_are_refused() {
    for text in ["${", "${aws:username", "${}", "${a, b}", "${a, 'b}", "${a, 'b' c}", "${${a}}"] {
        assert!(Pattern::compile(text, FULL).is_err(), "{text}");
    }
}

#[test]
fn long_values_spill_to_the_heap() {
    assert!(like("<${long}>*${long}", &format!("<{0}>{0}", "x".repeat(1000))));
}

#[test]
fn variables_are_text_where_they_are_not_allowed() {
    let pattern = Pattern::compile("${aws:username}", Syntax { wildcards: false, variables: false }).unwrap();
    assert!(pattern.matches("${aws:username}", &context()));
}

#[test]
fn arns_are_compared_segment_by_segment() {
    let arn = SplitArn::split("arn:aws:ecr:us-east-1:000000000000:repository/team/app").unwrap();
    for (pattern, expected) in [
        ("*", true),
        ("arn:aws:ecr:*:*:repository/team/*", true),
        ("arn:aws:ecr:us-*:000000000000:repository/*", true),
        ("arn:aws:ecr:*:repository/team/app", false),
        ("arn:aws:*:repository/team/app", false),
        ("arn:aws:ecr:us-east-1:000000000000:repository/team/ap?", true),
        ("arn:aws:ECR:us-east-1:000000000000:repository/team/app", false),
        ("arn:aws:ecr:us-east-1:000000000000:Repository/team/app", false),
        ("arn:aws:ecr:::repository/team/app", false),
        ("arn:aws:ecr", true),
        ("arn:*", true),
        ("arn:aws:ecs", false),
    ] {
        let pattern = ArnPattern::resource(pattern, true, true).unwrap();
        assert_eq!(pattern.matches(&arn, &context()), expected, "{pattern:?}");
    }
}

#[test]
fn an_incomplete_arn_is_padded_only_where_that_is_allowed() {
    assert!(ArnPattern::resource("arn:aws:ecr", true, false).is_err());
    assert!(ArnPattern::resource("arn:aws:ecr:*:*:*", true, false).is_ok());
    assert!(ArnPattern::resource("repository/app", true, true).is_err());
    assert!(ArnPattern::resource("arn:aws:ecr:${aws:RequestedRegion}:*:*", true, true).is_err());
    assert!(ArnPattern::resource("arn:aws:ecr:${aws:RequestedRegion}:*:*", false, true).is_ok());
}

#[test]
fn a_variable_may_bring_whole_segments_into_a_condition() {
    let mut context = Context::new();
    context.set("aws:PrincipalAccount", "000000000000");
    context.set("whole", "arn:aws:iam::000000000000:role/a");
    let arn = SplitArn::split("arn:aws:iam::000000000000:role/a").unwrap();
    for (pattern, expected) in [
        ("arn:aws:iam::${aws:PrincipalAccount}:role/*", true),
        ("${whole}", true),
        ("arn:aws:iam:${aws:PrincipalAccount}:role/*", false),
        ("arn:aws:iam::${missing}:role/*", false),
    ] {
        assert_eq!(
            ArnPattern::condition(pattern, true).unwrap().matches(&arn, &context),
            expected,
            "{pattern}"
        );
    }
}

#[test]
fn actions_match_without_case_and_only_within_their_service() {
    let buffer = ActionBuffer::fold("ecr:PutImage");
    let action = FoldedAction::of(&buffer);
    for (pattern, expected) in [
        ("*", true),
        ("ECR:putimage", true),
        ("ecr:*", true),
        ("ecr:Put*", true),
        ("ecr:?utIm*e", true),
        ("ecr:Get*", false),
        ("ecs:*", false),
    ] {
        assert_eq!(ActionPattern::compile(pattern).unwrap().matches(&action, &Context::new()), expected);
    }
    for pattern in ["ecr", "ecr*", "*:*", "e*:PutImage", "ecr:", ":Put", "ecr:Put Image", ""] {
        assert!(ActionPattern::compile(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn an_action_without_a_service_matches_only_the_star() {
    let buffer = ActionBuffer::fold("ecr");
    let action = FoldedAction::of(&buffer);
    assert!(!ActionPattern::compile("ecr:*").unwrap().matches(&action, &Context::new()));
    assert!(ActionPattern::compile("*").unwrap().matches(&action, &Context::new()));
    let buffer = ActionBuffer::fold(&format!("ecr:{}", "X".repeat(200)));
    let long = FoldedAction::of(&buffer);
    assert!(ActionPattern::compile("ecr:x*").unwrap().matches(&long, &Context::new()));
}

#[test]
fn hostile_patterns_take_linear_time() {
    let pattern = format!("{}b", "*a".repeat(2_000));
    let text = "a".repeat(10_000);
    assert!(!like(&pattern, &text));
    let pattern = format!("*{}b*", "a".repeat(5_000));
    assert!(!like(&pattern, &text));
}
