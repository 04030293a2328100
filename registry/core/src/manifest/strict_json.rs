//! JSON that two parsers cannot read differently: no duplicate keys, bounded nesting.
//!
//! One pass that keeps nothing but the keys of the objects it is inside of.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Nesting that no real manifest comes near.
const MAX_DEPTH: u32 = 32;
/// Keys of one object.
const MAX_KEYS: usize = 10_000;

/// Checks that `bytes` are one JSON value without duplicate keys, nested at most 32 deep.
///
/// # Errors
/// A message for the client, with line and column.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| error.to_string())
}

struct Strict {
    depth: u32,
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(Strict { depth: inner.depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if seen.len() == MAX_KEYS {
                return Err(A::Error::custom(format_args!("an object has more than {MAX_KEYS} members")));
            }
            if !seen.insert(key) {
                return Err(A::Error::custom("an object names a member twice"));
            }
            entries.next_value_seed(Strict { depth: inner.depth })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn ordinary_json_passes() {
        check(br#" {"a": [1, -2, 3.5, true, null, "x", {"a": {}}], "b": []} "#).unwrap();
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#, "{\"a\":1,\"\\u0061\":2}"] {
            assert!(check(text.as_bytes()).unwrap_err().contains("twice"), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_recursing_into_it() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
            check(nested(32).as_bytes()).unwrap();
            assert!(check(nested(33).as_bytes()).is_err());
            assert!(check(open.repeat(100_000).as_bytes()).is_err());
        }
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for text in ["", "{", "{} {}", "\u{feff}{}", "{\"a\":1e400}", "nul", "{\"a\":\"\u{1}\"}"] {
            assert!(check(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(check(b"{\"a\":\"\xff\"}").is_err());
    }
}
