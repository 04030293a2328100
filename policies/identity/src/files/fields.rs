//! Reading the members of a JSON object by name, refusing what nobody asked for.

use policies::Findings;
use policies::json::{Member, Node, Value};

/// The members of one object. Every name must be asked for before [`Fields::finish`].
pub(super) struct Fields<'n, 'f, 't> {
    members: &'n [Member],
    asked: Vec<&'static str>,
    pub(super) findings: &'f mut Findings<'t>,
    /// Where the object begins.
    start: usize,
}

/// A text with the place it stands at.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) text: String,
    pub(super) at: usize,
}

impl<'n, 'f, 't> Fields<'n, 'f, 't> {
    /// None, with a finding, when the node is not an object.
    pub(super) fn of(node: &'n Node, what: &str, findings: &'f mut Findings<'t>) -> Option<Self> {
        let Some(members) = node.as_object() else {
            findings.error(node.start, format!("{what} is an object, not {}", node.kind()));
            return None;
        };
        Some(Fields { members, asked: Vec::new(), findings, start: node.start })
    }

    pub(super) fn node(&mut self, name: &'static str) -> Option<&'n Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.members.iter().find(|member| member.key == name).map(|member| &member.value)
    }

    pub(super) fn required(&mut self, name: &'static str) -> Option<&'n Node> {
        let node = self.node(name);
        if node.is_none() {
            self.findings.error(self.start, format!("{name:?} is missing"));
        }
        node
    }

    pub(super) fn string(&mut self, name: &'static str) -> Option<Placed> {
        let node = self.node(name)?;
        self.as_string(name, node)
    }

    pub(super) fn required_string(&mut self, name: &'static str) -> Option<Placed> {
        let node = self.required(name)?;
        self.as_string(name, node)
    }

    /// A list of texts; empty when the member is missing.
    pub(super) fn strings(&mut self, name: &'static str) -> Vec<Placed> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let Some(items) = node.as_array() else {
            self.findings.error(node.start, format!("{name:?} is a list of strings, not {}", node.kind()));
            return Vec::new();
        };
        let mut texts: Vec<Placed> = Vec::new();
        for item in items {
            let Some(placed) = self.as_string(name, item) else { continue };
            if texts.iter().any(|known| known.text == placed.text) {
                self.findings.error(placed.at, format!("{:?} stands in {name:?} a second time", placed.text));
            }
            texts.push(placed);
        }
        texts
    }

    pub(super) fn integer(&mut self, name: &'static str) -> Option<(i64, usize)> {
        let node = self.node(name)?;
        let number = match &node.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.findings.error(node.start, format!("{name:?} is a whole number"));
        }
        Some((number?, node.start))
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let node = self.node(name)?;
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.findings.error(node.start, format!("{name:?} is true or false, not {}", node.kind()));
                None
            }
        }
    }

    /// Reports every member that was not asked for.
    pub(super) fn finish(self) {
        for member in self.members {
            let name = member.key.as_str();
            if self.asked.contains(&name) {
                continue;
            }
            if ["secret", "secretaccesskey", "secretkey", "password"].contains(&name.to_lowercase().as_str())
            {
                let message = "a secret never stands in a policy file: name a file outside with \"secretFile\", or seal it \
                     with `berth secret seal` for \"sealedSecret\"";
                self.findings.error(member.key_at, message);
                continue;
            }
            let near = self.asked.iter().find(|known| known.eq_ignore_ascii_case(name));
            let hint = near.map_or_else(|| self.asked.join(", "), |known| format!("it is written {known}"));
            self.findings.error(member.key_at, format!("{name:?} means nothing here ({hint})"));
        }
    }

    fn as_string(&mut self, name: &str, node: &Node) -> Option<Placed> {
        match node.as_str() {
            Some(text) => Some(Placed { text: text.to_owned(), at: node.start }),
            None => {
                self.findings.error(node.start, format!("{name:?} holds a string, not {}", node.kind()));
                None
            }
        }
    }
}
