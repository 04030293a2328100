//! Repositories: created, described, deleted, and the mutability of their tags.

use policies_identity::{Caller, RequestContext};
use registry_aws::{AwsError, timestamp};
use registry_core::{
    Domain, EncryptionType, ImmutabilityExclusion, NewRepository, Repository, TagMutability,
};
use registry_types::RepositoryName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::{invalid, registry_error};
use super::input::Paging;
use super::operation::Operation;
use super::{Ecr, input, resource_tags};

/// Rows that one page of a listing examines.
const ROWS: u32 = 1000;
const LISTING: &str = "DescribeRepositories";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateRepositoryRequest {
    #[serde(flatten)]
    mutability: MutabilityMembers,
    image_scanning_configuration: Option<ImageScanningConfiguration>,
    encryption_configuration: Option<EncryptionConfiguration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MutabilityMembers {
    image_tag_mutability: Option<String>,
    image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExclusionFilter {
    filter_type: String,
    filter: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ImageScanningConfiguration {
    pub(super) scan_on_push: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    encryption_type: String,
    kms_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteRepositoryRequest {
    force: bool,
}

impl Ecr {
    pub(super) async fn create_repository(
        &self,
        ctx: &RequestContext,
        input: Value,
    ) -> Result<Value, AwsError> {
        let name = input::repository_name(&input)?;
        self.check_registry(&input, &name)?;
        let resource_tags = resource_tags::of_request(&input)?;
        let request: CreateRepositoryRequest = input::parse(input)?;
        let settings = NewRepository {
            tag_mutability: request.mutability.parse()?.unwrap_or_default(),
            resource_tags,
            scan_on_push: request.image_scanning_configuration.unwrap_or_default().scan_on_push,
            kms_key: self.key_domain(request.encryption_configuration).await?,
        };
        let created = self.registry.create_repository(&name, settings).await;
        let repository = created.map_err(|error| self.subject(&name).error(error))?;
        Ok(json!({ "repository": self.repository(ctx, &repository) }))
    }

    pub(super) async fn describe_repositories(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        input: Value,
    ) -> Result<Value, AwsError> {
        let names = input::repository_names(&input)?;
        self.check_listed_registry(&input, names.as_deref())?;
        let paging: Paging = input::parse(input)?;
        let Some(names) = names else { return self.list_repositories(ctx, caller, &paging).await };
        if !paging.is_absent() {
            return Err(invalid("repositoryNames", "cannot be used with maxResults or nextToken"));
        }
        let mut described = Vec::with_capacity(names.len());
        for name in &names {
            described.push(self.repository(ctx, &self.found_by_name(name).await?));
        }
        Ok(json!({ "repositories": described }))
    }

    /// Leaves out what the caller may not see, so that a page may be short or empty and still have a next one.
    /// Tokens are sealed: a page may end at a repository that its reader must not learn of.
    async fn list_repositories(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        paging: &Paging,
    ) -> Result<Value, AwsError> {
        let limit = paging.limit()? as usize;
        let after = match paging.token() {
            None => String::new(),
            Some(token) => self.registry.reveal_cursor(LISTING, token).ok_or_else(input::invalid_token)?,
        };
        let rows = self.registry.repositories(&after, ROWS).await.map_err(registry_error)?;
        let (mut shown, mut last, mut next) = (Vec::new(), None, rows.next);
        for repository in &rows.items {
            if shown.len() == limit {
                next = last;
                break;
            }
            let action = Operation::DescribeRepositories.action();
            let check = self.access.check(action, &repository.name, Some(repository));
            if self.identity.probe(ctx, caller, &check).is_ok() {
                shown.push(self.repository(ctx, repository));
            }
            last = Some(repository.name.to_string());
        }
        let mut answer = json!({ "repositories": shown });
        if let Some(next) = next {
            answer["nextToken"] = self.registry.hide_cursor(LISTING, &next).into();
        }
        Ok(answer)
    }

    pub(super) async fn delete_repository(
        &self,
        ctx: &RequestContext,
        input: Value,
    ) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: DeleteRepositoryRequest = input::parse(input)?;
        let deleted = self.registry.delete_repository(&repository.uid, request.force).await;
        deleted.map_err(|error| self.subject(&repository.name).error(error))?;
        Ok(json!({ "repository": self.repository(ctx, &repository) }))
    }

    pub(super) async fn put_image_tag_mutability(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: MutabilityMembers = input::parse(input)?;
        let mutability = request.parse()?.ok_or_else(|| invalid("imageTagMutability", "must not be null"))?;
        let changed = self.registry.set_tag_mutability(&repository.uid, mutability.clone()).await;
        changed.map_err(|error| self.subject(&repository.name).error(error))?;
        let mut answer = Map::new();
        answer.insert("registryId".into(), json!(self.access.account()));
        answer.insert("repositoryName".into(), json!(repository.name));
        answer.extend(mutability_members(&mutability));
        Ok(Value::Object(answer))
    }

    /// The shape `Repository`.
    fn repository(&self, ctx: &RequestContext, repository: &Repository) -> Value {
        let mut shape = Map::new();
        shape.insert("repositoryArn".into(), json!(self.access.repository_arn(&repository.name)));
        shape.insert("registryId".into(), json!(self.access.account()));
        shape.insert("repositoryName".into(), json!(repository.name));
        shape.insert("repositoryUri".into(), format!("{}/{}", self.host(ctx), repository.name).into());
        shape.insert("createdAt".into(), timestamp::epoch_seconds(repository.created_at_ms));
        shape.extend(mutability_members(&repository.tag_mutability));
        shape.insert("imageScanningConfiguration".into(), json!({ "scanOnPush": repository.scan_on_push }));
        let mut encryption = json!({ "encryptionType": repository.encryption_type.as_str() });
        if repository.encryption_type == EncryptionType::Kms {
            encryption["kmsKey"] = self.key_arn(repository.domain.as_str()).into();
        }
        shape.insert("encryptionConfiguration".into(), encryption);
        Value::Object(shape)
    }

    /// The key domain that is asked for by its name or its ARN; all content is encrypted once, so that two layers are
    /// refused, as they would not be in effect.
    async fn key_domain(&self, asked: Option<EncryptionConfiguration>) -> Result<Option<Domain>, AwsError> {
        let member = "encryptionConfiguration.encryptionType";
        let Some(EncryptionConfiguration { encryption_type, kms_key }) = asked else { return Ok(None) };
        match EncryptionType::parse(&encryption_type) {
            Some(EncryptionType::Kms) => {}
            Some(EncryptionType::Aes256) if kms_key.is_none() => return Ok(None),
            Some(EncryptionType::Aes256) => return Err(invalid(member, "must be KMS where kmsKey is given")),
            None if encryption_type == "KMS_DSSE" => {
                return Err(AwsError::unsupported(
                    "encryptionType KMS_DSSE: content is encrypted once, by AES256 or KMS",
                ));
            }
            None => return Err(invalid(member, "must be one of [AES256, KMS, KMS_DSSE]")),
        }
        let name = kms_key.as_deref().unwrap_or("default");
        let epochs = self.registry.key_epochs().await.map_err(registry_error)?;
        let known = epochs.into_iter().map(|epoch| epoch.domain);
        let mut named =
            known.filter(|domain| domain.as_str() == name || self.key_arn(domain.as_str()) == name);
        named.next().map(Some).ok_or_else(|| {
            AwsError::client(
                "KmsException",
                format!("There is no key {name} here: `berth key create` makes it"),
            )
        })
    }

    /// What KMS would call the key of a domain, unless that is its name.
    fn key_arn(&self, domain: &str) -> String {
        if domain.starts_with("arn:") {
            return domain.to_owned();
        }
        let kind = if domain.starts_with("alias/") { "" } else { "key/" };
        format!("arn:aws:kms:{}:{}:{kind}{domain}", self.access.region(), self.access.account())
    }

    /// As `check_registry`, for requests that may name no repository.
    fn check_listed_registry(&self, input: &Value, names: Option<&[RepositoryName]>) -> Result<(), AwsError> {
        match names.and_then(<[_]>::first) {
            Some(name) => self.check_registry(input, name),
            None => match input.get("registryId").and_then(Value::as_str) {
                Some(id) if id != self.access.account().as_str() => Err(AwsError::client(
                    "RepositoryNotFoundException",
                    format!("The registry with id '{id}' does not exist here"),
                )),
                Some(_) | None => Ok(()),
            },
        }
    }
}

impl MutabilityMembers {
    /// The setting; `None` when the request does not name one.
    fn parse(self) -> Result<Option<TagMutability>, AwsError> {
        const FILTERS: &str = "imageTagMutabilityExclusionFilters";
        let filters = self.image_tag_mutability_exclusion_filters.unwrap_or_default();
        let given = !filters.is_empty();
        let Some(name) = self.image_tag_mutability else {
            return if given { Err(invalid(FILTERS, "needs imageTagMutability")) } else { Ok(None) };
        };
        let exclusions: Result<Vec<_>, _> = filters.into_iter().map(ExclusionFilter::parse).collect();
        let mutability = TagMutability::from_parts(&name, exclusions?).ok_or_else(|| {
            invalid(
                "imageTagMutability",
                "must be one of [MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]",
            )
        })?;
        match &mutability {
            TagMutability::Mutable | TagMutability::Immutable if given => {
                Err(invalid(FILTERS, &format!("cannot be used with {name}")))
            }
            TagMutability::MutableWithExclusion(filters) | TagMutability::ImmutableWithExclusion(filters)
                if !(1..=5).contains(&filters.len()) =>
            {
                Err(invalid(FILTERS, "must have 1 to 5 items"))
            }
            _ => Ok(Some(mutability)),
        }
    }
}

impl ExclusionFilter {
    fn parse(self) -> Result<ImmutabilityExclusion, AwsError> {
        if self.filter_type != "WILDCARD" {
            return Err(invalid("imageTagMutabilityExclusionFilters.filterType", "must be WILDCARD"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'*' | b'-');
        let well_formed = (1..=128).contains(&self.filter.len()) && self.filter.bytes().all(allowed);
        if well_formed {
            Ok(ImmutabilityExclusion(self.filter))
        } else {
            Err(invalid(
                "imageTagMutabilityExclusionFilters.filter",
                "must satisfy regular expression '^[0-9a-zA-Z._*-]{1,128}$'",
            ))
        }
    }
}

/// `imageTagMutability`, and its filters where it has some.
fn mutability_members(mutability: &TagMutability) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("imageTagMutability".into(), mutability.as_str().into());
    let filters: Vec<Value> = mutability
        .exclusions()
        .iter()
        .map(|exclusion| json!({ "filterType": "WILDCARD", "filter": exclusion.0 }))
        .collect();
    if !filters.is_empty() {
        members.insert("imageTagMutabilityExclusionFilters".into(), filters.into());
    }
    members
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MutabilityMembers, mutability_members};
    use crate::http::ecr::input::parse;

    fn mutability(input: Value) -> Result<Option<Value>, String> {
        let members: MutabilityMembers = parse(input).map_err(|error| error.message)?;
        let parsed = members.parse().map_err(|error| error.message)?;
        Ok(parsed.map(|mutability| Value::Object(mutability_members(&mutability))))
    }

    #[test]
    fn mutability_reads_and_writes_the_four_settings() {
        let filters = json!([{"filterType": "WILDCARD", "filter": "latest*"}]);
        for input in [
            json!({"imageTagMutability": "MUTABLE"}),
            json!({"imageTagMutability": "IMMUTABLE"}),
            json!({"imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters}),
            json!({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters}),
        ] {
            assert_eq!(mutability(input.clone()).unwrap(), Some(input));
        }
        assert_eq!(mutability(json!({})).unwrap(), None);
    }

    #[test]
    fn filters_go_with_exclusion_settings_only() {
        let filters = |count: usize| vec![json!({"filterType": "WILDCARD", "filter": "a"}); count];
        for (name, filters) in [
            ("MUTABLE", filters(1)),
            ("IMMUTABLE", filters(1)),
            ("IMMUTABLE_WITH_EXCLUSION", filters(0)),
            ("MUTABLE_WITH_EXCLUSION", filters(6)),
            ("MUTABLE_WITH_EXCLUSION", vec![json!({"filterType": "REGEX", "filter": "a"})]),
            ("MUTABLE_WITH_EXCLUSION", vec![json!({"filterType": "WILDCARD", "filter": "a b"})]),
            ("MUTABLE_WITH_EXCLUSION", vec![json!({"filterType": "WILDCARD", "filter": ""})]),
            ("SOMETIMES", filters(0)),
        ] {
            let input = json!({"imageTagMutability": name, "imageTagMutabilityExclusionFilters": filters});
            assert!(mutability(input.clone()).is_err(), "{input}");
        }
    }
}
