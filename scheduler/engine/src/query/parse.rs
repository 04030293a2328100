//! From text to expression, by descent.
//!
//! Invariant: the descent is at most [`MAX_DEPTH`] levels deep, whatever the text.

use super::{Field, MAX_CHARACTERS, Node, Order, QueryError, Test};

const MAX_DEPTH: usize = 64;
/// A regular expression may compile to this many bytes.
const REGEX_BYTES: usize = 64 * 1024;

pub(super) fn parse(text: &str) -> Result<Node, QueryError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    if text.chars().count() > MAX_CHARACTERS {
        return Err(parser.error(format!("more than {MAX_CHARACTERS} characters")));
    }
    let root = parser.or()?;
    parser.spaces();
    if parser.rest().is_empty() { Ok(root) } else { Err(parser.error("unexpected text")) }
}

struct Parser<'a> {
    text: &'a str,
    /// A byte of the text.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Node, QueryError> {
        let mut parts = vec![self.and()?];
        while self.symbol("||") || self.word("or") {
            parts.push(self.and()?);
        }
        Ok(single(parts, Node::Or))
    }

    fn and(&mut self) -> Result<Node, QueryError> {
        let mut parts = vec![self.not()?];
        while self.symbol("&&") || self.word("and") {
            parts.push(self.not()?);
        }
        Ok(single(parts, Node::And))
    }

    fn not(&mut self) -> Result<Node, QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let node = if self.symbol("!") || self.word("not") {
            Node::Not(Box::new(self.not()?))
        } else if self.symbol("(") {
            let inner = self.or()?;
            if !self.symbol(")") {
                return Err(self.error("expected `)`"));
            }
            inner
        } else {
            self.compare()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn compare(&mut self) -> Result<Node, QueryError> {
        let field = self.field()?;
        let test = self.test()?;
        Ok(Node::Compare(field, test))
    }

    fn field(&mut self) -> Result<Field, QueryError> {
        self.spaces();
        let end = |c: char| c.is_whitespace() || "=!<>()[],&|".contains(c);
        let name = &self.rest()[..self.rest().find(end).unwrap_or(self.rest().len())];
        let field = match name {
            "agentConnected" => Field::AgentConnected,
            "agentVersion" => Field::AgentVersion,
            "ec2InstanceId" => Field::Ec2InstanceId,
            "registeredAt" => Field::RegisteredAt,
            "runningTasksCount" => Field::RunningTasksCount,
            "task:group" => Field::TaskGroup,
            _ => match name.strip_prefix("attribute:") {
                Some(attribute) if !attribute.is_empty() => Field::Attribute(attribute.to_owned()),
                _ => return Err(self.error("expected a subject such as attribute:NAME or task:group")),
            },
        };
        self.at += name.len();
        Ok(field)
    }

    fn test(&mut self) -> Result<Test, QueryError> {
        // Longer spellings stand before their beginnings.
        if self.word("!exists") || self.word("not_exists") {
            Ok(Test::NotExists)
        } else if self.word("exists") {
            Ok(Test::Exists)
        } else if self.word("!in") || self.word("not_in") {
            self.list().map(Test::NotIn)
        } else if self.word("in") {
            self.list().map(Test::In)
        } else if self.symbol("=~") || self.word("matches") {
            self.pattern().map(Test::Matches)
        } else if self.symbol("!~") || self.word("not_matches") {
            self.pattern().map(Test::NotMatches)
        } else if self.symbol("==") || self.word("equals") {
            self.literal().map(Test::Equals)
        } else if self.symbol("!=") || self.word("not_equals") {
            self.literal().map(Test::NotEquals)
        } else if self.symbol(">=") || self.word("greater_than_equal") {
            self.literal().map(|literal| Test::Order(Order::GreaterEqual, literal))
        } else if self.symbol(">") || self.word("greater_than") {
            self.literal().map(|literal| Test::Order(Order::Greater, literal))
        } else if self.symbol("<=") || self.word("less_than_equal") {
            self.literal().map(|literal| Test::Order(Order::LessEqual, literal))
        } else if self.symbol("<") || self.word("less_than") {
            self.literal().map(|literal| Test::Order(Order::Less, literal))
        } else {
            Err(self.error("expected an operator such as == or exists"))
        }
    }

    fn list(&mut self) -> Result<Vec<String>, QueryError> {
        if !self.symbol("[") {
            return Err(self.error("expected `[`"));
        }
        let mut items = vec![self.literal()?];
        while self.symbol(",") {
            items.push(self.literal()?);
        }
        if self.symbol("]") { Ok(items) } else { Err(self.error("expected `,` or `]`")) }
    }

    fn literal(&mut self) -> Result<String, QueryError> {
        self.token(|c| c.is_whitespace() || "()[],".contains(c), false)
    }

    /// A pattern matches the whole value, as in Java. Unquoted, it may hold balanced parentheses.
    fn pattern(&mut self) -> Result<regex::Regex, QueryError> {
        let start = self.at;
        let pattern = self.token(char::is_whitespace, true)?;
        regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(REGEX_BYTES).build().map_err(|_| {
            self.at = start;
            self.error("not a regular expression that is supported")
        })
    }

    /// A quoted text, or everything up to a character that ends it; with `nesting` also up to a parenthesis
    /// that was not opened inside.
    fn token(&mut self, ends: impl Fn(char) -> bool, nesting: bool) -> Result<String, QueryError> {
        self.spaces();
        let rest = self.rest();
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let Some(length) = rest[1..].find(quote) else { return Err(self.error("a quote is not closed")) };
            self.at += length + 2;
            return Ok(rest[1..=length].to_owned());
        }
        let (mut length, mut open) = (0, 0_usize);
        for c in rest.chars() {
            match c {
                '(' if nesting => open += 1,
                ')' if nesting && open == 0 => break,
                ')' if nesting => open -= 1,
                _ if ends(c) => break,
                _ => {}
            }
            length += c.len_utf8();
        }
        if length == 0 {
            return Err(self.error("expected a value"));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.spaces();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// A word, not followed by what would make it a longer one.
    fn word(&mut self, word: &str) -> bool {
        self.spaces();
        let after = self.rest().strip_prefix(word);
        let found = after
            .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || "_:-.".contains(c)));
        if found {
            self.at += word.len();
        }
        found
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, problem: impl Into<String>) -> QueryError {
        QueryError { problem: problem.into(), at: self.text[..self.at].chars().count() + 1 }
    }
}

fn single(mut parts: Vec<Node>, join: impl FnOnce(Vec<Node>) -> Node) -> Node {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}
