//! Images: listed, described, deleted. An image is a manifest with the tags that point at it.

use registry_aws::{AwsError, page, timestamp};
use registry_core::{CoreError, Image, ManifestInfo, Repository};
use registry_types::{Digest, Reference, Tag};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::invalid;
use super::input::{ImageFailure, ImageIdentifier, ImageKey, Paging};
use super::{Ecr, input, scanning};

/// Rows that one page examines at most; a filter may leave the page short or empty, with a token.
const ROWS: u32 = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListRequest {
    #[serde(flatten)]
    paging: Paging,
    #[serde(default)]
    filter: Filter,
    image_ids: Option<Vec<ImageIdentifier>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    tag_status: Option<String>,
    image_status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchDeleteImageRequest {
    image_ids: Vec<ImageIdentifier>,
}

/// Which images a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    All,
    Tagged,
    Untagged,
    /// Nothing is ever archived here.
    None,
}

impl Filter {
    fn parse(&self) -> Result<Shown, AwsError> {
        let archived = match self.image_status.as_deref() {
            None | Some("ACTIVE" | "ANY") => false,
            Some("ARCHIVED" | "ACTIVATING") => true,
            Some(_) => {
                return Err(invalid(
                    "filter.imageStatus",
                    "must be one of [ACTIVE, ARCHIVED, ACTIVATING, ANY]",
                ));
            }
        };
        let shown = match self.tag_status.as_deref() {
            None | Some("ANY") => Shown::All,
            Some("TAGGED") => Shown::Tagged,
            Some("UNTAGGED") => Shown::Untagged,
            Some(_) => return Err(invalid("filter.tagStatus", "must be one of [TAGGED, UNTAGGED, ANY]")),
        };
        Ok(if archived { Shown::None } else { shown })
    }
}

impl Shown {
    /// Rows that a page of `limit` entries examines.
    fn rows(self, limit: u32) -> u32 {
        match self {
            Self::All => limit,
            Self::Tagged | Self::Untagged | Self::None => ROWS,
        }
    }

    fn shows(self, image: &Image) -> bool {
        match self {
            Self::All => true,
            Self::Tagged => !image.tags.is_empty(),
            Self::Untagged => image.tags.is_empty(),
            Self::None => false,
        }
    }
}

/// Where a listing of identifiers stands: after all of an image, or after one of its tags.
struct Position {
    digest: String,
    tag: Option<String>,
}

impl Position {
    fn decode(cursor: &str) -> Self {
        let (digest, tag) =
            cursor.split_once(' ').map_or((cursor, None), |(digest, tag)| (digest, Some(tag)));
        Self { digest: digest.to_owned(), tag: tag.map(str::to_owned) }
    }

    fn token(digest: &Digest, tag: Option<&Tag>) -> String {
        page::encode(&match tag {
            Some(tag) => format!("{digest} {tag}"),
            None => digest.to_string(),
        })
    }
}

/// The identifiers of one page, and whether there is room for more.
struct Identifiers {
    listed: Vec<ImageIdentifier>,
    limit: usize,
}

impl Identifiers {
    /// Adds an image's identifiers after `after`; gives the token to go on with when the page is full.
    fn add(&mut self, image: &Image, after: Option<&str>) -> Option<String> {
        let digest = &image.manifest.digest;
        let mut last = after.and_then(|tag| tag.parse::<Tag>().ok());
        if image.tags.is_empty() && after.is_none() {
            self.listed.push(ImageIdentifier::of(digest, None));
        }
        for tag in image.tags.iter().filter(|tag| after.is_none_or(|after| tag.as_str() > after)) {
            if self.listed.len() == self.limit {
                return last.as_ref().map(|last| Position::token(digest, Some(last)));
            }
            self.listed.push(ImageIdentifier::of(digest, Some(tag)));
            last = Some(tag.clone());
        }
        None
    }

    fn is_full(&self) -> bool {
        self.listed.len() >= self.limit
    }

    fn answer(self, next: Option<String>) -> Value {
        with_token(json!({ "imageIds": self.listed }), next)
    }
}

