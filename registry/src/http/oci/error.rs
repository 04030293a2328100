//! What goes wrong, as the OCI protocol says it: a status and a list of codes.
//!
//! The one place where the core's errors become answers. Nothing internal leaves the process: the causes of
//! the server's own failures are logged here, once.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use registry_core::CoreError;
use registry_types::{Digest, ParseNameError, ParseReferenceError, Reference, Tag};
use serde_json::{Value, json};

use super::plain;

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct OciError {
    status: StatusCode,
    entries: Vec<Entry>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
struct Entry {
    code: &'static str,
    message: String,
    detail: Value,
}

impl OciError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::detailed(status, code, message, Value::Null)
    }

    fn detailed(status: StatusCode, code: &'static str, message: impl Into<String>, detail: Value) -> Self {
        let entry = Entry { code, message: message.into(), detail };
        Self { status, entries: vec![entry], headers: Vec::new() }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same refusal with another reason.
    pub(super) fn because(mut self, message: String) -> Self {
        for entry in &mut self.entries {
            entry.message.clone_from(&message);
        }
        self
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(super) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "the registry has no such path")
    }

    /// RFC 9110 15.5.6: the answer names the methods that the path does know.
    pub(super) fn method<'a>(known: impl Iterator<Item = &'a Method>) -> Self {
        let known: Vec<&str> = known.map(Method::as_str).collect();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the path does not know this method")
            .with_header(header::ALLOW, plain(&known.join(", ")))
    }

    pub(super) fn name(error: ParseNameError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", error.to_string())
    }

    pub(super) fn name_format() -> Self {
        Self::name(ParseNameError::Format)
    }

    /// A digest of a path or parameter.
    pub(super) fn digest(text: &str) -> Result<Digest, Self> {
        text.parse().map_err(|error: registry_types::ParseDigestError| {
            Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
        })
    }

    pub(super) fn digest_missing() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the parameter digest is missing")
    }

    /// A tag or digest of a path.
    pub(super) fn reference(text: &str) -> Result<Reference, Self> {
        text.parse().map_err(|error| match error {
            ParseReferenceError::Tag(error) => {
                Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string())
            }
            ParseReferenceError::Digest(error) => {
                Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
            }
        })
    }

    /// A tag of a parameter.
    pub(super) fn tag(text: &str) -> Result<Tag, Self> {
        text.parse().map_err(|error: registry_types::ParseTagError| {
            Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string())
        })
    }

    pub(super) fn page_size() -> Self {
        let message = "n must be a whole number from 0 up";
        Self::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message)
    }

    pub(super) fn content_range() -> Self {
        let message = "Content-Range must be written START-END";
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn size(declared: u64, received: u64) -> Self {
        let message = format!("{received} bytes were sent where {declared} were declared");
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message)
    }

    pub(super) fn manifest_too_large(limit: usize) -> Self {
        let message = format!("a manifest has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    pub(super) fn repository_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "the repository does not exist")
    }

    pub(super) fn too_many_requests(wait: Duration) -> Self {
        let message = "there were too many requests; wait as Retry-After says";
        let seconds = wait.as_secs() + 1;
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn unavailable() -> Self {
        let message = "the registry cannot do this at the moment; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS", message)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

impl From<CoreError> for OciError {
    fn from(error: CoreError) -> Self {
        let message = error.to_string();
        match error {
            CoreError::RepositoryNotFound => Self::repository_unknown(),
            CoreError::UploadNotFound => Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message),
            // Its holder may have died: then the hold has run out after a few tries.
            CoreError::UploadBusy => Self::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", message)
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("5")),
            CoreError::OffsetMismatch { .. } => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
            }
            CoreError::SizeMismatch { declared, received } => Self::size(declared, received),
            CoreError::DigestMismatch { expected, actual } => {
                let detail = json!({ "expected": expected, "actual": actual });
                Self::detailed(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message, detail)
            }
            CoreError::BodyInterrupted => Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message),
            CoreError::BlobTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
            }
            CoreError::BlobNotFound => Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message),
            CoreError::ManifestNotFound | CoreError::TagNotFound => {
                Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
            }
            CoreError::ManifestInvalid(_) => Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message),
            CoreError::ManifestTooLarge { limit } => Self::manifest_too_large(limit),
            CoreError::ContentsMissing(digests) => Self::contents_missing(&digests),
            CoreError::LifecyclePolicyInvalid(_)
            | CoreError::LifecyclePolicyNotFound
            | CoreError::LifecyclePreviewInProgress
            | CoreError::LifecyclePreviewNotFound => {
                Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
            }
            CoreError::QuotaExceeded { .. } | CoreError::TooManyTagsOfImage { .. } => {
                Self::new(StatusCode::FORBIDDEN, "DENIED", message)
            }
            CoreError::TooManyTags { .. } => Self::new(StatusCode::URI_TOO_LONG, "TAG_INVALID", message),
            CoreError::TagImmutable { .. } | CoreError::ReferencedByIndex { .. } => {
                Self::new(StatusCode::CONFLICT, "DENIED", message)
            }
            CoreError::Full(_) => {
                tracing::error!(error = %error, "a push was refused");
                let message = "the registry has no space left";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "TOOMANYREQUESTS", message)
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("60"))
            }
            CoreError::Unavailable(ref source) => {
                tracing::warn!(error = %error, cause = %source, "a request was put off");
                Self::unavailable()
            }
            // Met only by a push that loses a race; the client's next try finds a settled state.
            CoreError::RepositoryExists => Self::unavailable(),
            CoreError::Damaged { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "BLOB_UNKNOWN", message)
            }
            CoreError::RepositoryNotEmpty
            | CoreError::TooManyResourceTags { .. }
            | CoreError::Internal(_) => {
                tracing::error!(error = %error, cause = ?error, "a request failed");
                let message = "the registry failed; its log says why";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNSUPPORTED", message)
            }
        }
    }
}

