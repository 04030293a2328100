//! Configuration: a TOML file, with environment variables over its top-level keys.
//!
//! Every crate owns its `Config` type with `deny_unknown_fields`; this only fills it. Invariant: an error names
//! the file, line and key, or the variable, and never shows a variable's value.

mod environment;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use environment::{Variable, fields_of};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{} cannot be read", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A value is wrong, a key unknown or missing, or the file is no TOML.
    #[error("{place}: {problem}")]
    Invalid { place: Place, problem: String },
}

/// Where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `line` counts from 1; `key` is the top-level key.
    File { file: PathBuf, line: Option<usize>, key: Option<String> },
    /// The name of an environment variable.
    Variable(String),
    /// No file was given, and something is missing.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, key } => {
                write!(f, "{}", file.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                key.as_ref().map_or(Ok(()), |key| write!(f, ": key `{key}`"))
            }
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Nowhere => f.write_str("configuration"),
        }
    }
}

/// Loads a configuration. Each top-level key `some_key` of `T` may be set by the variable `<prefix>SOME_KEY`,
/// which wins over the file; an empty variable counts as unset. Texts, numbers and booleans are written plainly
/// there, lists with commas between (or as TOML), tables as TOML inline tables.
///
/// `T` must be a plain struct (no `serde(flatten)` at the top level), or its variables are not found.
pub fn load<T: DeserializeOwned>(file: Option<&Path>, prefix: &str) -> Result<T, ConfigError> {
    #[allow(clippy::disallowed_methods)] // here is the one place that reads the environment
    let variable = |name: &str| std::env::var(name).ok();
    load_from(file, prefix, &variable)
}

/// The same with the environment as a function, for tests.
pub fn load_from<T: DeserializeOwned>(
    file: Option<&Path>,
    prefix: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?,
        None => String::new(),
    };
    let in_file = |span: Option<Range<usize>>, key: Option<&str>| match file {
        Some(file) => Place::File {
            file: file.to_owned(),
            line: span.map(|span| text[..span.start].matches('\n').count() + 1),
            key: key.map(str::to_owned),
        },
        None => Place::Nowhere,
    };

    let table = DeTable::parse(&text).map_err(|error| ConfigError::Invalid {
        place: in_file(error.span(), None),
        problem: error.message().to_owned(),
    })?;
    let variables: Vec<Variable> = fields_of::<T>()
        .iter()
        .filter_map(|field| {
            let name = format!("{prefix}{}", field.to_ascii_uppercase());
            let text = environment(&name).filter(|text| !text.is_empty())?;
            Some(Variable { field, name, text })
        })
        .collect();

    let mut entries = Vec::new();
    for (key, value) in table.into_inner() {
        if !variables.iter().any(|variable| variable.field == key.get_ref()) {
            entries.push(Entry::File { span: key.span(), key: key.into_inner().into_owned(), value });
        }
    }
    entries.extend(variables.into_iter().map(Entry::Variable));
    entries.reverse();

    T::deserialize(Top(entries)).map_err(|failure| ConfigError::Invalid {
        place: match failure.source {
            None => in_file(None, None),
            Some(Origin::File { span, key }) => in_file(Some(failure.span.unwrap_or(span)), Some(&key)),
            Some(Origin::Variable(name)) => Place::Variable(name),
        },
        problem: failure.problem,
    })
}

/// One top-level key with where it comes from.
enum Entry<'a> {
    File { key: String, span: Range<usize>, value: Spanned<DeValue<'a>> },
    Variable(Variable),
}

enum Origin {
    File { span: Range<usize>, key: String },
    Variable(String),
}

/// What serde reports, and where it was at that moment.
struct Failure {
    problem: String,
    /// Bytes of the file, when the mistake lies deeper than the top-level key.
    span: Option<Range<usize>>,
    source: Option<Origin>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(problem: T) -> Failure {
        Failure { problem: problem.to_string(), span: None, source: None }
    }

    /// Without the value itself, which may be a secret.
    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Failure {
        Failure::custom(format_args!("expected {expected}, found {}", kind(&unexpected)))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Failure {
        Failure::custom(format_args!("expected {expected}, found another {}", kind(&unexpected)))
    }
}

fn kind(unexpected: &de::Unexpected<'_>) -> &'static str {
    use de::Unexpected;
    match unexpected {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "float",
        Unexpected::Char(_) | Unexpected::Str(_) => "string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Seq => "list",
        Unexpected::Map | Unexpected::StructVariant => "table",
        _ => "value",
    }
}

/// The top level: the remaining entries, last one first.
struct Top<'a>(Vec<Entry<'a>>);

impl<'de> de::Deserializer<'de> for Top<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Top<'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some(entry) = self.0.last() else { return Ok(None) };
        let key = match entry {
            Entry::File { key, .. } => key.as_str(),
            Entry::Variable(variable) => variable.field,
        };
        let key: StrDeserializer<'_, Failure> = key.into_deserializer();
        seed.deserialize(key).map(Some).map_err(|failure| failure.at(entry))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        match self.0.pop() {
            None => Err(de::Error::custom("a key without a value")),
            Some(Entry::File { key, span, value }) => {
                seed.deserialize(value.into_deserializer()).map_err(|error| Failure {
                    span: error.span(),
                    source: Some(Origin::File { span, key }),
                    problem: error.message().to_owned(),
                })
            }
            Some(Entry::Variable(variable)) => {
                let origin = Origin::Variable(variable.name.clone());
                seed.deserialize(variable).map_err(|failure| Failure { source: Some(origin), ..failure })
            }
        }
    }
}

impl Failure {
    fn at(self, entry: &Entry<'_>) -> Failure {
        let origin = match entry {
            Entry::File { key, span, .. } => Origin::File { span: span.clone(), key: key.clone() },
            Entry::Variable(variable) => Origin::Variable(variable.name.clone()),
        };
        Failure { source: Some(origin), ..self }
    }
}

#[cfg(test)]
mod tests;
