//! Resources that no action of a statement can be about, and actions that no resource of it can meet.

use super::glob::ArnGlob;
use super::strings;
use crate::actions::{self, Known};
use crate::document::PolicyKind;
use crate::finding::Findings;
use crate::json::Node;
use crate::pattern::ActionPattern;

/// An action of the statement that is known well enough to tell what it can be about.
struct About<'n> {
    at: usize,
    text: &'n str,
    arns: Vec<&'static str>,
}

pub(super) fn review(statement: &Node, kind: PolicyKind, findings: &mut Findings<'_>) {
    let actions = strings(statement.get("Action"));
    let mut known = Vec::new();
    for (at, text) in &actions {
        if let Some(arns) = arns_of(text) {
            known.push(About { at: *at, text, arns });
        }
    }
    if kind == PolicyKind::RepositoryPolicy {
        return of_a_repository(&known, findings);
    }
    let resources = strings(statement.get("Resource"));
    if resources.is_empty() || resources.iter().any(|(_, text)| *text == "*") {
        return;
    }
    let overlap =
        |resource: &str, arn: &str| ArnGlob::new(resource, true).overlaps(&ArnGlob::new(arn, false));
    let all_known = known.len() == actions.len();
    let met = |resource: &str| {
        !all_known || known.iter().any(|about| about.arns.iter().any(|arn| overlap(resource, arn)))
    };
    let (reached, unreached): (Vec<_>, Vec<_>) = resources.into_iter().partition(|(_, text)| met(text));
    let mut example = known.iter().filter_map(|about| Some((about.text, about.arns.first()?)));
    if let Some((action, arn)) = example.next() {
        for (at, text) in unreached {
            findings.warning(
                at,
                format!("no action of this statement is ever about {text}; {action} is about {arn}"),
            );
        }
    }
    for about in &known {
        if about.arns.is_empty() {
            findings.warning(
                about.at,
                format!(
                    "{} never matches here: it knows no resources, so it needs a statement with \"Resource\": \"*\"",
                    about.text
                ),
            );
        } else if !reached.is_empty()
            && !reached.iter().any(|(_, text)| about.arns.iter().any(|arn| overlap(text, arn)))
        {
            findings.warning(
                about.at,
                format!("{} never matches here: it is about {}", about.text, about.arns.join(", ")),
            );
        }
    }
}

fn of_a_repository(known: &[About<'_>], findings: &mut Findings<'_>) {
    for about in known.iter().filter(|about| !about.arns.contains(&actions::REPOSITORY)) {
        findings.warning(
            about.at,
            format!("{} is nothing that is done to a repository: here it never matches", about.text),
        );
    }
}

/// The ARNs that an action, or those that a pattern matches, can be about; None when that is not known.
fn arns_of(text: &str) -> Option<Vec<&'static str>> {
    let pattern = ActionPattern::compile(text).ok()?;
    // Where Berth's own actions have resources is for their operations to say.
    let service = pattern.service().filter(|service| *service != actions::OWN)?;
    let matching = |known: &Known| pattern.matches_operation(&known.name.to_ascii_lowercase());
    let found: Vec<Known> = actions::known(service).filter(matching).collect();
    if found.is_empty() {
        return None;
    }
    let mut arns: Vec<&str> = found.iter().flat_map(|known| known.arns(service)).collect();
    arns.sort_unstable();
    arns.dedup();
    Some(arns)
}
