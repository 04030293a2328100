//! Members that many operations share, parsed at the door.

use registry_aws::{AwsError, page};
use registry_types::{Digest, RepositoryName, Tag};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::invalid;

/// Most entries of the lists that ECR bounds by 100 (`imageIds`, `layerDigests`, `repositoryNames`).
const MAX_BATCH: usize = 100;

/// Page size where the request names none, and the largest that it may name.
const DEFAULT_RESULTS: u32 = 100;
const MAX_RESULTS: u32 = 1000;

/// A request as the operation's own structure. Members it does not know are ignored; one that is null is not there
/// (Smithy, AWS JSON 1.1 protocol).
pub(super) fn parse<T: DeserializeOwned>(mut input: Value) -> Result<T, AwsError> {
    remove_nulls(&mut input);
    serde_json::from_value(input)
        .map_err(|error| AwsError::serialization(format!("The request cannot be read: {error}")))
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// The member `repositoryName`.
pub(super) fn repository_name(input: &Value) -> Result<RepositoryName, AwsError> {
    match input.get("repositoryName") {
        None | Some(Value::Null) => Err(invalid("repositoryName", "must not be null")),
        Some(value) => parse_repository_name(value.as_str().unwrap_or_default(), "repositoryName"),
    }
}

pub(super) fn parse_repository_name(text: &str, member: &str) -> Result<RepositoryName, AwsError> {
    text.parse().map_err(|_| {
        invalid(
            member,
            "must satisfy regular expression \
             '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*' and have at most 255 characters",
        )
    })
}

/// The member `repositoryNames`; `None` when the request means all.
pub(super) fn repository_names(input: &Value) -> Result<Option<Vec<RepositoryName>>, AwsError> {
    let Some(value) = input.get("repositoryNames").filter(|value| !value.is_null()) else { return Ok(None) };
    let names: Vec<String> = parse(value.clone())?;
    check_batch("repositoryNames", names.len())?;
    let names: Result<Vec<_>, _> =
        names.iter().map(|name| parse_repository_name(name, "repositoryNames")).collect();
    names.map(Some)
}

/// Lists must have 1 to 100 entries.
pub(super) fn check_batch(member: &str, len: usize) -> Result<(), AwsError> {
    if (1..=MAX_BATCH).contains(&len) { Ok(()) } else { Err(invalid(member, "must have 1 to 100 items")) }
}

/// `maxResults` and `nextToken` of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Paging {
    max_results: Option<i64>,
    next_token: Option<String>,
}

impl Paging {
    pub(super) fn is_absent(&self) -> bool {
        self.max_results.is_none() && self.next_token.is_none()
    }

    /// How many entries the page may have.
    pub(super) fn limit(&self) -> Result<u32, AwsError> {
        match self.max_results {
            None => Ok(DEFAULT_RESULTS),
            Some(asked) => u32::try_from(asked)
                .ok()
                .filter(|limit| (1..=MAX_RESULTS).contains(limit))
                .ok_or_else(|| invalid("maxResults", "must be between 1 and 1000")),
        }
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.next_token.as_deref()
    }

    /// Where the page begins; empty for the first.
    pub(super) fn cursor(&self) -> Result<String, AwsError> {
        self.next_token.as_deref().map_or_else(|| Ok(String::new()), page::decode)
    }
}

pub(super) fn invalid_token() -> AwsError {
    invalid("nextToken", "must be the token of an earlier answer")
}

/// An image by digest, by tag, or both (then the tag must point at the digest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageIdentifier {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_tag: Option<String>,
}

/// An identifier that names something.
pub(super) enum ImageKey {
    Digest(Digest),
    Tag(Tag),
    Both(Digest, Tag),
}

/// Why one image of a batch was left out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageFailure {
    image_id: ImageIdentifier,
    failure_code: &'static str,
    failure_reason: String,
}

impl ImageIdentifier {
    pub(super) fn of(digest: &Digest, tag: Option<&Tag>) -> Self {
        Self { image_digest: Some(digest.to_string()), image_tag: tag.map(ToString::to_string) }
    }

