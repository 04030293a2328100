//! The exceptions of Amazon ECR, and what each error of the use-cases is called there.

use registry_aws::AwsError;
use registry_core::CoreError;
use registry_types::{AccountId, RepositoryName, Tag};

/// Which repository an error speaks of, for the words of the exceptions.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) registry: &'a AccountId,
    pub(super) repository: &'a RepositoryName,
}

impl Subject<'_> {
    /// The exception for an error of a use-case. Trouble of our own is logged here, once.
    pub(super) fn error(self, error: CoreError) -> AwsError {
        let Self { registry, repository } = self;
        match error {
            CoreError::RepositoryNotFound => repository_not_found(registry.as_str(), repository),
            CoreError::RepositoryExists => AwsError::client(
                "RepositoryAlreadyExistsException",
                format!(
                    "The repository with name '{repository}' already exists in the registry with id '{registry}'"
                ),
            ),
            CoreError::RepositoryNotEmpty => AwsError::client(
                "RepositoryNotEmptyException",
                format!(
                    "The repository with name '{repository}' in registry with id '{registry}' cannot be deleted \
                     because it still contains images"
                ),
            ),
            CoreError::TooManyResourceTags { limit } => AwsError::client(
                "TooManyTagsException",
                format!("A repository may have at most {limit} tags"),
            ),
            CoreError::UploadNotFound => AwsError::client(
                "UploadNotFoundException",
                format!(
                    "The upload does not exist within the repository with name '{repository}' in the registry \
                     with id '{registry}'"
                ),
            ),
            CoreError::UploadBusy => {
                AwsError::client("InvalidLayerPartException", "Another request is writing this upload")
            }
            CoreError::OffsetMismatch { expected } => AwsError::client(
                "InvalidLayerPartException",
                format!("The layer part does not begin at byte {expected}, where the upload stands"),
            ),
            CoreError::SizeMismatch { declared, received } => AwsError::client(
                "InvalidLayerPartException",
                format!("The layer part has {received} bytes where the range has {declared}"),
            ),
            CoreError::DigestMismatch { expected, actual } => AwsError::client(
                "InvalidLayerException",
                format!(
                    "The digest '{expected}' does not match the uploaded content, whose digest is '{actual}'"
                ),
            ),
            CoreError::BodyInterrupted => {
                AwsError::client("InvalidLayerPartException", "The request's body ended early")
            }
            CoreError::BlobTooLarge { limit } => {
                AwsError::client("LimitExceededException", format!("A layer may have at most {limit} bytes"))
            }
            CoreError::BlobNotFound => AwsError::client(
                "LayersNotFoundException",
                format!(
                    "The layer does not exist within the repository with name '{repository}' in the registry \
                     with id '{registry}'"
                ),
            ),
            CoreError::ManifestNotFound | CoreError::TagNotFound => AwsError::client(
                "ImageNotFoundException",
                format!(
                    "The image does not exist within the repository with name '{repository}' in the registry \
                     with id '{registry}'"
                ),
            ),
            CoreError::ManifestInvalid(why) => AwsError::invalid_parameter(format!(
                "Invalid parameter at 'imageManifest' failed to satisfy constraint: '{why}'"
            )),
            CoreError::ManifestTooLarge { limit } => AwsError::invalid_parameter(format!(
                "Invalid parameter at 'imageManifest' failed to satisfy constraint: 'at most {limit} bytes'"
            )),
            CoreError::ContentsMissing(digests) => {
                let digests: Vec<String> = digests.iter().map(ToString::to_string).collect();
                AwsError::client(
                    "LayersNotFoundException",
                    format!(
                        "The following contents of the manifest do not exist within the repository with name \
                         '{repository}' in the registry with id '{registry}': {}",
                        digests.join(", ")
                    ),
                )
            }
            CoreError::TooManyTags { limit } => {
                AwsError::client("LimitExceededException", format!("At most {limit} tags can be set at once"))
            }
            CoreError::TooManyTagsOfImage { limit } => AwsError::client(
                "LimitExceededException",
                format!("An image may have at most {limit} tags in the repository with name '{repository}'"),
            ),
            CoreError::TagImmutable { tag, .. } => tag_immutable(repository, &tag),
            CoreError::ReferencedByIndex { index } => AwsError::client(
                "InvalidParameterException",
                format!("Requested image is referenced by manifest list: [{index}]"),
            ),
            CoreError::LifecyclePolicyInvalid(why) => AwsError::invalid_parameter(format!(
                "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy \
                 validation failure: {why}'"
            )),
            CoreError::LifecyclePolicyNotFound => AwsError::client(
                "LifecyclePolicyNotFoundException",
                format!(
                    "Lifecycle policy does not exist for the repository with name '{repository}' in the registry \
                     with id '{registry}'"
                ),
            ),
            CoreError::LifecyclePreviewInProgress => AwsError::client(
                "LifecyclePolicyPreviewInProgressException",
                format!(
                    "A lifecycle policy preview is in progress for the repository with name '{repository}' in the \
                     registry with id '{registry}'"
                ),
            ),
            CoreError::LifecyclePreviewNotFound => AwsError::client(
                "LifecyclePolicyPreviewNotFoundException",
                format!(
                    "Lifecycle policy preview does not exist for the repository with name '{repository}' in the \
                     registry with id '{registry}'"
                ),
            ),
            error @ CoreError::QuotaExceeded { .. } => {
                let message = error.to_string();
                AwsError::client("LimitExceededException", format!("Not stored: {message}"))
            }
            CoreError::Full(source) => {
                tracing::error!(error = %source, "no space is left");
                AwsError::client("LimitExceededException", "The server has no space left")
            }
            CoreError::Unavailable(source) => unavailable(&source),
            CoreError::Damaged { digest } => AwsError::new(
                500,
                "ServerException",
                format!("The stored content {digest} is damaged. Pushing the same content again heals it."),
            ),
            CoreError::Internal(source) => internal(&source),
        }
    }
}

/// The exception for an error that speaks of no repository: only our own trouble can be the cause.
pub(super) fn registry_error(error: CoreError) -> AwsError {
    if let CoreError::Unavailable(source) = error { unavailable(&source) } else { internal(&error) }
}

fn unavailable(source: &dyn std::fmt::Display) -> AwsError {
    tracing::warn!(error = %source, "an ECR operation cannot be served at the moment");
    AwsError::unavailable("The server cannot do this at the moment. Try again.")
}

fn internal(source: &dyn std::fmt::Display) -> AwsError {
    tracing::error!(error = %source, "an ECR operation failed");
    AwsError::server()
}

/// `registry` is the id that the request named, which need not be the home registry's.
pub(super) fn repository_not_found(registry: &str, repository: &RepositoryName) -> AwsError {
    AwsError::client(
        "RepositoryNotFoundException",
        format!(
            "The repository with name '{repository}' does not exist in the registry with id '{registry}'"
        ),
    )
}

fn tag_immutable(repository: &RepositoryName, tag: &Tag) -> AwsError {
    AwsError::client(
        "ImageTagAlreadyExistsException",
        format!(
            "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten \
             because the tag is immutable."
        ),
    )
}

/// The form that ECR gives to members that break their constraint.
pub(super) fn invalid(member: &str, constraint: &str) -> AwsError {
    AwsError::invalid_parameter(format!(
        "Invalid parameter at '{member}' failed to satisfy constraint: '{constraint}'"
    ))
}