impl Ecr {
    pub(super) async fn list_images(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: ListRequest = input::parse(input)?;
        let (shown, limit) = (request.filter.parse()?, request.paging.limit()?);
        let mut page = Identifiers { listed: Vec::new(), limit: limit as usize };
        let position = Position::decode(&request.paging.cursor()?);
        let mut last = position.digest;
        if let Some(tag) = position.tag {
            // The page before ended among this image's tags.
            if let Ok(digest) = last.parse()
                && let Some(image) = self.image_by_digest(&repository, &digest).await?
                && let Some(next) = page.add(&image, Some(&tag))
            {
                return Ok(page.answer(Some(next)));
            }
        }
        let rows = self.registry.images(&repository, &last, shown.rows(limit)).await;
        let rows = rows.map_err(|error| self.subject(&repository.name).error(error))?;
        for image in &rows.items {
            if shown.shows(image) {
                if page.is_full() {
                    return Ok(page.answer(Some(page::encode(&last))));
                }
                if let Some(next) = page.add(image, None) {
                    return Ok(page.answer(Some(next)));
                }
            }
            last = image.manifest.digest.to_string();
        }
        Ok(page.answer(rows.next.map(|next| page::encode(&next))))
    }

    pub(super) async fn describe_images(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: ListRequest = input::parse(input)?;
        let Some(ids) = request.image_ids else {
            return self.describe_all_images(&repository, &request).await;
        };
        input::check_batch("imageIds", ids.len())?;
        if !request.paging.is_absent() {
            return Err(invalid("imageIds", "cannot be used with maxResults or nextToken"));
        }
        let mut described: Vec<Image> = Vec::with_capacity(ids.len());
        let mut tags = 0;
        for id in &ids {
            let Ok(manifest) = self.resolve(&repository, id).await? else {
                return Err(self.image_not_found(&repository, id));
            };
            if described.iter().any(|image| image.manifest.digest == manifest.digest) {
                continue;
            }
            if tags > self.most_tags() {
                return Err(AwsError::client(
                    "LimitExceededException",
                    "The images have more tags than one answer may hold: ask for fewer images at once",
                ));
            }
            match self.image_by_digest(&repository, &manifest.digest).await? {
                Some(image) => {
                    tags += image.tags.len();
                    described.push(image);
                }
                None => return Err(self.image_not_found(&repository, id)),
            }
        }
        let details: Vec<Value> =
            described.iter().map(|image| self.image_detail(&repository, image)).collect();
        Ok(json!({ "imageDetails": details }))
    }

    async fn describe_all_images(
        &self,
        repository: &Repository,
        request: &ListRequest,
    ) -> Result<Value, AwsError> {
        let (shown, limit) = (request.filter.parse()?, request.paging.limit()?);
        let mut last = Position::decode(&request.paging.cursor()?).digest;
        let rows = self.registry.images(repository, &last, shown.rows(limit)).await;
        let rows = rows.map_err(|error| self.subject(&repository.name).error(error))?;
        let mut details = Vec::new();
        for image in &rows.items {
            if shown.shows(image) {
                if details.len() == limit as usize {
                    return Ok(with_token(json!({ "imageDetails": details }), Some(page::encode(&last))));
                }
                details.push(self.image_detail(repository, image));
            }
            last = image.manifest.digest.to_string();
        }
        Ok(with_token(json!({ "imageDetails": details }), rows.next.map(|next| page::encode(&next))))
    }

    /// Deleting an image's last tag deletes the image; deleting a digest deletes all its tags.
    pub(super) async fn batch_delete_image(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: BatchDeleteImageRequest = input::parse(input)?;
        input::check_batch("imageIds", request.image_ids.len())?;
        let (mut deleted, mut failures) = (Vec::new(), Vec::new());
        for id in &request.image_ids {
            if deleted.len() > self.most_tags() {
                let reason = "The answer is full: nothing was done about this image; ask for it again";
                failures.push(id.failure("LimitExceeded", reason));
                continue;
            }
            match self.delete_image(&repository, id).await? {
                Ok(gone) => deleted.extend(gone),
                Err(failure) => failures.push(failure),
            }
        }
        Ok(json!({ "imageIds": deleted, "failures": failures }))
    }

    async fn delete_image(
        &self,
        repository: &Repository,
        id: &ImageIdentifier,
    ) -> Result<Result<Vec<ImageIdentifier>, ImageFailure>, AwsError> {
        let gone = match id.key() {
            Err(failure) => return Ok(Err(failure)),
            Ok(ImageKey::Digest(digest)) => self
                .registry
                .delete_manifest(repository, &digest)
                .await
                .map(|tags| identifiers(&digest, &tags)),
            Ok(ImageKey::Tag(tag)) => self.untag(repository, &tag).await,
            Ok(ImageKey::Both(_, tag)) => match self.resolve(repository, id).await? {
                Err(failure) => return Ok(Err(failure)),
                Ok(_) => self.untag(repository, &tag).await,
            },
        };
        match gone {
            Ok(gone) => Ok(Ok(gone)),
            Err(CoreError::ManifestNotFound | CoreError::TagNotFound) => Ok(Err(id.not_found())),
            Err(CoreError::ReferencedByIndex { index }) => Ok(Err(id.failure(
                "ImageReferencedByManifestList",
                format!("Requested image referenced by manifest list: [{index}]"),
            ))),
            Err(error) => Err(self.subject(&repository.name).error(error)),
        }
    }