    pub(super) fn key(&self) -> Result<ImageKey, ImageFailure> {
        let digest = match self.image_digest.as_deref().map(str::parse) {
            Some(Err(_)) => {
                let reason = "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
                return Err(self.failure("InvalidImageDigest", reason));
            }
            Some(Ok(digest)) => Some(digest),
            None => None,
        };
        let tag = match self.image_tag.as_deref().map(str::parse) {
            Some(Err(_)) => {
                return Err(self.failure("InvalidImageTag", "Invalid request parameters: image tag"));
            }
            Some(Ok(tag)) => Some(tag),
            None => None,
        };
        match (digest, tag) {
            (Some(digest), Some(tag)) => Ok(ImageKey::Both(digest, tag)),
            (Some(digest), None) => Ok(ImageKey::Digest(digest)),
            (None, Some(tag)) => Ok(ImageKey::Tag(tag)),
            (None, None) => Err(self.failure(
                "MissingDigestAndTag",
                "Invalid request parameters: both tag and digest cannot be null",
            )),
        }
    }

    pub(super) fn failure(&self, code: &'static str, reason: impl Into<String>) -> ImageFailure {
        ImageFailure { image_id: self.clone(), failure_code: code, failure_reason: reason.into() }
    }

    pub(super) fn not_found(&self) -> ImageFailure {
        self.failure("ImageNotFound", "Requested image not found")
    }

    pub(super) fn tag_elsewhere(&self) -> ImageFailure {
        self.failure(
            "ImageTagDoesNotMatchDigest",
            "Requested image tag does not point at the requested digest",
        )
    }

    /// The words of ImageNotFoundException.
    pub(super) fn text(&self) -> String {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "null".into());
        format!("{{imageDigest:'{}', imageTag:'{}'}}", part(&self.image_digest), part(&self.image_tag))
    }
}

#[cfg(test)]
mod tests {
    use registry_aws::page;
    use serde_json::json;

    use super::{ImageIdentifier, Paging, parse, repository_name, repository_names};

    #[test]
    fn names_are_checked_at_the_door() {
        assert_eq!(repository_name(&json!({"repositoryName": "team/app"})).unwrap().as_str(), "team/app");
        for input in [
            json!({}),
            json!({"repositoryName": null}),
            json!({"repositoryName": "Team"}),
            json!({"repositoryName": 1}),
        ] {
            assert_eq!(repository_name(&input).unwrap_err().code, "InvalidParameterException", "{input}");
        }
        assert_eq!(repository_names(&json!({})).unwrap(), None);
        assert!(repository_names(&json!({"repositoryNames": []})).is_err());
        assert!(repository_names(&json!({"repositoryNames": vec!["a"; 101]})).is_err());
    }

    #[test]
    fn pages_are_bounded() {
        let limit = |input| parse::<Paging>(input).unwrap().limit();
        assert_eq!(limit(json!({})).unwrap(), 100);
        assert_eq!(limit(json!({"maxResults": 1000})).unwrap(), 1000);
        for asked in [0, -1, 1001, i64::MAX] {
            assert!(limit(json!({"maxResults": asked})).is_err(), "{asked}");
        }
        let paging: Paging = parse(json!({"nextToken": page::encode("team/app")})).unwrap();
        assert_eq!(paging.cursor().unwrap(), "team/app");
        assert!(parse::<Paging>(json!({"nextToken": "team/app"})).unwrap().cursor().is_err());
    }

    #[test]
    fn identifiers_name_something() {
        for (input, code) in [
            (json!({}), "MissingDigestAndTag"),
            (json!({"imageDigest": "sha256:12"}), "InvalidImageDigest"),
            (json!({"imageTag": "-x"}), "InvalidImageTag"),
        ] {
            let Err(failure) = parse::<ImageIdentifier>(input).unwrap().key() else { panic!("{code}") };
            assert_eq!(failure.failure_code, code);
        }
    }
}
