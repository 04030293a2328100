//! Lifecycle policies: which images of a repository go by themselves, and what a policy would do.

use std::collections::BTreeSet;

use registry_aws::{AwsError, page, timestamp};
use registry_core::{CoreError, PreviewImage, PreviewQuery, PreviewState, Repository};
use registry_types::{Digest, Reference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::invalid;
use super::input::{ImageIdentifier, ImageKey};
use super::{Ecr, input};

/// Most results of one page, as ECR has it here.
const MAX_RESULTS: i64 = 100;
/// Results that one page examines; a filter may leave the page short or empty, with a token.
const ROWS: u32 = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyRequest {
    lifecycle_policy_text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreviewRequest {
    image_ids: Option<Vec<ImageIdentifier>>,
    next_token: Option<String>,
    max_results: Option<i64>,
    #[serde(default)]
    filter: PreviewFilter,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PreviewFilter {
    tag_status: Option<String>,
}

impl Ecr {
    pub(super) async fn put_lifecycle_policy(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: PolicyRequest = input::parse(input)?;
        let text = request
            .lifecycle_policy_text
            .ok_or_else(|| invalid("lifecyclePolicyText", "must not be null"))?;
        let set = self.registry.set_lifecycle_policy(&repository, &text).await;
        set.map_err(|error| self.subject(&repository.name).error(error))?;
        Ok(self.lifecycle_answer(&repository, text, None))
    }

    pub(super) async fn get_lifecycle_policy(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let subject = self.subject(&repository.name);
        let policy = self.registry.lifecycle_policy(&repository).await;
        let policy = policy.map_err(|error| subject.error(error))?;
        let policy = policy.ok_or_else(|| subject.error(CoreError::LifecyclePolicyNotFound))?;
        Ok(self.lifecycle_answer(&repository, policy.text, Some(policy.evaluated_at_ms)))
    }

    pub(super) async fn delete_lifecycle_policy(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let subject = self.subject(&repository.name);
        let before = self.registry.delete_lifecycle_policy(&repository).await;
        let before = before.map_err(|error| subject.error(error))?;
        let before = before.ok_or_else(|| subject.error(CoreError::LifecyclePolicyNotFound))?;
        Ok(self.lifecycle_answer(&repository, before.text, Some(before.evaluated_at_ms)))
    }

    pub(super) async fn start_lifecycle_policy_preview(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: PolicyRequest = input::parse(input)?;
        let started = self.registry.start_lifecycle_preview(&repository, request.lifecycle_policy_text).await;
        let text = started.map_err(|error| self.subject(&repository.name).error(error))?;
        let mut answer = self.lifecycle_answer(&repository, text, None);
        answer["status"] = status(PreviewState::InProgress).into();
        Ok(answer)
    }

    pub(super) async fn get_lifecycle_policy_preview(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: PreviewRequest = input::parse(input)?;
        let limit = request.limit()?;
        let query = match self.wanted(&repository, &request).await? {
            Some(wanted) => PreviewQuery::Only(wanted),
            None => PreviewQuery::Page {
                after: request.next_token.as_deref().map_or_else(|| Ok(String::new()), page::decode)?,
                limit: ROWS,
            },
        };
        let preview = self.registry.lifecycle_preview(&repository, query).await;
        let preview = preview.map_err(|error| self.subject(&repository.name).error(error))?;
        let (mut results, mut next, mut last) = (Vec::new(), preview.images.next, None);
        for image in &preview.images.items {
            if request.filter.shows(image)? {
                if results.len() == limit {
                    next = last;
                    break;
                }
                results.push(result(image));
            }
            last = Some(image.digest.to_string());
        }
        let mut answer = self.lifecycle_answer(&repository, preview.text, None);
        answer["status"] = status(preview.state).into();
        answer["previewResults"] = results.into();
        answer["summary"] = json!({ "expiringImageTotalCount": preview.expiring });
        if let Some(next) = next {
            answer["nextToken"] = page::encode(&next).into();
        }
        Ok(answer)
    }

    /// The digests of the images that the request names, if it names some.
    async fn wanted(
        &self,
        repository: &Repository,
        request: &PreviewRequest,
    ) -> Result<Option<BTreeSet<Digest>>, AwsError> {
        let Some(ids) = &request.image_ids else { return Ok(None) };
        input::check_batch("imageIds", ids.len())?;
        if request.next_token.is_some() || request.max_results.is_some() {
            return Err(invalid("imageIds", "cannot be used with maxResults or nextToken"));
        }
        let mut wanted = BTreeSet::new();
        for id in ids {
            match id.key() {
                Err(_) => return Err(invalid("imageIds", "must name a digest or a tag")),
                Ok(ImageKey::Digest(digest) | ImageKey::Both(digest, _)) => {
                    wanted.insert(digest);
                }
                Ok(ImageKey::Tag(tag)) => match self.registry.image(repository, &Reference::Tag(tag)).await {
                    Ok(image) => {
                        wanted.insert(image.manifest.digest);
                    }
                    Err(CoreError::ManifestNotFound) => {}
                    Err(error) => return Err(self.subject(&repository.name).error(error)),
                },
            }
        }
        Ok(Some(wanted))
    }

    /// Repository and text; `lastEvaluatedAt` where it is told, the epoch when there was no evaluation yet.
    fn lifecycle_answer(
        &self,
        repository: &Repository,
        text: String,
        evaluated_at_ms: Option<Option<i64>>,
    ) -> Value {
        let mut answer = Map::new();
        answer.insert("registryId".into(), json!(self.access.account()));
        answer.insert("repositoryName".into(), json!(repository.name));
        answer.insert("lifecyclePolicyText".into(), text.into());
        if let Some(at_ms) = evaluated_at_ms {
            answer.insert("lastEvaluatedAt".into(), timestamp::epoch_seconds(at_ms.unwrap_or(0)));
        }
        Value::Object(answer)
    }
}

impl PreviewRequest {
    fn limit(&self) -> Result<usize, AwsError> {
        match self.max_results.unwrap_or(MAX_RESULTS) {
            limit @ 1..=MAX_RESULTS => Ok(usize::try_from(limit).unwrap_or(1)),
            _ => Err(invalid("maxResults", "must be between 1 and 100")),
        }
    }
}

impl PreviewFilter {
    fn shows(&self, image: &PreviewImage) -> Result<bool, AwsError> {
        match self.tag_status.as_deref() {
            None | Some("ANY") => Ok(true),
            Some("TAGGED") => Ok(!image.tags.is_empty()),
            Some("UNTAGGED") => Ok(image.tags.is_empty()),
            Some(_) => Err(invalid("filter.tagStatus", "must be one of [TAGGED, UNTAGGED, ANY]")),
        }
    }
}

fn result(image: &PreviewImage) -> Value {
    json!({
        "imageTags": image.tags,
        "imageDigest": image.digest,
        "imagePushedAt": timestamp::epoch_seconds(image.pushed_at_ms),
        "action": { "type": "EXPIRE" },
        "appliedRulePriority": image.rule_priority,
        "storageClass": "STANDARD",
    })
}

fn status(state: PreviewState) -> &'static str {
    match state {
        PreviewState::InProgress => "IN_PROGRESS",
        PreviewState::Complete => "COMPLETE",
        PreviewState::Failed => "FAILED",
        PreviewState::Expired => "EXPIRED",
    }
}
