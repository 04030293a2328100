//! Manifests: read, pushed, deleted. Bytes leave exactly as they came.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use registry_core::{CoreError, ManifestPush, NearlyFull, PushedManifest};
use registry_types::{Digest, MediaType, Reference, RepositoryName, Tag};

use super::error::OciError;
use super::gate::Gate;
use super::operation::Operation;
use super::through::Read;
use super::uploads::stream;
use super::{Asked, CONTENT_DIGEST, Service, content_length, etag, is_unchanged, plain};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

impl Service {
    pub(super) async fn manifest(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        reference: Reference,
        asked: Asked<'_>,
    ) -> Result<Response, OciError> {
        match asked.operation {
            Operation::HeadManifest => self.head_manifest(gate, name, &reference, asked.headers).await,
            Operation::PutManifest => Box::pin(self.put_manifest(gate, name, reference, asked)).await,
            Operation::DeleteManifest => self.delete_manifest(gate, name, &reference).await,
            _ => self.get_manifest(gate, name, &reference, asked.headers).await,
        }
    }

    async fn head_manifest(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let readable = self.readable(gate, name, Read::Manifest(reference)).await?;
        let info = self.registry.manifest_info(&readable.repository, reference).await?;
        let mut response = if is_unchanged(headers, &info.digest) {
            not_modified(&info.digest, reference)
        } else {
            described(&info.digest, &info.media_type, info.size, reference, Body::empty())
        };
        readable.warn(&mut response);
        Ok(response)
    }

    async fn get_manifest(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let readable = self.readable(gate, name, Read::Manifest(reference)).await?;
        let manifest = self.registry.manifest(&readable.repository, reference).await?;
        let mut response = if is_unchanged(headers, &manifest.digest) {
            not_modified(&manifest.digest, reference)
        } else {
            self.registry.note_pull(&readable.repository, &manifest);
            let size = manifest.bytes.len() as u64;
            let body = Body::from(manifest.bytes);
            described(&manifest.digest, &manifest.media_type, size, reference, body)
        };
        readable.warn(&mut response);
        Ok(response)
    }

    async fn put_manifest(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        reference: Reference,
        asked: Asked<'_>,
    ) -> Result<Response, OciError> {
        let Asked { headers, query, body, .. } = asked;
        let target = gate.push_target(name).await?;
        let limits = &self.registry.config().limits;
        if query.all("tag").count() > limits.tags_per_push {
            return Err(CoreError::TooManyTags { limit: limits.tags_per_push }.into());
        }
        let tags: Vec<Tag> = query.all("tag").map(OciError::tag).collect::<Result<_, _>>()?;
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.ok_or_else(|| {
            OciError::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "the Content-Type is missing")
        })?;
        let limit = self.registry.config().limits.manifest_bytes;
        if content_length(headers).is_some_and(|declared| declared > limit as u64) {
            return Err(OciError::manifest_too_large(limit));
        }
        let bytes = self.registry.receive_manifest(stream(body)).await?;
        let push = ManifestPush { target: &target, reference, tags, content_type, bytes };
        let pushed = self.registry.put_manifest(push).await?;
        Ok(created(name, &pushed, query.get("tag").is_some()))
    }

    async fn delete_manifest(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Response, OciError> {
        let repository = gate.repository(name).await?;
        match reference {
            Reference::Tag(tag) => drop(self.registry.delete_tag(&repository, tag).await?),
            Reference::Digest(digest) => drop(self.registry.delete_manifest(&repository, digest).await?),
        }
        Ok((StatusCode::ACCEPTED, [(header::CONTENT_LENGTH, "0")]).into_response())
    }
}

fn described(
    digest: &Digest,
    media_type: &MediaType,
    length: u64,
    reference: &Reference,
    body: Body,
) -> Response {
    let headers = [
        (header::CONTENT_TYPE, plain(media_type.as_str())),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::ETAG, etag(digest)),
        (CONTENT_DIGEST, plain(digest.as_str())),
    ];
    let mut response = (StatusCode::OK, headers, body).into_response();
    note_caching(&mut response, reference);
    response
}

fn not_modified(digest: &Digest, reference: &Reference) -> Response {
    let headers = [(header::ETAG, etag(digest)), (CONTENT_DIGEST, plain(digest.as_str()))];
    let mut response = (StatusCode::NOT_MODIFIED, headers).into_response();
    note_caching(&mut response, reference);
    response
}

/// A digest always names the same bytes; a tag may move at any moment.
fn note_caching(response: &mut Response, reference: &Reference) {
    if matches!(reference, Reference::Digest(_)) {
        let value = HeaderValue::from_static("private, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
}

fn created(name: &RepositoryName, pushed: &PushedManifest, tags_asked: bool) -> Response {
    let headers = [
        (header::LOCATION, plain(&format!("/v2/{name}/manifests/{}", pushed.digest))),
        (header::CONTENT_LENGTH, HeaderValue::from_static("0")),
        (CONTENT_DIGEST, plain(pushed.digest.as_str())),
    ];
    let mut response = (StatusCode::CREATED, headers).into_response();
    if let Some(subject) = &pushed.subject {
        response.headers_mut().insert(OCI_SUBJECT, plain(subject.as_str()));
    }
    if tags_asked {
        let tags: Vec<&str> = pushed.tags.iter().map(Tag::as_str).collect();
        response.headers_mut().insert(OCI_TAG, plain(&tags.join(", ")));
    }
    if let Some(NearlyFull { prefix, hundredths }) = &pushed.nearly_full {
        // Distribution-spec, "Warnings".
        let whose = if prefix.is_empty() { "the registry" } else { prefix };
        let text = format!("299 - \"the quota of {whose} is {hundredths} percent full\"");
        response.headers_mut().insert(header::WARNING, plain(&text));
    }
    response
}
