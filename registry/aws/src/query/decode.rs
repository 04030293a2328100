//! From `Tags.member.1.Key=a&Tags.member.1.Value=b` to `{"Tags": [{"Key": "a", "Value": "b"}]}`.

use serde_json::{Map, Value};

use crate::error::AwsError;

/// Deepest nesting and most parameters that a request may have; no operation comes near either.
const MAX_DEPTH: usize = 16;
const MAX_PARAMETERS: usize = 4096;

/// A decoded request. All leaves of `input` are strings.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    pub action: String,
    /// API version, e.g. `2010-05-08` for IAM and `2011-06-15` for STS.
    pub version: String,
    /// Members of the operation; lists (`.member.N`) are arrays in the order of their numbers.
    pub input: Value,
}

/// Decodes a form: the body of a POST, or the query of a presigned GET.
/// Signature parameters (`X-Amz-*`) are left out.
pub fn decode(form: &[u8]) -> Result<Form, AwsError> {
    let mut root = Node::Branch(Vec::new());
    let (mut action, mut version) = (None, None);
    for (count, pair) in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).enumerate() {
        if count >= MAX_PARAMETERS {
            return Err(AwsError::serialization("The request has too many parameters."));
        }
        let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let name = text(&pair[..split])?;
        let value = text(pair.get(split + 1..).unwrap_or_default())?;
        match name.as_str() {
            "Action" => set_once(&mut action, value, "Action")?,
            "Version" => set_once(&mut version, value, "Version")?,
            name if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-")) => {}
            name => root.insert(name, &mut name.split('.').collect::<Vec<_>>().into_iter(), value, 0)?,
        }
    }
    let missing = |what| {
        AwsError::client("MissingParameter", format!("The request must contain the parameter {what}."))
    };
    Ok(Form {
        action: action.ok_or_else(|| {
            AwsError::client("MissingAction", "The request must contain the parameter Action.")
        })?,
        version: version.ok_or_else(|| missing("Version"))?,
        input: root.into_value(),
    })
}

/// A parameter tree under construction; branches keep the order of first appearance.
enum Node {
    Leaf(String),
    Branch(Vec<(String, Node)>),
}

impl Node {
    fn insert<'a>(
        &mut self,
        whole: &str,
        path: &mut impl Iterator<Item = &'a str>,
        value: String,
        depth: usize,
    ) -> Result<(), AwsError> {
        let malformed =
            || AwsError::serialization(format!("The parameter '{whole}' is malformed or occurs twice."));
        let Some(segment) = path.next() else {
            return match self {
                Self::Branch(children) if children.is_empty() => {
                    *self = Self::Leaf(value);
                    Ok(())
                }
                Self::Branch(_) | Self::Leaf(_) => Err(malformed()),
            };
        };
        let Self::Branch(children) = self else { return Err(malformed()) };
        if depth >= MAX_DEPTH || segment.is_empty() {
            return Err(malformed());
        }
        let place = match children.iter().position(|(name, _)| name == segment) {
            Some(place) => place,
            None => {
                children.push((segment.to_owned(), Self::Branch(Vec::new())));
                children.len() - 1
            }
        };
        children[place].1.insert(whole, path, value, depth + 1)
    }

    fn into_value(self) -> Value {
        let mut children = match self {
            Self::Leaf(text) => return Value::String(text),
            Self::Branch(children) => children,
        };
        if children.len() == 1 && children[0].0 == "member" {
            let (_, member) = children.remove(0);
            return member.into_list();
        }
        Value::Object(
            children.into_iter().map(|(name, node)| (name, node.into_value())).collect::<Map<_, _>>(),
        )
    }

    /// The children of a `member` node by their numbers.
    fn into_list(self) -> Value {
        let Self::Branch(children) = self else { return Value::Array(vec![self.into_value()]) };
        let mut numbered: Vec<(u32, Node)> =
            children.into_iter().map(|(name, node)| (name.parse().unwrap_or(u32::MAX), node)).collect();
        numbered.sort_by_key(|(number, _)| *number);
        Value::Array(numbered.into_iter().map(|(_, node)| node.into_value()).collect())
    }
}

fn set_once(slot: &mut Option<String>, value: String, name: &str) -> Result<(), AwsError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(AwsError::serialization(format!("The parameter '{name}' occurs twice."))),
    }
}

/// Form encoding: `+` is a space.
fn text(bytes: &[u8]) -> Result<String, AwsError> {
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
    String::from_utf8(decoded).map_err(|_| AwsError::serialization("The request is not UTF-8."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::decode;

    #[test]
    fn lists_and_structures_nest() {
        let form = decode(
            b"Action=TagRole&Version=2010-05-08&RoleName=a+b%2Fc&Tags.member.10.Key=k10&Tags.member.2.Key=k2\
              &Tags.member.2.Value=&X-Amz-Date=x",
        )
        .unwrap();
        assert_eq!((form.action.as_str(), form.version.as_str()), ("TagRole", "2010-05-08"));
        assert_eq!(
            form.input,
            json!({"RoleName": "a b/c", "Tags": [{"Key": "k2", "Value": ""}, {"Key": "k10"}]})
        );
    }

    #[test]
    fn repeated_and_contradicting_parameters_are_refused() {
        for body in [
            "Action=A&Action=B&Version=1",
            "Action=A&Version=1&X=1&X=2",
            "Action=A&Version=1&X=1&X.Y=2",
            "Action=A&Version=1&X.Y=1&X=2",
            "Action=A&Version=1&X..Y=1",
            "Action=A&Version=1&X=%ff",
        ] {
            assert_eq!(decode(body.as_bytes()).unwrap_err().code, "SerializationException", "{body}");
        }
        let deep = format!("Action=A&Version=1&{}=1", vec!["x"; 100_000].join("."));
        assert!(decode(deep.as_bytes()).is_err());
        let many = format!("Action=A&Version=1{}", "&a=1".repeat(5000));
        assert!(decode(many.as_bytes()).is_err());
    }

    #[test]
    fn action_is_required() {
        assert_eq!(decode(b"Version=1").unwrap_err().code, "MissingAction");
        assert_eq!(decode(b"").unwrap_err().code, "MissingAction");
    }
}
