//! Manifests through the API itself: fetched, put, and who refers to one.

use registry_aws::{AwsError, page};
use registry_core::{CoreError, ManifestPush, PushTarget, Referrer, Repository};
use registry_types::{Algorithm, Digest, MediaType, Reference, RepositoryName, Tag};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::error::invalid;
use super::input::{ImageFailure, ImageIdentifier, ImageKey};
use super::through::{Absent, Asking, exception};
use super::{Ecr, input};
use crate::pull_through::Part;

/// Bytes of manifests that one answer may hold.
const MAX_ANSWER_BYTES: usize = 20 * 1024 * 1024;

/// ECR's bounds on a page of referrers, and on the types it is filtered by.
const MAX_REFERRERS: u32 = 50;
const MAX_ARTIFACT_TYPES: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchGetImageRequest {
    image_ids: Vec<ImageIdentifier>,
    #[serde(default)]
    accepted_media_types: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutImageRequest {
    image_manifest: String,
    image_manifest_media_type: Option<String>,
    image_tag: Option<String>,
    image_digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListImageReferrersRequest {
    subject_id: ImageIdentifier,
    #[serde(default)]
    filter: ReferrerFilter,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReferrerFilter {
    artifact_types: Vec<String>,
    artifact_status: Option<String>,
}

impl Ecr {
    pub(super) async fn batch_get_image(&self, asking: Asking<'_>, input: Value) -> Result<Value, AwsError> {
        let name = self.named(&input)?;
        let request: BatchGetImageRequest = input::parse(input)?;
        input::check_batch("imageIds", request.image_ids.len())?;
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for id in &request.image_ids {
            match self.get_image(asking, &name, id, &request.accepted_media_types).await? {
                Ok((image, len)) => {
                    bytes += len;
                    images.push(image);
                }
                Err(failure) => failures.push(failure),
            }
            if bytes > MAX_ANSWER_BYTES {
                return Err(AwsError::client(
                    "LimitExceededException",
                    "The manifests are larger than one answer may be: ask for fewer images at once",
                ));
            }
        }
        Ok(json!({ "images": images, "failures": failures }))
    }

    async fn get_image(
        &self,
        asking: Asking<'_>,
        name: &RepositoryName,
        id: &ImageIdentifier,
        accepted: &[String],
    ) -> Result<Result<(Value, usize), ImageFailure>, AwsError> {
        let reference = match id.key() {
            Ok(ImageKey::Digest(digest)) => Reference::Digest(digest),
            Ok(ImageKey::Tag(tag) | ImageKey::Both(_, tag)) => Reference::Tag(tag),
            Err(failure) => return Ok(Err(failure)),
        };
        let repository = &match asking.repository_with(name, Part::Manifest(reference)).await {
            Ok(repository) => repository,
            Err(Absent::Nowhere) => return Ok(Err(id.not_found())),
            Err(absent) => return Err(asking.not_here(name, absent)),
        };
        let found = match self.resolve(repository, id).await? {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let media_type = &found.media_type;
        // Converting would change the digest; what is stored is what can be had.
        if !accepted.is_empty() && !accepted.iter().any(|accepted| accepted == media_type.as_str()) {
            let reason = format!("Requested image has the media type {media_type}, which is not accepted");
            return Ok(Err(id.failure("ImageNotFound", reason)));
        }
        let reference = Reference::Digest(found.digest);
        let manifest = match self.registry.manifest(repository, &reference).await {
            Ok(manifest) => manifest,
            Err(CoreError::ManifestNotFound) => return Ok(Err(id.not_found())),
            Err(error) => return Err(self.subject(&repository.name).error(error)),
        };
        self.registry.note_pull(repository, &manifest);
        let len = manifest.bytes.len();
        let tag = id.image_tag.as_deref().and_then(|tag| tag.parse().ok());
        let image =
            self.image(repository, &manifest.digest, tag.as_ref(), &manifest.media_type, &manifest.bytes);
        Ok(Ok((image, len)))
    }

    /// Stores a manifest. A request that changes nothing is `ImageAlreadyExistsException`, as in ECR.
    pub(super) async fn put_image(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: PutImageRequest = input::parse(input)?;
        let media_type = media_type(&request)?;
        let bytes = request.image_manifest.into_bytes();
        let digest = match request.image_digest {
            Some(digest) => {
                digest.parse().map_err(|_| invalid("imageDigest", "must be a sha256 or sha512 digest"))?
            }
            None => Digest::from_hash(Algorithm::Sha256, &Sha256::digest(&bytes)),
        };
        let tag: Option<Tag> =
            match request.image_tag {
                Some(tag) => Some(tag.parse().map_err(|error: registry_types::ParseTagError| {
                    invalid("imageTag", &error.to_string())
                })?),
                None => None,
            };
        let target = PushTarget::Existing(repository.clone());
        let push = ManifestPush {
            target: &target,
            reference: Reference::Digest(digest),
            tags: tag.iter().cloned().collect(),
            content_type: media_type.as_str(),
            bytes: bytes.into(),
        };
        let bytes = push.bytes.clone();
        match self.registry.put_manifest(push).await {
            Ok(pushed) if !pushed.changed => {
                Err(self.image_exists(&repository, &pushed.digest, tag.as_ref()))
            }
            Ok(pushed) => {
                let image = self.image(&repository, &pushed.digest, tag.as_ref(), &media_type, &bytes);
                Ok(json!({ "image": image }))
            }
            Err(CoreError::DigestMismatch { expected, actual }) => Err(AwsError::client(
                "ImageDigestDoesNotMatchException",
                format!("The digest '{expected}' does not match the manifest, whose digest is '{actual}'"),
            )),
            Err(error @ CoreError::ContentsMissing(_)) if media_type.is_index() => {
                let message = self.subject(&repository.name).error(error).message;
                Err(AwsError::client("ReferencedImagesNotFoundException", message))
            }
            Err(error) => Err(self.subject(&repository.name).error(error)),
        }
    }

    pub(super) async fn list_image_referrers(
        &self,
        asking: Asking<'_>,
        input: Value,
    ) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: ListImageReferrersRequest = input::parse(input)?;
        let subject = request.subject_id.image_digest.as_deref().unwrap_or_default();
        let subject: Digest = subject
            .parse()
            .map_err(|_| invalid("subjectId.imageDigest", "must be a sha256 or sha512 digest"))?;
        let limit = match request.max_results {
            None => MAX_REFERRERS,
            Some(asked) => u32::try_from(asked)
                .ok()
                .filter(|limit| (1..=MAX_REFERRERS).contains(limit))
                .ok_or_else(|| invalid("maxResults", "must be between 1 and 50"))?,
        };
        let after = request.next_token.as_deref().map_or_else(|| Ok(String::new()), page::decode)?;
        let types = &request.filter.artifact_types;
        if types.len() > MAX_ARTIFACT_TYPES {
            return Err(invalid("filter.artifactTypes", "must have at most 5 items"));
        }
        if matches!(request.filter.artifact_status.as_deref(), Some("ARCHIVED" | "ACTIVATING")) {
            return Ok(json!({ "referrers": [] }));
        }
        // One type is an index's business; several leave the page short, with a token.
        let only = if let [only] = types.as_slice() { Some(only.as_str()) } else { None };
        let found = self.registry.referrers(&repository, &subject, only, &after, limit).await;
        let mut found = found.map_err(|error| self.subject(&repository.name).error(error))?;
        if let Some(rule) = self.pull_through.rule(&repository.name) {
            let (name, existing) = (&repository.name, Some(&repository));
            let upstream = self.pull_through.referrers(&asking, &rule, name, existing, &subject);
            match Box::pin(upstream).await {
                Ok(Some(listed)) => found = found.merged(listed, only, &after, limit),
                // Whoever may not import reads what is here.
                Ok(None) => {}
                Err(error) => {
                    return Err(exception(error, &rule, "UnableToListUpstreamImageReferrersException"));
                }
            }
        }
        let wanted = |referrer: &&Referrer| {
            types.is_empty() || referrer.artifact_type.as_ref().is_some_and(|kind| types.contains(kind))
        };
        let referrers: Vec<Value> = found.items.iter().filter(wanted).map(referrer).collect();
        let mut answer = json!({ "referrers": referrers });
        if let Some(next) = found.next {
            answer["nextToken"] = page::encode(&next).into();
        }
        Ok(answer)
    }

    /// The shape `Image`.
    fn image(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: Option<&Tag>,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Value {
        json!({
            "registryId": self.access.account(),
            "repositoryName": repository.name,
            "imageId": ImageIdentifier::of(digest, tag),
            // Manifests are JSON, so they are UTF-8.
            "imageManifest": String::from_utf8_lossy(bytes),
            "imageManifestMediaType": media_type,
        })
    }

    fn image_exists(&self, repository: &Repository, digest: &Digest, tag: Option<&Tag>) -> AwsError {
        let tag = tag.map(|tag| format!(" and tag '{tag}'")).unwrap_or_default();
        AwsError::client(
            "ImageAlreadyExistsException",
            format!(
                "Image with digest '{digest}'{tag} already exists in the repository with name '{}' in registry \
                 with id '{}'",
                repository.name,
                self.access.account()
            ),
        )
    }
}

/// The media type that the request names, or that the manifest names itself.
fn media_type(request: &PutImageRequest) -> Result<MediaType, AwsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let named = match &request.image_manifest_media_type {
        Some(named) => Some(named.clone()),
        None => {
            serde_json::from_str::<Typed>(&request.image_manifest).ok().and_then(|typed| typed.media_type)
        }
    };
    let named = named.ok_or_else(|| {
        invalid("imageManifestMediaType", "must be given, as the manifest does not name its media type")
    })?;
    Ok(MediaType::from_content_type(&named))
}

fn referrer(referrer: &Referrer) -> Value {
    let mut shape = Map::new();
    shape.insert("digest".into(), json!(referrer.digest));
    shape.insert("mediaType".into(), json!(referrer.media_type));
    if let Some(kind) = &referrer.artifact_type {
        shape.insert("artifactType".into(), json!(kind));
    }
    shape.insert("size".into(), referrer.size.into());
    if !referrer.annotations.is_empty() {
        shape.insert("annotations".into(), json!(referrer.annotations));
    }
    shape.insert("artifactStatus".into(), "ACTIVE".into());
    Value::Object(shape)
}
