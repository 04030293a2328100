//! What a statement says, in a form in which one can be compared with another.

use super::glob::{ArnGlob, Glob};
use super::strings;
use crate::document::{Effect, PolicyKind};
use crate::json::{Node, Value};

/// A statement of a sound document.
#[derive(Debug)]
pub struct Outline {
    at: usize,
    label: String,
    effect: Effect,
    actions: Listed<Glob>,
    /// None where the document belongs to its resource.
    resources: Option<Listed<ArnGlob>>,
    principals: Principals,
    /// Operator, key and sorted values.
    conditions: Vec<(String, String, Vec<String>)>,
}

#[derive(Debug)]
struct Listed<T> {
    negated: bool,
    items: Vec<T>,
}

#[derive(Debug, PartialEq, Eq)]
enum Principals {
    Attached,
    /// Kind and name, sorted.
    Named(Vec<(String, String)>),
    AllBut(Vec<(String, String)>),
}

/// What another statement takes from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shadow {
    /// The other says the same, or more.
    Repeats,
    /// The other denies all that this one allows.
    Overrules,
}

impl Shadow {
    /// A remark, given the name and the place of the other statement.
    pub fn describe(self, other: &str) -> String {
        match self {
            Shadow::Repeats => format!("this statement adds nothing: {other} covers all of it; remove one"),
            Shadow::Overrules => format!("this Allow never takes effect: {other} denies all of it"),
        }
    }
}

/// The statements of a sound document.
pub fn outlines(document: &Node, kind: PolicyKind) -> Vec<Outline> {
    let variables = document.get("Version").and_then(Node::as_str) == Some("2012-10-17");
    let statements = document.get("Statement").map_or(&[][..], Node::items);
    (1..).zip(statements).map(|(number, node)| Outline::of(number, node, kind, variables)).collect()
}

impl Outline {
    fn of(number: usize, node: &Node, kind: PolicyKind, variables: bool) -> Outline {
        let sid = node.get("Sid").and_then(Node::as_str).filter(|sid| !sid.is_empty());
        let effect = match node.get("Effect").and_then(Node::as_str) {
            Some("Allow") => Effect::Allow,
            _ => Effect::Deny,
        };
        let actions = strings(node.get("Action").or_else(|| node.get("NotAction")));
        let actions = Listed {
            negated: node.get("NotAction").is_some(),
            items: actions.iter().map(|(_, text)| Glob::new(&text.to_lowercase(), false)).collect(),
        };
        let resources = node.get("Resource").or_else(|| node.get("NotResource"));
        let resources = resources.map(|element| Listed {
            negated: node.get("NotResource").is_some(),
            items: strings(Some(element)).iter().map(|(_, text)| ArnGlob::new(text, variables)).collect(),
        });
        Outline {
            at: node.start,
            label: sid.map_or_else(|| format!("statement {number}"), |sid| format!("{sid:?}")),
            effect,
            actions,
            resources,
            principals: principals(node, kind),
            conditions: conditions(node.get("Condition")),
        }
    }

    /// Where it begins, as a byte offset.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Its Sid, or its number from 1.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What `wide` leaves of it, where that is nothing. Says no where it is not sure.
    pub fn shadowed_by(&self, wide: &Outline) -> Option<Shadow> {
        let shadow = match (self.effect, wide.effect) {
            (one, other) if one == other => Shadow::Repeats,
            (Effect::Allow, _) => Shadow::Overrules,
            (Effect::Deny, _) => return None,
        };
        let covered = wide.actions.covers(&self.actions, Glob::covers, Glob::overlaps)
            && self.resources_within(wide)
            && self.principals.within(&wide.principals, wide.effect)
            && wide.conditions.iter().all(|condition| self.conditions.contains(condition))
            // A statement whose variables have no value matches nothing.
            && wide.variables().iter().all(|variable| self.variables().contains(variable));
        covered.then_some(shadow)
    }

    fn resources_within(&self, wide: &Outline) -> bool {
        match (&wide.resources, &self.resources) {
            (None, None) => true,
            (Some(wide), Some(narrow)) => wide.covers(narrow, ArnGlob::covers, ArnGlob::overlaps),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn variables(&self) -> Vec<&str> {
        self.resources.iter().flat_map(|listed| &listed.items).flat_map(ArnGlob::variables).collect()
    }
}

impl<T> Listed<T> {
    fn covers(&self, narrow: &Listed<T>, covers: fn(&T, &T) -> bool, overlaps: fn(&T, &T) -> bool) -> bool {
        match (self.negated, narrow.negated) {
            (false, false) => {
                narrow.items.iter().all(|item| self.items.iter().any(|wide| covers(wide, item)))
            }
            // All but these, and none of those is among them.
            (true, false) => {
                !narrow.items.iter().any(|item| self.items.iter().any(|spared| overlaps(spared, item)))
            }
            (true, true) => {
                self.items.iter().all(|spared| narrow.items.iter().any(|item| covers(item, spared)))
            }
            (false, true) => false,
        }
    }
}

impl Principals {
    fn within(&self, wide: &Principals, effect_of_wide: Effect) -> bool {
        match (wide, self) {
            (Principals::Named(wide), Principals::Named(narrow)) => {
                let everyone = wide.iter().any(|(_, name)| name == "*");
                narrow.iter().all(|principal| {
                    // An Allow that names a user or a session is stronger than one for everyone.
                    let weaker = principal.1.ends_with(":root")
                        || principal.1.contains(":role/")
                        || !principal.1.contains(':');
                    let through_all =
                        everyone && (effect_of_wide == Effect::Deny || (principal.0 == "AWS" && weaker));
                    wide.contains(principal) || through_all
                })
            }
            (wide, narrow) => wide == narrow,
        }
    }
}

fn principals(node: &Node, kind: PolicyKind) -> Principals {
    let (element, negated) = match (node.get("Principal"), node.get("NotPrincipal")) {
        (Some(element), _) => (element, false),
        (None, Some(element)) => (element, true),
        (None, None) => return Principals::Attached,
    };
    // A resource control policy is about everyone, whether it says so or not.
    if kind == PolicyKind::ResourceControl {
        return Principals::Attached;
    }
    let mut names: Vec<(String, String)> = Vec::new();
    if let Some(text) = element.as_str() {
        names.push(("AWS".to_owned(), text.to_owned()));
    }
    for member in element.as_object().unwrap_or(&[]) {
        let texts = strings(Some(&member.value));
        names.extend(texts.iter().map(|(_, text)| (member.key.clone(), (*text).to_owned())));
    }
    names.sort();
    if negated { Principals::AllBut(names) } else { Principals::Named(names) }
}

fn conditions(element: Option<&Node>) -> Vec<(String, String, Vec<String>)> {
    let mut conditions = Vec::new();
    for operator in element.and_then(Node::as_object).unwrap_or(&[]) {
        for key in operator.value.as_object().unwrap_or(&[]) {
            let texts = key.value.items().iter().filter_map(|item| match &item.value {
                Value::String(text) | Value::Number(text) => Some(text.clone()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            });
            let mut values: Vec<String> = texts.collect();
            values.sort();
            values.dedup();
            conditions.push((operator.key.clone(), key.key.to_lowercase(), values));
        }
    }
    conditions
}
