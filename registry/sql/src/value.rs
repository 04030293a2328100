//! The values that cross the border to a database: integers, texts and blobs, and nothing else.
//!
//! Every engine stores these three alike; booleans, dates and floats differ between them and are left out.
//! Invariant: a value read is the value written, whatever the engine.

use crate::Error;

/// One parameter or column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Integer(_) => "an integer",
            Value::Text(_) => "a text",
            Value::Blob(_) => "a blob",
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$name:ident| $to:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($name: $from) -> Value {
                $to
            }
        })*
    };
}

value_from! {
    i64 => |n| Value::Integer(n);
    i32 => |n| Value::Integer(n.into());
    u32 => |n| Value::Integer(n.into());
    u16 => |n| Value::Integer(n.into());
    u8 => |n| Value::Integer(n.into());
    bool => |flag| Value::Integer(flag.into());
    &str => |text| Value::Text(text.to_owned());
    &String => |text| Value::Text(text.clone());
    String => |text| Value::Text(text);
    Vec<u8> => |bytes| Value::Blob(bytes);
    &Vec<u8> => |bytes| Value::Blob(bytes.clone());
    &[u8] => |bytes| Value::Blob(bytes.to_vec());
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Value {
        Value::Blob(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Value {
        Value::Blob(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// What a column can be read as.
pub trait FromValue: Sized {
    /// What the reader expects, for the error: "an integer".
    const EXPECTED: &'static str;

    /// `None` when the value is of another kind or out of range.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    const EXPECTED: &'static str = "an integer";

    fn from_value(value: &Value) -> Option<i64> {
        match value {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }
}

macro_rules! narrow_integer {
    ($($type:ty),*) => {
        $(impl FromValue for $type {
            const EXPECTED: &'static str = concat!("an integer that fits ", stringify!($type));

            fn from_value(value: &Value) -> Option<$type> {
                i64::from_value(value).and_then(|n| n.try_into().ok())
            }
        })*
    };
}

narrow_integer!(i32, u8, u16, u32, u64);

impl FromValue for bool {
    const EXPECTED: &'static str = "0 or 1";

    fn from_value(value: &Value) -> Option<bool> {
        match value {
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "a text";

    fn from_value(value: &Value) -> Option<String> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    const EXPECTED: &'static str = "a blob";

    fn from_value(value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    const EXPECTED: &'static str = "a blob of the right length";

    fn from_value(value: &Value) -> Option<[u8; N]> {
        match value {
            Value::Blob(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(value: &Value) -> Option<Option<T>> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One row of a result, its columns in the order of the SELECT or RETURNING list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Row {
        Row { values }
    }

    /// The column at `index`, counted from 0. A missing column or one of another kind is [`Error::Column`]:
    /// a mistake of the query, not of its data.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, Error> {
        let found = self.values.get(index);
        found.and_then(T::from_value).ok_or(Error::Column {
            index,
            expected: T::EXPECTED,
            found: found.map_or("no column", Value::kind),
        })
    }

    /// The columns themselves.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_another_kind_is_named_in_the_error() {
        let row = Row::new(vec![Value::Text("x".into()), Value::Null, Value::Integer(300)]);
        assert_eq!(row.get::<String>(0).unwrap(), "x");
        assert_eq!(row.get::<Option<i64>>(1).unwrap(), None);
        assert_eq!(row.get::<Option<u16>>(2).unwrap(), Some(300));
        assert!(matches!(row.get::<u8>(2), Err(Error::Column { index: 2, found: "an integer", .. })));
        assert!(matches!(row.get::<i64>(0), Err(Error::Column { index: 0, found: "a text", .. })));
        assert!(matches!(row.get::<i64>(9), Err(Error::Column { index: 9, found: "no column", .. })));
    }

    #[test]
    fn parameters_convert() {
        let name = String::from("n");
        let params: &[Value] = crate::params![1_i64, "a", &name, None::<i64>, Some("b"), true, [1_u8, 2]];
        assert_eq!(params.len(), 7);
        assert_eq!(params[3], Value::Null);
        assert_eq!(params[5], Value::Integer(1));
        assert_eq!(params[6], Value::Blob(vec![1, 2]));
        assert!(crate::params![].is_empty());
    }
}
