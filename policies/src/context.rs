//! The condition context: what is known about a request beside principal, action and resource.
//!
//! Keys are compared without case, the tag part of `aws:ResourceTag/Team` included, so they are
//! folded once when they come in. A key that holds an empty list counts as missing everywhere.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A context key holds either one value or a list; which of the two is part of the key's definition
/// (`aws:TagKeys` is a list even when it has one element).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextValue {
    One(String),
    Many(Vec<String>),
}

impl ContextValue {
    pub(crate) fn values(&self) -> &[String] {
        match self {
            ContextValue::One(value) => std::slice::from_ref(value),
            ContextValue::Many(values) => values,
        }
    }
}

impl From<&str> for ContextValue {
    fn from(value: &str) -> Self {
        ContextValue::One(value.to_owned())
    }
}

impl From<String> for ContextValue {
    fn from(value: String) -> Self {
        ContextValue::One(value)
    }
}

impl From<bool> for ContextValue {
    fn from(value: bool) -> Self {
        ContextValue::One(value.to_string())
    }
}

impl From<i64> for ContextValue {
    fn from(value: i64) -> Self {
        ContextValue::One(value.to_string())
    }
}

impl From<Vec<String>> for ContextValue {
    fn from(values: Vec<String>) -> Self {
        ContextValue::Many(values)
    }
}

/// A condition key in lower case, with its hash: looking one up compares numbers, and the texts only where those are
/// equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoldedKey {
    hash: u64,
    text: Box<str>,
}

impl FoldedKey {
    pub(crate) fn new(key: &str) -> Self {
        let text = key.to_lowercase().into_boxed_str();
        FoldedKey { hash: hash(text.as_bytes()), text }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl Hash for FoldedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes a hash for what it is.
#[derive(Debug, Clone, Copy, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// FNV-1a. Whoever finds equal hashes compares the texts too.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Condition keys with their values, e.g. `aws:SourceIp`, `aws:PrincipalTag/Team`, `ecs:cluster`.
/// Dates are ISO 8601 or epoch seconds, booleans `true` and `false`, binary values base64.
#[derive(Debug, Clone, Default)]
pub struct Context {
    entries: HashMap<FoldedKey, ContextValue, BuildHasherDefault<Hashed>>,
}

impl Context {
    pub fn new() -> Self {
        Context::default()
    }

    /// Sets a key, replacing what it held before.
    pub fn set(&mut self, key: &str, value: impl Into<ContextValue>) {
        self.entries.insert(FoldedKey::new(key), value.into());
    }

    /// Sets every key of `other`, replacing what they held before.
    pub fn extend(&mut self, other: &Context) {
        self.entries.extend(other.entries.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    pub fn remove(&mut self, key: &str) {
        self.entries.remove(&FoldedKey::new(key));
    }

    /// Whether the key was set, be it to an empty list.
    pub fn holds(&self, key: &str) -> bool {
        self.entries.contains_key(&FoldedKey::new(key))
    }

    pub fn get(&self, key: &str) -> Option<&ContextValue> {
        self.get_folded(&FoldedKey::new(key))
    }

    /// Keys in lower case, with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextValue)> {
        self.entries.iter().map(|(key, value)| (key.text(), value))
    }

    /// Looks up a key that was folded before; allocates nothing.
    pub(crate) fn get_folded(&self, key: &FoldedKey) -> Option<&ContextValue> {
        self.entries.get(key).filter(|value| !value.values().is_empty())
    }
}

impl<K: AsRef<str>, V: Into<ContextValue>> FromIterator<(K, V)> for Context {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut context = Context::new();
        for (key, value) in pairs {
            context.set(key.as_ref(), value);
        }
        context
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, ContextValue};

    #[test]
    fn keys_are_found_whatever_their_case() {
        let mut context = Context::new();
        context.set("aws:ResourceTag/Team", "a");
        context.set("AWS:resourcetag/TEAM", "b");
        assert_eq!(context.get("Aws:ResourceTag/team"), Some(&ContextValue::One("b".to_owned())));
        assert_eq!(context.iter().count(), 1);
    }

    #[test]
    fn an_empty_list_counts_as_missing() {
        let mut context = Context::new();
        context.set("aws:TagKeys", Vec::<String>::new());
        assert_eq!(context.get("aws:TagKeys"), None);
    }
}
