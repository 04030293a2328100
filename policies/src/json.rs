//! A small JSON reader that remembers places.
//!
//! A security document must not be read with the last of two equal keys winning in silence, and a
//! finding must name line and column; serde_json offers neither. Nesting and size are bounded, so no
//! input makes the reader recurse or allocate without limit.

mod reader;

use crate::finding::{Finding, Findings};

/// Deeper documents are refused. The deepest legal policy document needs seven levels.
pub const MAX_DEPTH: usize = 32;
/// Larger texts are refused, in bytes.
pub const MAX_SIZE: usize = 1024 * 1024;

/// A value with the byte range of the text it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub start: usize,
    pub end: usize,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub key: String,
    /// Byte offset of the key.
    pub key_at: usize,
    pub value: Node,
}

/// Reads one JSON value and nothing after it. Every duplicate key is reported; reading ends at the
/// first place that is not JSON.
pub fn parse(text: &str) -> Result<Node, Vec<Finding>> {
    let mut findings = Findings::new(text);
    let node = read(text, &mut findings);
    match node {
        Some(node) if !findings.has_errors() => Ok(node),
        _ => Err(findings.into_sorted()),
    }
}

/// As [`parse`], adding to findings that exist; a tree with duplicate keys is still returned.
pub fn read(text: &str, findings: &mut Findings<'_>) -> Option<Node> {
    if text.len() > MAX_SIZE {
        findings.error(0, format!("the file is larger than {MAX_SIZE} bytes"));
        return None;
    }
    reader::read_document(text, findings)
}

impl Node {
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&[Member]> {
        match &self.value {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_object()?.iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The list itself, or a single value as a list of one: IAM allows both almost everywhere.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Array(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// What it is, for messages: "a string", "a list".
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Line and column, from 1, of a byte offset; columns count characters.
pub fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before[line_start..].iter().filter(|byte| (**byte & 0xC0) != 0x80).count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
