//! A lifecycle policy as its text says, checked as Amazon ECR checks it.
//!
//! What ECR knows and nothing here does (archiving) is refused by name, so that no rule is stored that would not
//! act.

use std::collections::BTreeSet;

use serde::Deserialize;
use thiserror::Error;

/// ECR's bounds on the text, in characters, and on rules.
const TEXT_CHARS: std::ops::RangeInclusive<usize> = 1..=30_720;
const RULES: usize = 50;
/// Characters of a pattern or prefix, and wildcards of a pattern.
const FILTER_CHARS: usize = 128;
const WILDCARDS: usize = 4;

/// What is wrong with a policy, in words for its author.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PolicyProblem(String);

/// A policy: its rules in the order of their priorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LifecyclePolicy {
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) priority: i64,
    pub(super) selection: Selection,
    pub(super) limit: Limit,
}

/// Which images a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    Untagged,
    /// Each pattern (`*` stands for any run of characters) matches one of the image's tags.
    Patterns(BTreeSet<String>),
    /// Each prefix begins one of the image's tags.
    Prefixes(BTreeSet<String>),
    Any,
}

/// Which of those go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// All but so many of the youngest.
    CountMoreThan(usize),
    /// Those pushed more than so many days ago.
    DaysSincePushed(i64),
    /// Those last pulled, or else pushed, more than so many days ago.
    DaysSincePulled(i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyText {
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleText {
    rule_priority: i64,
    #[serde(rename = "description")]
    _description: Option<String>,
    selection: SelectionText,
    action: ActionText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SelectionText {
    tag_status: String,
    tag_pattern_list: Option<Vec<String>>,
    tag_prefix_list: Option<Vec<String>>,
    storage_class: Option<String>,
    count_type: String,
    count_unit: Option<String>,
    count_number: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActionText {
    #[serde(rename = "type")]
    kind: String,
    target_storage_class: Option<String>,
}

impl LifecyclePolicy {
    /// # Errors
    /// Says what is wrong, and in which rule.
    pub(crate) fn parse(text: &str) -> Result<Self, PolicyProblem> {
        if !TEXT_CHARS.contains(&text.chars().count()) {
            return problem(format!(
                "the policy must have {} to {} characters",
                TEXT_CHARS.start(),
                TEXT_CHARS.end()
            ));
        }
        let parsed: PolicyText =
            serde_json::from_str(text).map_err(|error| PolicyProblem(error.to_string()))?;
        if !(1..=RULES).contains(&parsed.rules.len()) {
            return problem(format!("a policy must have 1 to {RULES} rules"));
        }
        let mut rules = Vec::with_capacity(parsed.rules.len());
        for rule in parsed.rules {
            let priority = rule.rule_priority;
            let rule = rule.parse();
            rules.push(
                rule.map_err(|why| PolicyProblem(format!("rule with rulePriority {priority}: {why}")))?,
            );
        }
        rules.sort_by_key(|rule| rule.priority);
        check_together(&rules)?;
        Ok(Self { rules })
    }
}

/// What no rule can be told alone.
fn check_together(rules: &[Rule]) -> Result<(), PolicyProblem> {
    for (at, rule) in rules.iter().enumerate() {
        let (before, after) = (&rules[..at], &rules[at + 1..]);
        if before.last().is_some_and(|before| before.priority == rule.priority) {
            return problem(format!("rulePriority {} is given twice", rule.priority));
        }
        let same = before.iter().find(|before| before.selection == rule.selection);
        match (&rule.selection, same) {
            (Selection::Any, _) if !after.is_empty() => {
                return problem("a rule with tagStatus any must have the highest rulePriority".to_owned());
            }
            (Selection::Untagged, Some(_)) => {
                return problem("only one rule may have tagStatus untagged".to_owned());
            }
            (Selection::Patterns(_) | Selection::Prefixes(_), Some(same)) => {
                let (one, other) = (same.priority, rule.priority);
                return problem(format!(
                    "the rules with rulePriority {one} and {other} select the same tags"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

impl RuleText {
    fn parse(self) -> Result<Rule, PolicyProblem> {
        if self.rule_priority < 1 {
            return problem("rulePriority must be 1 or more".to_owned());
        }
        match (self.action.kind.as_str(), &self.action.target_storage_class) {
            ("expire", None) => {}
            ("expire", Some(_)) => return problem("targetStorageClass goes with transition only".to_owned()),
            ("transition", _) => {
                return problem("action type transition: nothing is archived here".to_owned());
            }
            (other, _) => return problem(format!("action type {other} must be expire")),
        }
        match self.selection.storage_class.as_deref() {
            None | Some("standard") => {}
            Some("archive") => return problem("storageClass archive: nothing is archived here".to_owned()),
            Some(other) => return problem(format!("storageClass {other} must be standard")),
        }
        let limit = self.selection.limit()?;
        Ok(Rule { priority: self.rule_priority, limit, selection: self.selection.parse()? })
    }
}

impl SelectionText {
    fn parse(self) -> Result<Selection, PolicyProblem> {
        let lists = (self.tag_pattern_list, self.tag_prefix_list);
        match (self.tag_status.as_str(), lists) {
            ("untagged", (None, None)) => Ok(Selection::Untagged),
            ("any", (None, None)) => Ok(Selection::Any),
            ("untagged" | "any", _) => {
                problem("tagPatternList and tagPrefixList go with tagStatus tagged only".to_owned())
            }
            ("tagged", (Some(patterns), None)) => {
                Ok(Selection::Patterns(filters("tagPatternList", patterns, WILDCARDS)?))
            }
            ("tagged", (None, Some(prefixes))) => {
                Ok(Selection::Prefixes(filters("tagPrefixList", prefixes, 0)?))
            }
            ("tagged", _) => {
                problem("tagStatus tagged needs either tagPatternList or tagPrefixList".to_owned())
            }
            (other, _) => problem(format!("tagStatus {other} must be one of tagged, untagged, any")),
        }
    }

    fn limit(&self) -> Result<Limit, PolicyProblem> {
        let count = usize::try_from(self.count_number).ok().filter(|count| *count > 0);
        let Some(count) = count else { return problem("countNumber must be 1 or more".to_owned()) };
        let days = match (self.count_type.as_str(), self.count_unit.as_deref()) {
            ("imageCountMoreThan", None) => return Ok(Limit::CountMoreThan(count)),
            ("imageCountMoreThan", Some(_)) => {
                return problem("countUnit goes with sinceImagePushed and sinceImagePulled only".to_owned());
            }
            ("sinceImagePushed" | "sinceImagePulled", Some("days")) => self.count_number,
            ("sinceImagePushed" | "sinceImagePulled", _) => {
                return problem(format!("countType {} needs countUnit days", self.count_type));
            }
            ("sinceImageTransitioned", _) => {
                return problem("countType sinceImageTransitioned: nothing is archived here".to_owned());
            }
            (other, _) => {
                return problem(format!(
                    "countType {other} must be one of imageCountMoreThan, sinceImagePushed, sinceImagePulled"
                ));
            }
        };
        Ok(match self.count_type.as_str() {
            "sinceImagePulled" => Limit::DaysSincePulled(days),
            _ => Limit::DaysSincePushed(days),
        })
    }
}

/// The entries of a list of patterns or prefixes.
fn filters(list: &str, filters: Vec<String>, wildcards: usize) -> Result<BTreeSet<String>, PolicyProblem> {
    if filters.is_empty() {
        return problem(format!("{list} must not be empty"));
    }
    for filter in &filters {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*');
        let stars = filter.bytes().filter(|byte| *byte == b'*').count();
        if stars > wildcards {
            let most = if wildcards == 0 { "no".to_owned() } else { format!("at most {wildcards}") };
            return problem(format!("{list}: '{filter}' may have {most} wildcards (*)"));
        }
        if !(1..=FILTER_CHARS).contains(&filter.len()) || !filter.bytes().all(allowed) {
            return problem(format!("{list}: '{filter}' is no part of a tag"));
        }
    }
    Ok(filters.into_iter().collect())
}

fn problem<T>(why: String) -> Result<T, PolicyProblem> {
    Err(PolicyProblem(why))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::LifecyclePolicy;

    fn rule(priority: i64, selection: Value) -> Value {
        json!({ "rulePriority": priority, "selection": selection, "action": { "type": "expire" } })
    }

    fn parse(rules: &[Value]) -> Result<LifecyclePolicy, String> {
        let text = json!({ "rules": rules }).to_string();
        LifecyclePolicy::parse(&text).map_err(|problem| problem.to_string())
    }

    fn untagged() -> Value {
        json!({ "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1 })
    }

    #[test]
    fn rules_are_sorted_by_priority() {
        let any = json!({ "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 9 });
        let tagged = json!({ "tagStatus": "tagged", "tagPatternList": ["*test*1*2*3", "test*1*2*3*"],
            "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 14 });
        let policy = parse(&[rule(30, any), rule(2, tagged), rule(7, untagged())]).unwrap();
        assert_eq!(policy.rules.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [2, 7, 30]);
    }

    #[test]
    fn what_amazon_ecr_refuses_is_refused_with_the_reason() {
        let selected = |members: Value| {
            let mut selection =
                json!({ "tagStatus": "tagged", "countType": "imageCountMoreThan", "countNumber": 1 });
            for (name, value) in members.as_object().unwrap() {
                selection[name] = value.clone();
            }
            rule(1, selection)
        };
        let any = json!({ "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1 });
        let prod = json!({ "tagStatus": "tagged", "tagPrefixList": ["a", "b"], "countType": "imageCountMoreThan", "countNumber": 1 });
        let prod_again = json!({ "tagStatus": "tagged", "tagPrefixList": ["b", "a"], "countType": "imageCountMoreThan", "countNumber": 5 });
        for (rules, reason) in [
            (vec![], "1 to 50 rules"),
            (vec![rule(0, untagged())], "rulePriority must be 1 or more"),
            (vec![rule(1, untagged()), rule(1, any.clone())], "rulePriority 1 is given twice"),
            (vec![rule(1, untagged()), rule(2, untagged())], "only one rule may have tagStatus untagged"),
            (vec![rule(1, any), rule(2, untagged())], "must have the highest rulePriority"),
            (vec![rule(1, prod), rule(2, prod_again)], "rulePriority 1 and 2 select the same tags"),
            (vec![selected(json!({}))], "needs either tagPatternList or tagPrefixList"),
            (vec![selected(json!({ "tagPrefixList": [] }))], "tagPrefixList must not be empty"),
            (vec![selected(json!({ "tagPrefixList": ["a*"] }))], "may have no wildcards"),
            (
                vec![selected(json!({ "tagPatternList": ["test*1*2*3*4*5*6"] }))],
                "may have at most 4 wildcards",
            ),
            (vec![selected(json!({ "tagPatternList": ["a b"] }))], "is no part of a tag"),
            (vec![selected(json!({ "tagPatternList": ["a"], "tagPrefixList": ["a"] }))], "needs either"),
            (vec![selected(json!({ "tagStatus": "any", "tagPrefixList": ["a"] }))], "tagStatus tagged only"),
            (vec![selected(json!({ "tagStatus": "some" }))], "must be one of tagged, untagged, any"),
            (
                vec![selected(json!({ "tagStatus": "any", "countNumber": 0 }))],
                "countNumber must be 1 or more",
            ),
            (vec![selected(json!({ "tagStatus": "any", "countUnit": "days" }))], "countUnit goes with"),
            (
                vec![selected(json!({ "tagStatus": "any", "countType": "sinceImagePushed" }))],
                "needs countUnit days",
            ),
            (
                vec![selected(json!({ "tagStatus": "any", "countType": "sinceImageTransitioned" }))],
                "nothing is archived",
            ),
            (vec![selected(json!({ "tagStatus": "any", "storageClass": "archive" }))], "nothing is archived"),
            (vec![selected(json!({ "tagStatus": "any", "colour": "red" }))], "unknown field"),
            (
                vec![
                    json!({ "rulePriority": 1, "selection": untagged(), "action": { "type": "transition", "targetStorageClass": "archive" } }),
                ],
                "nothing is archived",
            ),
            (vec![json!({ "rulePriority": 1, "selection": untagged() })], "missing field `action`"),
        ] {
            let problem = parse(&rules).unwrap_err();
            assert!(problem.contains(reason), "{rules:?}: {problem}");
        }
        assert!(LifecyclePolicy::parse("").is_err());
        assert!(LifecyclePolicy::parse(&" ".repeat(30_721)).is_err());
        assert!(LifecyclePolicy::parse(r#"{"rules": [], "rules": []}"#).is_err());
    }
}
