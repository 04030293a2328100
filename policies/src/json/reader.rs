//! The recursive descent behind [`super::parse`]; depth is bounded by [`super::MAX_DEPTH`].

use std::collections::BTreeSet;

use super::{MAX_DEPTH, Member, Node, Value};
use crate::finding::Findings;

/// A place where the text stops being JSON; reading cannot go on behind it.
struct Broken {
    at: usize,
    message: String,
}

struct Reader<'t, 'f, 's> {
    text: &'t str,
    at: usize,
    findings: &'f mut Findings<'s>,
}

pub(super) fn read_document(text: &str, findings: &mut Findings<'_>) -> Option<Node> {
    let mut reader = Reader { text, at: 0, findings };
    match reader.document() {
        Ok(node) => Some(node),
        Err(broken) => {
            reader.findings.error(broken.at, broken.message);
            None
        }
    }
}

impl Reader<'_, '_, '_> {
    fn document(&mut self) -> Result<Node, Broken> {
        if self.text.starts_with('\u{feff}') {
            return Err(self.broken("the text begins with a byte order mark; save it without one"));
        }
        self.skip_space();
        if self.at == self.text.len() {
            return Err(self.broken("the text is empty"));
        }
        let node = self.value(0)?;
        self.skip_space();
        if self.at < self.text.len() {
            return Err(self.broken("more text after the end of the JSON value"));
        }
        Ok(node)
    }

    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        if depth > MAX_DEPTH {
            return Err(self.broken(&format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'/') => return Err(self.broken("JSON has no comments")),
            Some(b'\'') => return Err(self.broken("strings stand in double quotes")),
            Some(_) => return Err(self.broken("expected a value")),
            None => return Err(self.broken("the text ends where a value is expected")),
        };
        Ok(Node { start, end: self.at, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Broken> {
        self.at += 1;
        let mut members: Vec<Member> = Vec::new();
        let mut seen = BTreeSet::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let key_at = self.at;
            match self.peek() {
                Some(b'"') => {}
                Some(b'}') => return Err(self.broken("a comma before the closing brace")),
                _ => return Err(self.broken("expected a key in double quotes")),
            }
            let key = self.string()?;
            if !seen.insert(key.clone()) {
                self.findings.error(key_at, format!("the key {key:?} stands here a second time"));
            }
            self.skip_space();
            if !self.take(b':') {
                return Err(self.broken("expected a colon after the key"));
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            members.push(Member { key, key_at, value });
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.take(b',') {
                return Err(self.broken("expected a comma or the closing brace"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Broken> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.skip_space();
            if self.peek() == Some(b']') {
                return Err(self.broken("a comma before the closing bracket"));
            }
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.broken("expected a comma or the closing bracket"));
            }
        }
    }

    fn string(&mut self) -> Result<String, Broken> {
        let opened_at = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F)) else {
                return Err(Broken { at: opened_at, message: "the string is never closed".to_owned() });
            };
            out.push_str(&self.text[self.at..self.at + length]);
            self.at += length;
            match rest[length] {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => out.push(self.escape()?),
                b'\n' => {
                    return Err(Broken { at: opened_at, message: "the string is never closed".to_owned() });
                }
                _ => return Err(self.broken("a control character inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        let at = self.at;
        self.at += 1;
        let letter = self.peek();
        self.at += 1;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(at),
            _ => return Err(Broken { at, message: "an escape that JSON does not know".to_owned() }),
        })
    }

    fn unicode_escape(&mut self, at: usize) -> Result<char, Broken> {
        let bad = || Broken { at, message: "not a Unicode escape".to_owned() };
        let first = self.hex4().ok_or_else(bad)?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(bad());
                }
                let second = self.hex4().filter(|low| (0xDC00..=0xDFFF).contains(low)).ok_or_else(bad)?;
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(bad)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16)?;
        }
        self.at += 4;
        Some(code)
    }

    fn number(&mut self) -> Result<String, Broken> {
        let start = self.at;
        self.take(b'-');
        let integer = self.digits();
        let leading_zero = self.text.as_bytes()[self.at - integer..].starts_with(b"0") && integer > 1;
        let mut good = integer > 0 && !leading_zero;
        if self.take(b'.') {
            good &= self.digits() > 0;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            good &= self.digits() > 0;
        }
        if good {
            Ok(self.text[start..self.at].to_owned())
        } else {
            Err(Broken { at: start, message: "not a number".to_owned() })
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Broken> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.broken("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn broken(&self, message: &str) -> Broken {
        Broken { at: self.at, message: message.to_owned() }
    }
}
