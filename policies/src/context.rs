//! The condition context: what is known about a request beside principal, action and resource.
//!
//! Keys are compared without case, the tag part of `aws:ResourceTag/Team` included, so they are
//! folded once when they come in. A key that holds an empty list counts as missing everywhere.

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

/// A condition key in lower case. Ordered by a hash, so that looking one up compares numbers; equal
/// hashes are told apart by the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Sorted by key.
    entries: Vec<(FoldedKey, ContextValue)>,
}

impl Context {
    pub fn new() -> Self {
        Context::default()
    }

    /// Sets a key, replacing what it held before.
    pub fn set(&mut self, key: &str, value: impl Into<ContextValue>) {
        let key = FoldedKey::new(key);
        match self.position(&key) {
            Ok(index) => self.entries[index].1 = value.into(),
            Err(index) => self.entries.insert(index, (key, value.into())),
        }
    }

    /// Sets every key of `other`, replacing what they held before.
    pub fn extend(&mut self, other: &Context) {
        for (key, value) in &other.entries {
            match self.position(key) {
                Ok(index) => self.entries[index].1 = value.clone(),
                Err(index) => self.entries.insert(index, (key.clone(), value.clone())),
            }
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Ok(index) = self.position(&FoldedKey::new(key)) {
            self.entries.remove(index);
        }
    }

    /// Whether the key was set, be it to an empty list.
    pub fn holds(&self, key: &str) -> bool {
        self.position(&FoldedKey::new(key)).is_ok()
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
        let value = &self.entries[self.position(key).ok()?].1;
        (!value.values().is_empty()).then_some(value)
    }

    fn position(&self, key: &FoldedKey) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.cmp(key))
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
