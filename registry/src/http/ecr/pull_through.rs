//! Pull-through cache rules: which repositories are filled from which other registry.

use registry_aws::timestamp::epoch_seconds;
use registry_aws::{AwsError, page};
use registry_core::{NewRule, PullThroughRule};
use registry_types::RepositoryName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Ecr;
use super::error::{invalid, registry_error};
use super::input::{self, Paging};

/// What stands for no prefix.
const ROOT: &str = "ROOT";
/// ECR's bounds on a prefix.
const PREFIX_LENGTH: std::ops::RangeInclusive<usize> = 2..=30;
/// Prefixes that one request may name.
const MOST_PREFIXES: usize = 100;

/// ECR's words for kinds of upstreams.
const UPSTREAMS: [&str; 9] = [
    "ecr",
    "ecr-public",
    "quay",
    "k8s",
    "docker-hub",
    "github-container-registry",
    "azure-container-registry",
    "gitlab-container-registry",
    "chainguard",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateRequest {
    ecr_repository_prefix: String,
    upstream_registry_url: String,
    upstream_registry: Option<String>,
    upstream_repository_prefix: Option<String>,
    credential_arn: Option<String>,
    custom_role_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneRequest {
    ecr_repository_prefix: String,
    credential_arn: Option<String>,
    custom_role_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeRequest {
    #[serde(default)]
    ecr_repository_prefixes: Option<Vec<String>>,
    #[serde(flatten)]
    paging: Paging,
}

impl Ecr {
    pub(super) async fn create_pull_through_cache_rule(&self, input: Value) -> Result<Value, AwsError> {
        self.check_rules_registry(&input)?;
        let request: CreateRequest = input::parse(input)?;
        refuse_arns(&request.ecr_repository_prefix, &request.credential_arn, &request.custom_role_arn)?;
        let prefix = prefix(&request.ecr_repository_prefix, "ecrRepositoryPrefix")?;
        let upstream_prefix = match &request.upstream_repository_prefix {
            Some(text) => parse_prefix(text, "upstreamRepositoryPrefix")?,
            None => String::new(),
        };
        if let Some(kind) = request.upstream_registry.as_deref()
            && !UPSTREAMS.contains(&kind)
        {
            return Err(invalid("upstreamRegistry", &format!("must be one of {}", UPSTREAMS.join(", "))));
        }
        self.pull_through.place(&request.upstream_registry_url).map_err(|error| {
            AwsError::client(
                "UnsupportedUpstreamRegistryException",
                format!("The upstream registry URL '{}' {error}", request.upstream_registry_url),
            )
        })?;
        let rule = PullThroughRule {
            prefix,
            upstream_url: request.upstream_registry_url,
            upstream_registry: request.upstream_registry,
            upstream_prefix,
            credentials: None,
            created_at_ms: 0,
            updated_at_ms: 0,
        };
        match self.registry.create_pull_through_rule(rule).await.map_err(registry_error)? {
            NewRule::Made(rule) => {
                self.pull_through.refresh().await.map_err(registry_error)?;
                let mut answer = self.rule(&rule);
                answer.remove("updatedAt");
                Ok(answer.into())
            }
            NewRule::Exists => Err(AwsError::client(
                "PullThroughCacheRuleAlreadyExistsException",
                format!(
                    "A pull through cache rule with the repository prefix '{}' already exists in the registry with \
                     id '{}'",
                    request.ecr_repository_prefix,
                    self.access.account()
                ),
            )),
            NewRule::TooMany { limit } => Err(AwsError::client(
                "LimitExceededException",
                format!("A registry may have at most {limit} pull through cache rules"),
            )),
        }
    }

    pub(super) async fn describe_pull_through_cache_rules(&self, input: Value) -> Result<Value, AwsError> {
        self.check_rules_registry(&input)?;
        let request: DescribeRequest = input::parse(input)?;
        let (limit, cursor) = (request.paging.limit()? as usize, request.paging.cursor()?);
        let rules = self.registry.pull_through_rules().await.map_err(registry_error)?;
        if let Some(texts) = request.ecr_repository_prefixes {
            if texts.is_empty() || texts.len() > MOST_PREFIXES {
                return Err(invalid("ecrRepositoryPrefixes", "must have 1 to 100 items"));
            }
            let mut named = Vec::with_capacity(texts.len());
            for text in &texts {
                let prefix = prefix(text, "ecrRepositoryPrefixes")?;
                let rule = rules.iter().find(|rule| rule.prefix == prefix);
                named.push(self.rule(rule.ok_or_else(|| self.no_rule(text))?));
            }
            return Ok(json!({ "pullThroughCacheRules": named }));
        }
        // Shifted by one letter, for the empty prefix is a place in the list too.
        let after = cursor.strip_prefix('/');
        let mut left = rules.iter().filter(|rule| after.is_none_or(|after| rule.prefix.as_str() > after));
        let listed: Vec<&PullThroughRule> = left.by_ref().take(limit).collect();
        let shapes: Vec<_> = listed.iter().map(|rule| self.rule(rule)).collect();
        let mut answer = json!({ "pullThroughCacheRules": shapes });
        if let (Some(last), Some(_)) = (listed.last(), left.next()) {
            answer["nextToken"] = page::encode(&format!("/{}", last.prefix)).into();
        }
        Ok(answer)
    }

    pub(super) async fn delete_pull_through_cache_rule(&self, input: Value) -> Result<Value, AwsError> {
        self.check_rules_registry(&input)?;
        let request: OneRequest = input::parse(input)?;
        let prefix = prefix(&request.ecr_repository_prefix, "ecrRepositoryPrefix")?;
        let deleted = self.registry.delete_pull_through_rule(&prefix).await.map_err(registry_error)?;
        let rule = deleted.ok_or_else(|| self.no_rule(&request.ecr_repository_prefix))?;
        self.pull_through.refresh().await.map_err(registry_error)?;
        let mut answer = self.rule(&rule);
        answer.remove("updatedAt");
        Ok(answer.into())
    }

    pub(super) async fn update_pull_through_cache_rule(&self, input: Value) -> Result<Value, AwsError> {
        self.check_rules_registry(&input)?;
        let request: OneRequest = input::parse(input)?;
        self.one_rule(&request.ecr_repository_prefix).await?;
        refuse_arns(&request.ecr_repository_prefix, &request.credential_arn, &request.custom_role_arn)?;
        Err(invalid("credentialArn", "must not be null"))
    }

    pub(super) async fn validate_pull_through_cache_rule(&self, input: Value) -> Result<Value, AwsError> {
        self.check_rules_registry(&input)?;
        let request: OneRequest = input::parse(input)?;
        let rule = self.one_rule(&request.ecr_repository_prefix).await?;
        let probed = self.pull_through.probe(&rule).await;
        let mut answer = self.rule(&rule);
        for member in ["createdAt", "updatedAt", "upstreamRegistry"] {
            answer.remove(member);
        }
        answer.insert("isValid".into(), probed.is_ok().into());
        if let Err(error) = probed {
            answer.insert("failure".into(), error.to_string().into());
        }
        Ok(answer.into())
    }

    async fn one_rule(&self, text: &str) -> Result<PullThroughRule, AwsError> {
        let prefix = prefix(text, "ecrRepositoryPrefix")?;
        let rules = self.registry.pull_through_rules().await.map_err(registry_error)?;
        rules.into_iter().find(|rule| rule.prefix == prefix).ok_or_else(|| self.no_rule(text))
    }

    /// The shape `PullThroughCacheRule`.
    fn rule(&self, rule: &PullThroughRule) -> Map<String, Value> {
        let named = |prefix: &str| if prefix.is_empty() { ROOT.to_owned() } else { prefix.to_owned() };
        let mut shape = Map::new();
        shape.insert("ecrRepositoryPrefix".into(), named(&rule.prefix).into());
        shape.insert("upstreamRegistryUrl".into(), rule.upstream_url.clone().into());
        shape.insert("createdAt".into(), epoch_seconds(rule.created_at_ms));
        shape.insert("registryId".into(), json!(self.access.account()));
        if let Some(kind) = &rule.upstream_registry {
            shape.insert("upstreamRegistry".into(), kind.clone().into());
        }
        shape.insert("upstreamRepositoryPrefix".into(), named(&rule.upstream_prefix).into());
        shape.insert("updatedAt".into(), epoch_seconds(rule.updated_at_ms));
        shape
    }

    fn no_rule(&self, prefix: &str) -> AwsError {
        AwsError::client(
            "PullThroughCacheRuleNotFoundException",
            format!(
                "A pull through cache rule with the repository prefix '{prefix}' does not exist in the registry with \
                 id '{}'",
                self.access.account()
            ),
        )
    }

    /// There is one registry here.
    fn check_rules_registry(&self, input: &Value) -> Result<(), AwsError> {
        match input.get("registryId") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(id)) if id == self.access.account().as_str() => Ok(()),
            Some(_) => Err(invalid("registryId", "must be the id of this registry")),
        }
    }
}

/// Credentials lie in no Secrets Manager here, and no role is assumed.
fn refuse_arns(
    prefix: &str,
    credential_arn: &Option<String>,
    custom_role_arn: &Option<String>,
) -> Result<(), AwsError> {
    if credential_arn.is_some() {
        return Err(AwsError::client(
            "UnableToAccessSecretException",
            format!(
                "There is no Secrets Manager here: leave credentialArn out, and give the rule its credentials with \
                 `berth upstream login {prefix}`"
            ),
        ));
    }
    match custom_role_arn {
        Some(_) => Err(invalid("customRoleArn", "is not supported: upstreams are asked with a login")),
        None => Ok(()),
    }
}

/// A prefix of repositories here.
fn prefix(text: &str, member: &str) -> Result<String, AwsError> {
    if text != ROOT && !PREFIX_LENGTH.contains(&text.len()) {
        return Err(invalid(member, "must have 2 to 30 characters"));
    }
    parse_prefix(text, member)
}

/// Empty for `ROOT`; a slash at its end says nothing.
fn parse_prefix(text: &str, member: &str) -> Result<String, AwsError> {
    if text == ROOT {
        return Ok(String::new());
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    let name: RepositoryName = input::parse_repository_name(text, member)?;
    Ok(name.as_str().to_owned())
}
