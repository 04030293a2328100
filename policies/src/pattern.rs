//! Text patterns: `*` and `?`, and `${variables}` filled from the context of a request.
//!
//! What a variable brings in is always literal text, so a tag whose value is `*` matches a star and
//! nothing else. A variable without a value makes its pattern match nothing. Matching takes linear
//! time in the text (see [`glob`]) and allocates nothing but for texts of extraordinary length.

mod action;
mod arn;
mod glob;
mod scratch;

pub(crate) use action::{ActionBuffer, ActionPattern, FoldedAction};
pub(crate) use arn::{ArnPattern, SplitArn};

use crate::context::{Context, ContextValue, FoldedKey};
use glob::{Flat, LITERAL, ONE, RUN};
use scratch::Scratch;

/// Which of the special forms a pattern's place allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syntax {
    pub(crate) wildcards: bool,
    pub(crate) variables: bool,
}

#[derive(Debug)]
pub(crate) struct Pattern {
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Any,
    Literal(Box<str>),
    /// The text, then a single `*`.
    Prefix(Box<str>),
    Flat(Flat),
    Template {
        /// What every match begins with: most texts are told apart by it, before anything is filled in.
        begins: Box<str>,
        pieces: Box<[Piece]>,
    },
}

#[derive(Debug)]
enum Piece {
    Text(Flat),
    Variable(Variable),
}

/// `${key}` or `${key, 'default'}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) key: FoldedKey,
    /// The key as it is written, for explanations.
    pub(crate) written: Box<str>,
    pub(crate) default: Option<Box<str>>,
}

impl Variable {
    /// The text it stands for: none when the key is missing and has no default, or holds a list.
    pub(crate) fn resolve<'a>(&'a self, context: &'a Context) -> Option<&'a str> {
        match context.get_folded(&self.key) {
            Some(ContextValue::One(value)) => Some(value),
            Some(ContextValue::Many(_)) => None,
            None => self.default.as_deref(),
        }
    }
}

impl Pattern {
    pub(crate) fn compile(text: &str, syntax: Syntax) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut flat = Flat::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if syntax.variables && rest.starts_with("${") {
                let (piece, length) = variable(rest)?;
                match piece {
                    Escape::Literal(character) => flat.push_char(character, LITERAL),
                    Escape::Variable(variable) => {
                        pieces.push(Piece::Text(std::mem::take(&mut flat)));
                        pieces.push(Piece::Variable(variable));
                    }
                }
                rest = &rest[length..];
                continue;
            }
            match first {
                '*' if syntax.wildcards => flat.push_char('*', RUN),
                '?' if syntax.wildcards => flat.push_char('?', ONE),
                _ => flat.push_char(first, LITERAL),
            }
            rest = &rest[first.len_utf8()..];
        }
        if pieces.is_empty() {
            return Ok(Pattern { shape: Shape::fixed(flat) });
        }
        pieces.push(Piece::Text(flat));
        let begins = match &pieces[0] {
            Piece::Text(flat) => flat.fixed_beginning().into(),
            Piece::Variable(_) => "".into(),
        };
        Ok(Pattern { shape: Shape::Template { begins, pieces: pieces.into_boxed_slice() } })
    }

    pub(crate) fn any() -> Pattern {
        Pattern { shape: Shape::Any }
    }

    pub(crate) fn matches(&self, text: &str, context: &Context) -> bool {
        match &self.shape {
            Shape::Any => true,
            Shape::Literal(literal) => **literal == *text,
            Shape::Prefix(prefix) => text.as_bytes().starts_with(prefix.as_bytes()),
            Shape::Flat(flat) => glob::matches(flat.codes(), flat.kinds(), text),
            Shape::Template { begins, pieces } => {
                if !text.as_bytes().starts_with(begins.as_bytes()) {
                    return false;
                }
                let mut scratch = Scratch::new();
                fill(pieces, context, &mut scratch) && glob::matches(scratch.codes(), scratch.kinds(), text)
            }
        }
    }

    /// As text without wildcards, compared without regard to case.
    pub(crate) fn equals_ignoring_case(&self, text: &str, context: &Context) -> bool {
        let wanted = text.chars().flat_map(char::to_lowercase);
        match &self.shape {
            Shape::Literal(literal) => literal.chars().flat_map(char::to_lowercase).eq(wanted),
            Shape::Template { pieces, .. } => {
                let mut scratch = Scratch::new();
                fill(pieces, context, &mut scratch)
                    && scratch.text().chars().flat_map(char::to_lowercase).eq(wanted)
            }
            Shape::Any | Shape::Prefix(_) | Shape::Flat(_) => false,
        }
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &Variable> {
        let pieces: &[Piece] = match &self.shape {
            Shape::Template { pieces, .. } => pieces,
            _ => &[],
        };
        pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(variable),
            Piece::Text(_) => None,
        })
    }

    /// The characters are all wildcards: the pattern holds back nothing.
    pub(crate) fn is_only_wildcards(&self) -> bool {
        match &self.shape {
            Shape::Any => true,
            Shape::Flat(flat) => flat.kinds().iter().all(|kind| *kind != LITERAL),
            Shape::Literal(_) | Shape::Prefix(_) | Shape::Template { .. } => false,
        }
    }

    /// The one text that it matches, if there is only one.
    pub(crate) fn literal(&self) -> Option<&str> {
        match &self.shape {
            Shape::Literal(text) => Some(text),
            Shape::Any | Shape::Prefix(_) | Shape::Flat(_) | Shape::Template { .. } => None,
        }
    }

    /// What every match begins with.
    fn fixed_beginning(&self) -> &str {
        match &self.shape {
            Shape::Any => "",
            Shape::Literal(text) | Shape::Prefix(text) | Shape::Template { begins: text, .. } => text,
            Shape::Flat(flat) => flat.fixed_beginning(),
        }
    }

    /// The filled-in pattern, on the stack. False when a variable has no value.
    fn fill_into(&self, context: &Context, scratch: &mut Scratch) -> bool {
        match &self.shape {
            Shape::Any => scratch.push(b"*", RUN),
            Shape::Literal(literal) => scratch.push(literal.as_bytes(), LITERAL),
            Shape::Prefix(prefix) => {
                scratch.push(prefix.as_bytes(), LITERAL);
                scratch.push(b"*", RUN);
            }
            Shape::Flat(flat) => scratch.push_flat(flat),
            Shape::Template { pieces, .. } => return fill(pieces, context, scratch),
        }
        true
    }
}

