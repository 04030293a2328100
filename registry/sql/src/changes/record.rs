//! What a group executed, as bytes: statements with their parameters, in their order.
//!
//! `sequence be64 | previous be64 | texts be32, each length be32 and bytes | statements be32`, then for each
//! statement `text be32 | kind | rows changed be64 | parameters be16, each kind and value`. Only statements
//! that can change something are in it. Invariant: what is decoded is what was encoded, or nothing.

use std::collections::HashMap;

use crate::Value;

/// What is being recorded on a connection.
#[derive(Default)]
pub(crate) struct Recording {
    texts: Vec<&'static str>,
    by_address: HashMap<(usize, usize), u32>,
    statements: Vec<u8>,
    count: u32,
}

/// A place to go back to when a closure is undone.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    len: usize,
    count: u32,
}

/// How a statement is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Statement = 0,
    /// Several statements without parameters.
    Batch = 1,
}

impl Recording {
    pub(crate) fn mark(&self) -> Mark {
        Mark { len: self.statements.len(), count: self.count }
    }

    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.statements.truncate(mark.len);
        self.count = mark.count;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.by_address.clear();
        self.statements.clear();
        self.count = 0;
    }

    pub(crate) fn push(&mut self, kind: Kind, sql: &'static str, params: &[Value], changed: u64) {
        let texts = &mut self.texts;
        let text = *self.by_address.entry((sql.as_ptr().addr(), sql.len())).or_insert_with(|| {
            texts.push(sql);
            texts.len() as u32 - 1
        });
        let out = &mut self.statements;
        out.extend(text.to_be_bytes());
        out.push(kind as u8);
        out.extend(changed.to_be_bytes());
        out.extend((params.len() as u16).to_be_bytes());
        for value in params {
            match value {
                Value::Null => out.push(0),
                Value::Integer(n) => {
                    out.push(1);
                    out.extend(n.to_be_bytes());
                }
                Value::Text(text) => {
                    out.push(2);
                    bytes(out, text.as_bytes());
                }
                Value::Blob(blob) => {
                    out.push(3);
                    bytes(out, blob);
                }
            }
        }
        self.count += 1;
    }

    /// The group as a frame.
    pub(crate) fn encode(&self, sequence: u64, previous: u64) -> Vec<u8> {
        let mut frame = Vec::with_capacity(self.statements.len() + 256);
        frame.extend(sequence.to_be_bytes());
        frame.extend(previous.to_be_bytes());
        frame.extend((self.texts.len() as u32).to_be_bytes());
        for text in &self.texts {
            bytes(&mut frame, text.as_bytes());
        }
        frame.extend(self.count.to_be_bytes());
        frame.extend(&self.statements);
        frame
    }
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// One statement to be run again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Into the texts of the group.
    pub(super) text: usize,
    pub(super) kind: Kind,
    pub(super) changed: u64,
    pub(super) params: Vec<Value>,
}

/// A group, decoded.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) texts: Vec<String>,
    pub(super) statements: Vec<Statement>,
}

/// Number of a frame and of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) previous: u64,
}

impl Place {
    pub(super) fn of(frame: &[u8]) -> Option<Place> {
        let mut reader = Reader(frame);
        Some(Place { sequence: reader.u64()?, previous: reader.u64()? })
    }
}

impl Group {
    pub(super) fn decode(frame: &[u8]) -> Option<Group> {
        let mut reader = Reader(frame.get(16..)?);
        let texts = (0..reader.u32()?).map(|_| reader.text()).collect::<Option<Vec<_>>>()?;
        let count = reader.u32()?;
        let statements = (0..count).map(|_| reader.statement()).collect::<Option<Vec<_>>>()?;
        let known = statements.iter().all(|statement| statement.text < texts.len());
        (known && reader.0.is_empty()).then_some(Group { texts, statements })
    }
}

/// Takes values off the front; `None` when they are not all there.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front.to_vec())
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn statement(&mut self) -> Option<Statement> {
        let text = usize::try_from(self.u32()?).ok()?;
        let kind = match self.array::<1>()? {
            [0] => Kind::Statement,
            [1] => Kind::Batch,
            _ => return None,
        };
        let changed = self.u64()?;
        let count = u16::from_be_bytes(self.array()?);
        let params = (0..count).map(|_| self.value()).collect::<Option<Vec<_>>>()?;
        Some(Statement { text, kind, changed, params })
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.array::<1>()? {
            [0] => Value::Null,
            [1] => Value::Integer(i64::from_be_bytes(self.array()?)),
            [2] => Value::Text(self.text()?),
            [3] => Value::Blob(self.bytes()?),
            _ => return None,
        })
    }
}

/// What stands at the front of each file: who keeps the log, so that one replica leads to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Preface {
    /// Term and sequence of the file, as its name has them.
    pub(super) at: (u64, u64),
    /// How many must hold a group before it is acknowledged; 0 where none waits for this replica.
    pub(super) quorum: u32,
    /// Names and folders.
    pub(super) replicas: Vec<(String, String)>,
}

impl Preface {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.at.0.to_be_bytes().to_vec();
        out.extend(self.at.1.to_be_bytes());
        out.extend(self.quorum.to_be_bytes());
        out.extend((self.replicas.len() as u32).to_be_bytes());
        for (name, root) in &self.replicas {
            bytes(&mut out, name.as_bytes());
            bytes(&mut out, root.as_bytes());
        }
        out
    }

    pub(super) fn decode(frame: &[u8]) -> Option<Preface> {
        let mut reader = Reader(frame);
        let at = (reader.u64()?, reader.u64()?);
        let (quorum, count) = (reader.u32()?, reader.u32()?);
        let replicas = (0..count).map(|_| Some((reader.text()?, reader.text()?)));
        Some(Preface { at, quorum, replicas: replicas.collect::<Option<Vec<_>>>()? })
    }
}
