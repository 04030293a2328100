//! What is well formed and yet means less, or more, than its author thinks.
//!
//! For those who write policies: nothing is decided by it, and no server asks. Looks at documents that
//! have passed the reader; every remark is a warning with its place.

mod administration;
mod glob;
mod outline;
mod reach;

use crate::condition;
use crate::document::PolicyKind;
use crate::finding::{Finding, Findings};
use crate::json::{Node, position};
pub use outline::{Outline, Shadow, outlines};

/// Remarks about a sound document that stands in `text`.
pub fn lint(text: &str, document: &Node, kind: PolicyKind) -> Vec<Finding> {
    let mut findings = Findings::new(text);
    let variables = document.get("Version").and_then(Node::as_str) == Some("2012-10-17");
    for statement in document.get("Statement").map_or(&[][..], Node::items) {
        let actions = strings(statement.get("Action").or_else(|| statement.get("NotAction")));
        administration::review(statement, kind, &mut findings);
        reach::review(statement, kind, &mut findings);
        if let Some(conditions) = statement.get("Condition") {
            let services: Vec<&str> =
                actions.iter().filter_map(|(_, action)| Some(action.split_once(':')?.0)).collect();
            condition::review(conditions, variables, &services, &mut findings);
        }
    }
    shadows(text, &outlines(document, kind), &mut findings);
    findings.into_sorted()
}

/// Statements that another one of the document covers.
fn shadows(text: &str, statements: &[Outline], findings: &mut Findings<'_>) {
    for (index, narrow) in statements.iter().enumerate() {
        let covering = statements.iter().enumerate().filter(|(other, _)| *other != index);
        let found = covering.filter_map(|(other, wide)| Some((other, wide, narrow.shadowed_by(wide)?)));
        // Of two that say the same, the later one is too many.
        let mut found = found.filter(|(other, wide, _)| *other < index || wide.shadowed_by(narrow).is_none());
        if let Some((_, wide, shadow)) = found.next() {
            let line = position(text, wide.at()).0;
            findings.warning(narrow.at(), shadow.describe(&format!("{} (line {line})", wide.label())));
        }
    }
}

/// The strings of an element, with their places.
fn strings(element: Option<&Node>) -> Vec<(usize, &str)> {
    let items = element.map_or(&[][..], Node::items);
    items.iter().filter_map(|item| Some((item.start, item.as_str()?))).collect()
}

#[cfg(test)]
mod tests;
