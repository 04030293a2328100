//! ECS's cluster query language: `attribute:zone == a and not(task:group == service:db)`.
//!
//! Used by `memberOf` constraints and by the filter of ListContainerInstances. Parsed once, evaluated often.
//! Invariant: an expression of at most 2,000 characters is parsed and evaluated in bounded time and depth.

mod evaluate;
mod parse;

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster::Instance;
use crate::ids::Group;

/// The longest expression ECS takes.
pub(crate) const MAX_CHARACTERS: usize = 2000;

/// A parsed expression.
#[derive(Clone)]
pub struct Expression {
    text: String,
    root: Node,
}

/// What is wrong with an expression, and where (a character, from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {at}")]
pub struct QueryError {
    pub problem: String,
    pub at: usize,
}

/// What an expression looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub instance: &'a Instance,
    /// The groups of which the instance hosts tasks, with their numbers.
    pub groups: &'a BTreeMap<Group, u32>,
    pub running_tasks: u32,
}

#[derive(Debug, Clone)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Compare(Field, Test),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    AgentConnected,
    AgentVersion,
    Attribute(String),
    Ec2InstanceId,
    RegisteredAt,
    RunningTasksCount,
    TaskGroup,
}

#[derive(Debug, Clone)]
enum Test {
    Equals(String),
    NotEquals(String),
    Order(Order, String),
    Exists,
    NotExists,
    In(Vec<String>),
    NotIn(Vec<String>),
    Matches(regex::Regex),
    NotMatches(regex::Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Expression, QueryError> {
        parse::parse(text).map(|root| Expression { text: text.to_owned(), root })
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        evaluate::matches(&self.root, subject)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}

#[cfg(test)]
mod tests;