impl Shape {
    fn fixed(flat: Flat) -> Shape {
        let wild = flat.kinds().iter().filter(|kind| **kind != LITERAL).count();
        match (wild, flat.kinds().last()) {
            (0, _) => Shape::Literal(flat.literal_text().into()),
            (1, Some(&RUN)) if flat.kinds().len() == 1 => Shape::Any,
            (1, Some(&RUN)) => Shape::Prefix(flat.literal_text().into()),
            _ => Shape::Flat(flat),
        }
    }
}

fn fill(pieces: &[Piece], context: &Context, scratch: &mut Scratch) -> bool {
    for piece in pieces {
        match piece {
            Piece::Text(flat) => scratch.push_flat(flat),
            Piece::Variable(variable) => match variable.resolve(context) {
                Some(value) => scratch.push(value.as_bytes(), LITERAL),
                None => return false,
            },
        }
    }
    true
}

enum Escape {
    Literal(char),
    Variable(Variable),
}

/// Reads what starts with `${`; answers with its length in bytes.
fn variable(text: &str) -> Result<(Escape, usize), String> {
    for (written, character) in [("${*}", '*'), ("${?}", '?'), ("${$}", '$')] {
        if text.starts_with(written) {
            return Ok((Escape::Literal(character), written.len()));
        }
    }
    let inside = &text[2..];
    let Some(key_length) = inside.find(['}', ',']) else {
        return Err("a variable that is never closed: `}` is missing after `${`".to_owned());
    };
    let key = inside[..key_length].trim();
    if key.is_empty() || key.contains(['{', '$', '*', '?', '\'']) {
        return Err(format!("`${{{key}}}` names no condition key"));
    }
    let (key, written) = (FoldedKey::new(key), Box::from(key));
    if inside[key_length..].starts_with('}') {
        return Ok((Escape::Variable(Variable { key, written, default: None }), 2 + key_length + 1));
    }
    let after_comma = inside[key_length + 1..].trim_start();
    let quoted = after_comma
        .strip_prefix('\'')
        .ok_or("a variable's default stands in single quotes: `${key, 'default'}`".to_owned())?;
    let length =
        quoted.find('\'').ok_or("a variable's default is never closed: `'` is missing".to_owned())?;
    let tail = quoted[length + 1..].trim_start();
    if !tail.starts_with('}') {
        return Err("a variable that is not closed after its default: `}` is missing".to_owned());
    }
    let default = Some(quoted[..length].into());
    let consumed = text.len() - tail.len() + 1;
    Ok((Escape::Variable(Variable { key, written, default }), consumed))
}

#[cfg(test)]
mod tests;
