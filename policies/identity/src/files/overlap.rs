//! Inline statements that another policy of the same principal covers.
//!
//! Only inline ones: what a shared policy says is there for others too.

use std::collections::HashMap;

use policies::{Finding, Outline, PolicyKind, Severity, json, managed, outlines};

use super::finding::FileFinding;
use super::model::place;
use super::read::{Rights, Source};

/// What a policy says that may be attached.
pub(super) struct Outlined {
    /// As it is named in messages.
    name: String,
    /// The line in which each statement begins.
    statements: Vec<(u32, Outline)>,
}

impl Outlined {
    /// Of a sound document.
    pub(super) fn of(name: &str, document: &str) -> Outlined {
        let statements = json::parse(document).map(|node| outlines(&node, PolicyKind::Identity));
        let statements = statements.unwrap_or_default().into_iter();
        let statements = statements.map(|outline| (place(document, outline.at()).0, outline)).collect();
        Outlined { name: name.to_owned(), statements }
    }
}

pub(super) fn review(
    source: &Source<'_>,
    rights: &Rights,
    attached: &[String],
    of_this_set: &HashMap<String, Outlined>,
    findings: &mut Vec<FileFinding>,
) {
    if rights.inline.is_empty() {
        return;
    }
    let shipped: Vec<Outlined> = attached
        .iter()
        .filter_map(|arn| managed::by_arn(arn))
        .map(|policy| Outlined::of(policy.name, policy.document))
        .collect();
    let shared: Vec<&Outlined> =
        attached.iter().filter_map(|arn| of_this_set.get(arn)).chain(&shipped).collect();
    for (number, own) in rights.outlines.iter().enumerate() {
        for narrow in own {
            let in_shared = shared.iter().flat_map(|policy| {
                policy.statements.iter().map(|(line, wide)| (format!("{}:{line}", policy.name), wide, true))
            });
            let in_others = rights.outlines.iter().enumerate().filter(|(other, _)| *other != number);
            let in_inline = in_others.flat_map(|(other, policy)| {
                let name = &rights.inline[other].name;
                policy.iter().map(move |wide| (format!("the inline policy {name:?}"), wide, other < number))
            });
            // Of two inline statements that say the same, the later one is too many.
            let found = in_shared.chain(in_inline).find_map(|(of, wide, first)| {
                let shadow = narrow.shadowed_by(wide)?;
                (first || wide.shadowed_by(narrow).is_none())
                    .then(|| shadow.describe(&format!("{} of {of}", wide.label())))
            });
            if let Some(message) = found {
                let (line, column) = place(source.text, narrow.at());
                let finding = Finding { line, column, severity: Severity::Warning, message };
                findings.push(FileFinding { file: source.file.to_owned(), finding });
            }
        }
    }
}
