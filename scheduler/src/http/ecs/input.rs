//! Requests as typed values: a wrong type is a SerializationException, a null is an absent member.

use registry_aws::AwsError;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::invalid;
use crate::model::Tag;

/// Reads a request. Members that this API does not model are ignored, as AWS ignores them.
pub(crate) fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(without_nulls(input)).map_err(|error| AwsError::serialization(error.to_string()))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, member)| !member.is_null())
                .map(|(name, member)| (name, without_nulls(member)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// The text of a member, when the request has it; for checks, which never fail on a malformed request.
pub(crate) fn text<'a>(input: &'a Value, member: &str) -> Option<&'a str> {
    input.get(member).and_then(Value::as_str)
}

/// The texts of a list, when the request has it.
pub(crate) fn texts<'a>(input: &'a Value, member: &str) -> impl Iterator<Item = &'a str> {
    input.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

const MOST_TAGS: usize = 50;

/// Tags as AWS takes them: 50 at most, keys of 1 to 128 characters, none beginning with `aws:`, none twice.
pub(crate) fn check_tags(tags: &[Tag]) -> Result<(), AwsError> {
    if tags.len() > MOST_TAGS {
        return Err(invalid("The maximum number of tags that can be applied to a resource is 50."));
    }
    for (place, tag) in tags.iter().enumerate() {
        let characters = tag.key.chars().count();
        if characters == 0 || characters > 128 {
            return Err(invalid("Tag keys must have 1 to 128 characters."));
        }
        if tag.value.chars().count() > 256 {
            return Err(invalid("Tag values must have at most 256 characters."));
        }
        if tag.key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return Err(invalid("Tag keys must not begin with aws:."));
        }
        if tags[..place].iter().any(|earlier| earlier.key == tag.key) {
            return Err(invalid(format!("The tag key {} is used twice.", tag.key)));
        }
    }
    Ok(())
}

/// New tags over old ones.
pub(crate) fn merge_tags(tags: &mut Vec<Tag>, new: Vec<Tag>) -> Result<(), AwsError> {
    for tag in new {
        match tags.iter_mut().find(|old| old.key == tag.key) {
            Some(old) => old.value = tag.value,
            None => tags.push(tag),
        }
    }
    check_tags(tags)
}
