//! Blobs: looked at, read whole or in part, unlinked.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use registry_core::{BlobStream, CoreError};
use registry_types::{Digest, RepositoryName};
use thiserror::Error;

use super::content_range::{Part, of_download};
use super::error::OciError;
use super::gate::{Gate, Guard};
use super::operation::Operation;
use super::through::Read;
use super::{CONTENT_DIGEST, Service, etag, is_unchanged, plain};

/// Content never changes under its digest.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

impl Service {
    pub(super) async fn blob(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        digest: &Digest,
        operation: Operation,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        match operation {
            Operation::HeadBlob => self.head_blob(gate, name, digest, headers).await,
            Operation::DeleteBlob => self.delete_blob(gate, name, digest).await,
            _ => self.get_blob(gate, name, digest, headers).await,
        }
    }

    async fn head_blob(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let repository = self.readable(gate, name, Read::Blob(digest)).await?.repository;
        let info = self.registry.blob_info(&repository, digest).await?;
        if is_unchanged(headers, digest) {
            return Ok(not_modified(digest));
        }
        Ok(described(StatusCode::OK, digest, info.size, Body::empty()))
    }

    async fn get_blob(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let repository = self.readable(gate, name, Read::Blob(digest)).await?.repository;
        if is_unchanged(headers, digest) {
            self.registry.blob_info(&repository, digest).await?;
            return Ok(not_modified(digest));
        }
        let blob = self.registry.blob(&repository, digest).await?;
        let size = blob.size();
        match of_download(headers, size, digest) {
            Part::Whole => {
                let body = guarded(gate.guard(&repository), blob.read(0..size).await?);
                Ok(described(StatusCode::OK, digest, size, body))
            }
            Part::One(range) => {
                let content_range = plain(&format!("bytes {}-{}/{size}", range.start, range.end - 1));
                let length = range.end - range.start;
                let body = guarded(gate.guard(&repository), blob.read(range).await?);
                let mut response = described(StatusCode::PARTIAL_CONTENT, digest, length, body);
                response.headers_mut().insert(header::CONTENT_RANGE, content_range);
                Ok(response)
            }
            Part::Unsatisfiable => {
                let message = "the range lies outside the blob";
                let error = OciError::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message);
                Err(error.with_header(header::CONTENT_RANGE, plain(&format!("bytes */{size}"))))
            }
        }
    }

    async fn delete_blob(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Response, OciError> {
        let repository = gate.repository(name).await?;
        self.registry.delete_blob(&repository, digest).await?;
        Ok((StatusCode::ACCEPTED, [(header::CONTENT_LENGTH, "0")]).into_response())
    }
}

/// The bytes, until they end or the right to them does. hyper closes the connection of a body that breaks
/// off, so a client never takes the part for the whole.
fn guarded(mut guard: Guard, bytes: BlobStream) -> Body {
    Body::from_stream(bytes.map(move |piece| {
        let piece = piece.map_err(BrokenOff::Server)?;
        if guard.holds() { Ok(piece) } else { Err(BrokenOff::Revoked) }
    }))
}

/// Why an answer ended before its end.
#[derive(Debug, Error)]
enum BrokenOff {
    #[error(transparent)]
    Server(CoreError),
    #[error("the right to read was revoked")]
    Revoked,
}

fn described(status: StatusCode, digest: &Digest, length: u64, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CACHE_CONTROL, IMMUTABLE),
        (header::ETAG, etag(digest)),
        (CONTENT_DIGEST, plain(digest.as_str())),
    ];
    (status, headers, body).into_response()
}

fn not_modified(digest: &Digest) -> Response {
    let headers = [
        (header::CACHE_CONTROL, IMMUTABLE),
        (header::ETAG, etag(digest)),
        (CONTENT_DIGEST, plain(digest.as_str())),
    ];
    (StatusCode::NOT_MODIFIED, headers).into_response()
}