impl OciError {
    fn contents_missing(digests: &[Digest]) -> Self {
        let entry = |digest: &Digest| Entry {
            code: "MANIFEST_BLOB_UNKNOWN",
            message: format!("the repository does not hold {digest}"),
            detail: json!({ "digest": digest }),
        };
        let entries = digests.iter().map(entry).collect();
        Self { status: StatusCode::BAD_REQUEST, entries, headers: Vec::new() }
    }
}

impl IntoResponse for OciError {
    fn into_response(self) -> Response {
        let entries: Vec<Value> = self
            .entries
            .into_iter()
            .map(|entry| match entry.detail {
                Value::Null => json!({ "code": entry.code, "message": entry.message }),
                detail => json!({ "code": entry.code, "message": entry.message, "detail": detail }),
            })
            .collect();
        let body = json!({ "errors": entries }).to_string();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode, header};
    use registry_core::{Bound, CoreError, Source};
    use registry_types::{Algorithm, Digest, ParseNameError};

    use super::OciError;

    /// Those of the specification, and the two that Docker's own registry has beside them.
    const CODES: [&str; 16] = [
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DENIED",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "PAGINATION_NUMBER_INVALID",
        "SIZE_INVALID",
        "TAG_INVALID",
        "TOOMANYREQUESTS",
        "UNAUTHORIZED",
        "UNSUPPORTED",
    ];

    /// Everything that a request can be refused with.
    fn all() -> Vec<OciError> {
        let digest = Digest::from_hash(Algorithm::Sha256, &[0; 32]);
        let source = || -> Source { "a detail that is nobody's business".into() };
        let tag = || "v1".parse().unwrap();
        let of_core = [
            CoreError::RepositoryNotFound,
            CoreError::RepositoryExists,
            CoreError::RepositoryNotEmpty,
            CoreError::TooManyResourceTags { limit: 1 },
            CoreError::UploadNotFound,
            CoreError::UploadBusy,
            CoreError::OffsetMismatch { expected: 1 },
            CoreError::SizeMismatch { declared: 1, received: 2 },
            CoreError::DigestMismatch { expected: digest.clone(), actual: digest.clone() },
            CoreError::BodyInterrupted,
            CoreError::BlobTooLarge { limit: 1 },
            CoreError::BlobNotFound,
            CoreError::ManifestNotFound,
            CoreError::TagNotFound,
            CoreError::ManifestInvalid("why".to_owned()),
            CoreError::ManifestTooLarge { limit: 1 },
            CoreError::ContentsMissing(vec![digest.clone(), digest.clone()]),
            CoreError::TooManyTags { limit: 1 },
            CoreError::TooManyTagsOfImage { limit: 1 },
            CoreError::TagImmutable { tag: tag(), digest: digest.clone() },
            CoreError::ReferencedByIndex { index: digest.clone() },
            CoreError::LifecyclePolicyNotFound,
            CoreError::LifecyclePreviewInProgress,
            CoreError::LifecyclePreviewNotFound,
            CoreError::QuotaExceeded { prefix: String::new(), bound: Bound::Images(1) },
            CoreError::Full(source()),
            CoreError::Unavailable(source()),
            CoreError::Damaged { digest },
            CoreError::Internal(source()),
        ];
        let of_requests = [
            OciError::no_such_path(),
            OciError::method([Method::GET].iter()),
            OciError::name(ParseNameError::Format),
            OciError::digest("sha256:x").unwrap_err(),
            OciError::digest_missing(),
            OciError::reference("-x").unwrap_err(),
            OciError::reference("sha256:x").unwrap_err(),
            OciError::tag("-x").unwrap_err(),
            OciError::page_size(),
            OciError::content_range(),
            OciError::size(1, 2),
            OciError::manifest_too_large(1),
            OciError::repository_unknown(),
            OciError::too_many_requests(Duration::from_millis(1)),
            OciError::unavailable(),
        ];
        of_core.into_iter().map(OciError::from).chain(of_requests).collect()
    }

    #[test]
    fn every_refusal_has_a_code_of_the_specification_and_no_inner_detail() {
        for error in all() {
            assert!(!error.entries.is_empty());
            for entry in &error.entries {
                assert!(CODES.contains(&entry.code), "{error:?}");
                assert!(
                    !entry.message.is_empty() && !entry.message.contains("nobody's business"),
                    "{error:?}"
                );
            }
        }
    }

    #[test]
    fn whoever_is_to_come_again_is_told_when() {
        for error in all() {
            let says_when = error.headers.iter().any(|(name, _)| name == header::RETRY_AFTER);
            let is_passing = matches!(
                error.status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::INSUFFICIENT_STORAGE
            ) || (error.status == StatusCode::CONFLICT
                && error.entries[0].code == "BLOB_UPLOAD_INVALID");
            assert_eq!(says_when, is_passing, "{error:?}");
        }
    }
}
