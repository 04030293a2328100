//! Members of IAM requests, checked as they are read. All leaves of a Query request are strings.

use registry_aws::page;
use serde_json::Value;

use super::error::IamError;

/// A page of a list.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The key behind which it begins; empty for the first.
    pub(super) after: String,
    pub(super) limit: usize,
}

/// AWS's quotas.
pub(super) const LONGEST_NAME: usize = 64;
pub(super) const LONGEST_LONG_NAME: usize = 128;
const LONGEST_PATH: usize = 512;
const MOST_TAGS: usize = 50;
const LARGEST_PAGE: usize = 1000;
const USUAL_PAGE: usize = 100;

/// A request without its operation.
#[derive(Clone, Debug)]
pub(super) struct Input(pub(super) Value);

pub(super) type Tags = Vec<(String, String)>;

impl Input {
    pub(super) fn text(&self, member: &str) -> Result<Option<&str>, IamError> {
        match self.0.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(IamError::Validation(format!("The member {member} is malformed."))),
        }
    }

    pub(super) fn required(&self, member: &str) -> Result<&str, IamError> {
        self.text(member)?.ok_or_else(|| constraint_of(member, "Value null", "Member must not be null"))
    }

    /// A name that must be there: letters, digits and `_+=,.@-`.
    pub(super) fn name(&self, member: &str, longest: usize) -> Result<&str, IamError> {
        let name = self.required(member)?;
        check_name(member, name, longest)?;
        Ok(name)
    }

    pub(super) fn optional_name(&self, member: &str, longest: usize) -> Result<Option<&str>, IamError> {
        let Some(name) = self.text(member)? else { return Ok(None) };
        check_name(member, name, longest)?;
        Ok(Some(name))
    }

    /// `/`, or `/team/`.
    pub(super) fn path(&self, member: &str) -> Result<Option<&str>, IamError> {
        let Some(path) = self.text(member)? else { return Ok(None) };
        let well_formed = path.len() <= LONGEST_PATH
            && path.starts_with('/')
            && path.ends_with('/')
            && !path.contains("//")
            && path.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && !b"*?$".contains(&byte));
        if well_formed {
            return Ok(Some(path));
        }
        Err(IamError::Validation(format!(
            "The specified value for {} is invalid. It must begin and end with / and contain only alphanumeric \
             characters and/or / characters.",
            lower_first(member)
        )))
    }

    /// The beginning of the paths to be listed.
    pub(super) fn path_prefix(&self) -> Result<&str, IamError> {
        let prefix = self.text("PathPrefix")?.unwrap_or("/");
        if prefix.starts_with('/') && prefix.len() <= LONGEST_PATH {
            return Ok(prefix);
        }
        Err(IamError::Validation("The specified value for pathPrefix is invalid.".to_owned()))
    }

    pub(super) fn number(&self, member: &str, least: i64, most: i64) -> Result<Option<i64>, IamError> {
        let Some(text) = self.text(member)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(constraint_of(
                member,
                &format!("Value '{text}'"),
                &format!("Member must be a number from {least} to {most}"),
            )),
        }
    }

    pub(super) fn flag(&self, member: &str) -> Result<bool, IamError> {
        match self.text(member)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(constraint_of(
                member,
                &format!("Value '{other}'"),
                "Member must satisfy enum value set: [true, false]",
            )),
        }
    }

    pub(super) fn one_of<'a>(&'a self, member: &str, words: &[&str]) -> Result<Option<&'a str>, IamError> {
        match self.text(member)? {
            Some(word) if !words.contains(&word) => Err(constraint_of(
                member,
                &format!("Value '{word}'"),
                &format!("Member must satisfy enum value set: [{}]", words.join(", ")),
            )),
            word => Ok(word),
        }
    }

    pub(super) fn list(&self, member: &str) -> Result<&[Value], IamError> {
        match self.0.get(member) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            // The parameters of an empty list.
            Some(Value::String(text)) if text.is_empty() => Ok(&[]),
            Some(_) => Err(IamError::Validation(format!("The member {member} is malformed."))),
        }
    }

    pub(super) fn texts(&self, member: &str) -> Result<Vec<&str>, IamError> {
        let malformed = || IamError::Validation(format!("The member {member} is malformed."));
        self.list(member)?.iter().map(|item| item.as_str().ok_or_else(malformed)).collect()
    }

    /// The tags that are passed; no key twice, whatever its case.
    pub(super) fn tags(&self) -> Result<Tags, IamError> {
        let mut tags = Tags::new();
        for item in self.list("Tags")? {
            let (Some(key), Some(value)) =
                (item["Key"].as_str(), item.get("Value").map_or(Some(""), Value::as_str))
            else {
                return Err(IamError::Validation("The member Tags is malformed.".to_owned()));
            };
            check_tag(key, value)?;
            if tags.iter().any(|(other, _)| same_tag(other, key)) {
                return Err(IamError::InvalidInput(
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.".to_owned(),
                ));
            }
            tags.push((key.to_owned(), value.to_owned()));
        }
        if tags.len() > MOST_TAGS {
            return Err(IamError::quota("TagsPerResource", MOST_TAGS));
        }
        Ok(tags)
    }

    pub(super) fn page(&self) -> Result<Page, IamError> {
        let after = match self.text("Marker")? {
            None => String::new(),
            Some(marker) => {
                page::decode(marker).map_err(|_| IamError::Validation(format!("Invalid Marker: {marker}")))?
            }
        };
        let limit = self.number("MaxItems", 1, LARGEST_PAGE as i64)?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(USUAL_PAGE);
        Ok(Page { after, limit })
    }
}

