//! What a reader of a document says about it, with the place it speaks of.
//!
//! A document with an error is never used; one with warnings alone is.

use std::fmt;

use serde::Serialize;

use crate::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One remark about a document. Line and column count from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Finding {
    pub line: u32,
    pub column: u32,
    pub severity: Severity,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: {}", self.line, self.column, self.message)
    }
}

/// Collects findings about one text; places are byte offsets into it.
#[derive(Debug)]
pub struct Findings<'t> {
    text: &'t str,
    found: Vec<Finding>,
}

impl<'t> Findings<'t> {
    /// A text with more findings than this is not worth reading further; the rest is dropped.
    const MOST: usize = 100;

    pub fn new(text: &'t str) -> Self {
        Findings { text, found: Vec::new() }
    }

    pub fn error(&mut self, at: usize, message: impl Into<String>) {
        self.push(at, Severity::Error, message.into());
    }

    pub fn warning(&mut self, at: usize, message: impl Into<String>) {
        self.push(at, Severity::Warning, message.into());
    }

    /// Adds findings that already have their places in the same text.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.found.extend(findings);
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// In order of place.
    pub fn into_sorted(mut self) -> Vec<Finding> {
        self.found.sort();
        self.found
    }

    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// How many errors there are, to see later whether a part added any.
    pub(crate) fn errors(&self) -> usize {
        self.found.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    fn push(&mut self, at: usize, severity: Severity, message: String) {
        // Errors are never dropped in favour of warnings: one error must always be left standing.
        if self.found.len() >= Self::MOST && (severity == Severity::Warning || self.has_errors()) {
            return;
        }
        let (line, column) = json::position(self.text, at);
        self.found.push(Finding { line, column, severity, message });
    }
}
