//! A remark about a file of a policy directory.

use std::fmt;
use std::io;

use policies::{Finding, Severity};
use serde::Serialize;

/// What is wrong, or questionable, and where. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FileFinding {
    /// Relative to the directory, with `/` between folders; empty for the directory itself.
    pub file: String,
    #[serde(flatten)]
    pub finding: Finding,
}

impl FileFinding {
    /// An error that concerns a file as a whole.
    pub(super) fn whole(file: &str, message: impl Into<String>) -> Self {
        let finding = Finding { line: 1, column: 1, severity: Severity::Error, message: message.into() };
        FileFinding { file: file.to_owned(), finding }
    }

    /// The directory itself cannot be read.
    pub(super) fn of_directory(error: &io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "there is no such directory".to_owned(),
            _ => format!("the directory cannot be read: {error}"),
        };
        Self::whole("", message)
    }

    pub fn is_error(&self) -> bool {
        self.finding.severity == Severity::Error
    }
}

impl fmt::Display for FileFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            return write!(f, "error: {}", self.finding.message);
        }
        write!(f, "{}:{}", self.file, self.finding)
    }
}

/// Adds findings about one file to those about all.
pub(super) fn about(file: &str, findings: Vec<Finding>) -> impl Iterator<Item = FileFinding> {
    findings.into_iter().map(move |finding| FileFinding { file: file.to_owned(), finding })
}