/// Adds tags to those that are there; a key that differs only in case is the same.
pub(super) fn merge_tags(known: Tags, new: Tags) -> Result<Tags, IamError> {
    let mut tags: Tags =
        known.into_iter().filter(|(key, _)| !new.iter().any(|(other, _)| same_tag(other, key))).collect();
    tags.extend(new);
    if tags.len() > MOST_TAGS {
        return Err(IamError::quota("TagsPerResource", MOST_TAGS));
    }
    Ok(tags)
}

pub(super) fn same_tag(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

pub(super) fn check_name(member: &str, name: &str, longest: usize) -> Result<(), IamError> {
    let length = name.len();
    if !(1..=longest).contains(&length) {
        return Err(constraint_of(
            member,
            &format!("Value '{}'", name.chars().take(LONGEST_LONG_NAME).collect::<String>()),
            &format!("Member must have length from 1 to {longest}"),
        ));
    }
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)) {
        return Ok(());
    }
    Err(IamError::Validation(format!(
        "The specified value for {} is invalid. It must contain only alphanumeric characters and/or the following: \
         +=,.@_-",
        lower_first(member)
    )))
}

fn check_tag(key: &str, value: &str) -> Result<(), IamError> {
    let allowed = |text: &str| {
        text.chars().all(|character| {
            character.is_alphanumeric() || character.is_whitespace() || "_.:/=+-@".contains(character)
        })
    };
    let (key_length, value_length) = (key.chars().count(), value.chars().count());
    if (1..=128).contains(&key_length) && value_length <= 256 && allowed(key) && allowed(value) {
        if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return Err(IamError::InvalidInput("Tag keys beginning with aws: are reserved.".to_owned()));
        }
        return Ok(());
    }
    Err(constraint_of(
        "tags",
        &format!("Value '{}'", key.chars().take(128).collect::<String>()),
        "Keys have 1 to 128 characters, values up to 256, of letters, digits, white space and _.:/=+-@",
    ))
}

fn constraint_of(member: &str, value: &str, rule: &str) -> IamError {
    IamError::Validation(format!(
        "1 validation error detected: {value} at '{}' failed to satisfy constraint: {rule}",
        lower_first(member)
    ))
}

/// Members stand in messages with a small letter.
fn lower_first(member: &str) -> String {
    let mut letters = member.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}
