//! Tags of repositories as AWS resources (`Team=payments`), which policies can refer to.

use std::collections::BTreeMap;

use registry_aws::AwsError;
use registry_core::Repository;
use registry_types::{Arn, RepositoryName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{invalid, repository_not_found};
use super::{Ecr, input};
use crate::access::Access;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceTag {
    key: String,
    #[serde(default)]
    value: String,
}

/// The member `tags` of a request; absent is empty.
pub(super) fn of_request(input: &Value) -> Result<BTreeMap<String, String>, AwsError> {
    let Some(value) = input.get("tags").filter(|value| !value.is_null()) else { return Ok(BTreeMap::new()) };
    let given: Vec<ResourceTag> = input::parse(value.clone())?;
    let mut tags = BTreeMap::new();
    for tag in given {
        check_key(&tag.key)?;
        if tag.value.chars().count() > 256 {
            return Err(invalid_tag(&format!("The value of tag '{}' has more than 256 characters", tag.key)));
        }
        if let Some(previous) = tags.insert(tag.key.clone(), tag.value) {
            drop(previous);
            return Err(invalid_tag(&format!("The tag key '{}' is given twice", tag.key)));
        }
    }
    Ok(tags)
}

/// The member `tagKeys` of a request.
pub(super) fn keys_of_request(input: &Value) -> Result<Vec<String>, AwsError> {
    let value = input.get("tagKeys").filter(|value| !value.is_null());
    let value = value.ok_or_else(|| invalid("tagKeys", "must not be null"))?;
    input::parse(value.clone())
}

/// The repository that the member `resourceArn` names.
pub(super) fn repository_of_arn(access: &Access, input: &Value) -> Result<RepositoryName, AwsError> {
    let malformed = || invalid("resourceArn", "must be the ARN of a repository");
    let text = input.get("resourceArn").and_then(Value::as_str).ok_or_else(malformed)?;
    let arn: Arn = text.parse().map_err(|_| malformed())?;
    let name = arn.resource().strip_prefix("repository/").ok_or_else(malformed)?;
    let name = name.parse().map_err(|_| malformed())?;
    if arn.partition() != "aws" || arn.service() != "ecr" {
        return Err(malformed());
    }
    if arn.account() != access.account().as_str() || arn.region() != access.region().as_str() {
        return Err(repository_not_found(arn.account(), &name));
    }
    Ok(name)
}

fn check_key(key: &str) -> Result<(), AwsError> {
    let reserved = key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    if !(1..=128).contains(&key.chars().count()) || reserved {
        return Err(invalid_tag("A tag key has 1 to 128 characters and does not begin with 'aws:'"));
    }
    Ok(())
}

fn invalid_tag(message: &str) -> AwsError {
    AwsError::client("InvalidTagParameterException", message)
}

impl Ecr {
    pub(super) async fn tag_resource(&self, input: Value) -> Result<Value, AwsError> {
        let tags = of_request(&input)?;
        let repository = self.tagged(&input).await?;
        self.change_tags(&repository, tags, Vec::new()).await
    }

    pub(super) async fn untag_resource(&self, input: Value) -> Result<Value, AwsError> {
        let keys = keys_of_request(&input)?;
        let repository = self.tagged(&input).await?;
        self.change_tags(&repository, BTreeMap::new(), keys).await
    }

    pub(super) async fn list_tags_for_resource(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.tagged(&input).await?;
        let tags: Vec<Value> = repository
            .resource_tags
            .iter()
            .map(|(key, value)| json!({ "Key": key, "Value": value }))
            .collect();
        Ok(json!({ "tags": tags }))
    }

    async fn tagged(&self, input: &Value) -> Result<Repository, AwsError> {
        self.found_by_name(&repository_of_arn(&self.access, input)?).await
    }

    async fn change_tags(
        &self,
        repository: &Repository,
        added: BTreeMap<String, String>,
        removed: Vec<String>,
    ) -> Result<Value, AwsError> {
        let changed = self.registry.change_resource_tags(&repository.uid, added, removed).await;
        changed.map_err(|error| self.subject(&repository.name).error(error))?;
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{of_request, repository_of_arn};
    use crate::access::Access;

    #[test]
    fn arns_name_repositories_of_this_registry() {
        let access = Access::new("000000000000".parse().unwrap(), "us-east-1".parse().unwrap());
        let name = |arn: &str| repository_of_arn(&access, &json!({ "resourceArn": arn }));
        assert_eq!(
            name("arn:aws:ecr:us-east-1:000000000000:repository/team/app").unwrap().as_str(),
            "team/app"
        );
        for (arn, code) in [
            ("arn:aws:ecr:us-east-1:111111111111:repository/app", "RepositoryNotFoundException"),
            ("arn:aws:ecr:eu-west-1:000000000000:repository/app", "RepositoryNotFoundException"),
            ("arn:aws:ecs:us-east-1:000000000000:repository/app", "InvalidParameterException"),
            ("arn:aws:ecr:us-east-1:000000000000:cluster/app", "InvalidParameterException"),
            ("arn:aws:ecr:us-east-1:000000000000:repository/App", "InvalidParameterException"),
            ("app", "InvalidParameterException"),
        ] {
            assert_eq!(name(arn).unwrap_err().code, code, "{arn}");
        }
    }

    #[test]
    fn tags_are_checked() {
        let tags = of_request(&json!({"tags": [{"Key": "Team", "Value": "a"}, {"Key": "Empty"}]})).unwrap();
        assert_eq!((tags["Team"].as_str(), tags["Empty"].as_str()), ("a", ""));
        for tags in [
            json!([{"Key": "", "Value": "a"}]),
            json!([{"Key": "AWS:x", "Value": "a"}]),
            json!([{"Key": "k", "Value": "a"}, {"Key": "k", "Value": "b"}]),
            json!([{"Key": "k", "Value": "v".repeat(257)}]),
        ] {
            let refused = of_request(&json!({ "tags": tags })).unwrap_err();
            assert_eq!(refused.code, "InvalidTagParameterException");
        }
    }
}