    /// Tags that one answer about images that were asked for may have, beside those of its last image.
    fn most_tags(&self) -> usize {
        self.registry.config().limits.tags_per_image as usize
    }

    async fn untag(&self, repository: &Repository, tag: &Tag) -> Result<Vec<ImageIdentifier>, CoreError> {
        let untagged = self.registry.untag_image(repository, tag).await?;
        Ok(vec![ImageIdentifier::of(&untagged.digest, Some(tag))])
    }

    /// The manifest that an identifier names, or why there is none.
    pub(super) async fn resolve(
        &self,
        repository: &Repository,
        id: &ImageIdentifier,
    ) -> Result<Result<ManifestInfo, ImageFailure>, AwsError> {
        let (reference, digest) = match id.key() {
            Err(failure) => return Ok(Err(failure)),
            Ok(ImageKey::Digest(digest)) => (Reference::Digest(digest), None),
            Ok(ImageKey::Tag(tag)) => (Reference::Tag(tag), None),
            Ok(ImageKey::Both(digest, tag)) => (Reference::Tag(tag), Some(digest)),
        };
        match self.registry.manifest_info(repository, &reference).await {
            Ok(manifest) if digest.is_some_and(|digest| digest != manifest.digest) => {
                Ok(Err(id.tag_elsewhere()))
            }
            Ok(manifest) => Ok(Ok(manifest)),
            Err(CoreError::ManifestNotFound | CoreError::TagNotFound) => Ok(Err(id.not_found())),
            Err(error) => Err(self.subject(&repository.name).error(error)),
        }
    }

    async fn image_by_digest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Image>, AwsError> {
        match self.registry.image(repository, &Reference::Digest(digest.clone())).await {
            Ok(image) => Ok(Some(image)),
            Err(CoreError::ManifestNotFound) => Ok(None),
            Err(error) => Err(self.subject(&repository.name).error(error)),
        }
    }

    fn image_not_found(&self, repository: &Repository, id: &ImageIdentifier) -> AwsError {
        AwsError::client(
            "ImageNotFoundException",
            format!(
                "The image with imageId {} does not exist within the repository with name '{}' in the registry \
                 with id '{}'",
                id.text(),
                repository.name,
                self.access.account()
            ),
        )
    }

    /// The shape `ImageDetail`.
    fn image_detail(&self, repository: &Repository, image: &Image) -> Value {
        let manifest = &image.manifest;
        let mut shape = Map::new();
        shape.insert("registryId".into(), json!(self.access.account()));
        shape.insert("repositoryName".into(), json!(repository.name));
        shape.insert("imageDigest".into(), json!(manifest.digest));
        if !image.tags.is_empty() {
            shape.insert("imageTags".into(), json!(image.tags));
        }
        shape.insert("imageSizeInBytes".into(), manifest.image_size.into());
        shape.insert("imagePushedAt".into(), timestamp::epoch_seconds(manifest.pushed_at_ms));
        shape.insert("imageManifestMediaType".into(), json!(manifest.media_type));
        if let Some(artifact) = manifest.artifact_type.as_ref().or(manifest.config_media_type.as_ref()) {
            shape.insert("artifactMediaType".into(), json!(artifact));
        }
        if let Some(pulled_at_ms) = manifest.last_pulled_at_ms {
            shape.insert("lastRecordedPullTime".into(), timestamp::epoch_seconds(pulled_at_ms));
        }
        if let Some(subject) = &manifest.subject {
            shape.insert("subjectManifestDigest".into(), json!(subject));
        }
        if repository.scan_on_push {
            shape.insert("imageScanStatus".into(), scanning::not_in_effect());
        }
        shape.insert("imageStatus".into(), "ACTIVE".into());
        Value::Object(shape)
    }
}

/// What deleting a digest removed: one entry for each tag, or the digest alone.
fn identifiers(digest: &Digest, tags: &[Tag]) -> Vec<ImageIdentifier> {
    if tags.is_empty() {
        return vec![ImageIdentifier::of(digest, None)];
    }
    tags.iter().map(|tag| ImageIdentifier::of(digest, Some(tag))).collect()
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    answer
}
