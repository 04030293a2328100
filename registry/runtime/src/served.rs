//! What a room tells the front door of a request that it answered, for the metrics and the access line.

use std::fmt;
use std::sync::Arc;

/// Left in the extensions of the answer by the room that knows what was asked, and by whom.
#[derive(Clone, Debug)]
pub struct Served {
    pub operation: OperationName,
    /// The ARN of who asked, once that is proven.
    pub principal: Option<Arc<str>>,
}

/// The name of an operation. Its parts come from the program, never from a request, so that there are only so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperationName {
    pub service: &'static str,
    pub name: &'static str,
}

impl OperationName {
    /// An operation that nobody here knows.
    pub const UNKNOWN: Self = Self::new("unknown", "Unknown");

    pub const fn new(service: &'static str, name: &'static str) -> Self {
        Self { service, name }
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.name)
    }
}

impl Served {
    /// An operation that nobody was proven to ask for.
    pub fn of(service: &'static str, name: &'static str) -> Self {
        Self { operation: OperationName::new(service, name), principal: None }
    }
}
