//! Uploads: begun, filled, ended.
//!
//! Locations are relative, so that they hold behind every name and proxy. Errors that leave a session alive
//! say where it stands.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use registry_core::{BodyError, CoreError, NewUpload, PushTarget, Repository, UploadStatus, UploadUid};
use registry_types::{Algorithm, Digest, RepositoryName};

use super::content_range::of_upload;
use super::error::OciError;
use super::gate::{Gate, Guard};
use super::mount::Wish;
use super::operation::{Operation, action};
use super::{Asked, CONTENT_DIGEST, Service, content_length, plain};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Service {
    /// POST: `?mount=` and `?from=`, `?digest=` with the whole blob, or a new session.
    pub(super) async fn post_upload(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        mount: Option<Wish>,
        asked: Asked<'_>,
    ) -> Result<Response, OciError> {
        let Asked { headers, query, body, .. } = asked;
        mount.as_ref().map_or(Ok(()), |wish| gate.check_mount_scope(wish))?;
        let target = gate.push_target(name).await?;
        if let Some(wish) = mount
            && self.try_mount(gate, &target, &wish).await?
        {
            return Ok(created(name, &wish.digest));
        }
        let digest = query.get("digest").map(OciError::digest).transpose()?;
        let algorithm = match (query.get("digest-algorithm"), &digest) {
            (Some(text), _) => text.parse().map_err(|error: registry_types::ParseDigestError| {
                OciError::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
            })?,
            (None, Some(digest)) => digest.algorithm(),
            (None, None) => Algorithm::Sha256,
        };
        let new = NewUpload { target: &target, principal: gate.principal(), algorithm };
        let Some(digest) = digest else {
            let status = self.registry.start_upload(new).await?;
            return Ok(session(StatusCode::ACCEPTED, name, &status));
        };
        let existing = match &target {
            PushTarget::Existing(repository) => Some(repository),
            PushTarget::New(_) => None,
        };
        gate.allow_action(action::UPLOAD_LAYER_PART, name, existing)?;
        gate.allow_action(action::COMPLETE_UPLOAD, name, existing)?;
        self.check_body(name, headers).await?;
        let body = match existing {
            Some(repository) => guarded(gate.guard(repository), body),
            None => stream(body),
        };
        match self.registry.upload_whole(new, body, &digest).await {
            Ok(finished) => Ok(created(name, &finished.digest)),
            Err(error) => {
                refuse_revoked(gate, name, existing, &error)?;
                Err(error.into())
            }
        }
    }

    /// What is done to a session.
    pub(super) async fn upload(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        uid: String,
        asked: Asked<'_>,
    ) -> Result<Response, OciError> {
        let Asked { operation, headers, query, body } = asked;
        let repository = gate.repository(name).await?;
        let uid = UploadUid::new(uid);
        let principal = gate.principal();
        match operation {
            Operation::DeleteUpload => {
                self.registry.cancel_upload(&repository, &uid, principal).await?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            Operation::PatchUpload => {
                self.check_body(name, headers).await?;
                let range = of_upload(headers, content_length(headers))?;
                let body = guarded(gate.guard(&repository), body);
                match self.registry.append_upload(&repository, &uid, principal, range, body).await {
                    Ok(status) => Ok(session(StatusCode::ACCEPTED, name, &status)),
                    Err(error) => {
                        refuse_revoked(gate, name, Some(&repository), &error)?;
                        Err(still_alive(name, &uid, error))
                    }
                }
            }
            Operation::PutUpload => {
                let digest = query.get("digest").ok_or_else(OciError::digest_missing)?;
                let digest = OciError::digest(digest)?;
                self.check_body(name, headers).await?;
                let range = of_upload(headers, content_length(headers))?;
                let body = guarded(gate.guard(&repository), body);
                let finished =
                    self.registry.finish_upload(&repository, &uid, principal, range, body, &digest).await;
                match finished {
                    Ok(finished) => Ok(created(name, &finished.digest)),
                    Err(error) => {
                        refuse_revoked(gate, name, Some(&repository), &error)?;
                        Err(still_alive(name, &uid, error))
                    }
                }
            }
            _ => {
                let status = self.registry.upload_status(&repository, &uid, principal).await?;
                Ok(session(StatusCode::NO_CONTENT, name, &status))
            }
        }
    }

    /// Refuses by its head a body that could not be kept. Bytes are stored as they come, so a coding would
    /// become part of the content.
    async fn check_body(&self, name: &RepositoryName, headers: &HeaderMap) -> Result<(), OciError> {
        if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            let message = "content is stored as it is sent: send it without Content-Encoding";
            return Err(OciError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED", message));
        }
        let limit = self.registry.config().limits.blob_bytes;
        let declared = content_length(headers).unwrap_or(0);
        if declared > limit {
            return Err(CoreError::BlobTooLarge { limit }.into());
        }
        Ok(self.registry.check_room(name, declared).await?)
    }
}

/// A request's body as the core takes it.
pub(super) fn stream(body: Body) -> registry_core::Body {
    Box::pin(body.into_data_stream().map(|chunk| chunk.map_err(|_| BodyError)))
}

/// The same for as long as the right to send it lasts.
fn guarded(mut guard: Guard, body: Body) -> registry_core::Body {
    Box::pin(
        stream(body)
            .map(move |chunk| chunk.and_then(|chunk| guard.holds().then_some(chunk).ok_or(BodyError))),
    )
}

/// A body that ended before its end because the right to send it did is refused as a new request would be.
fn refuse_revoked(
    gate: &Gate<'_>,
    name: &RepositoryName,
    repository: Option<&Repository>,
    error: &CoreError,
) -> Result<(), OciError> {
    match error {
        CoreError::BodyInterrupted => gate.allow(name, repository),
        _ => Ok(()),
    }
}

fn location(name: &RepositoryName, uid: &UploadUid) -> HeaderValue {
    plain(&format!("/v2/{name}/blobs/uploads/{uid}"))
}

/// `Range` of a session is inclusive: nothing and one byte both read `0-0`.
fn range(offset: u64) -> HeaderValue {
    plain(&format!("0-{}", offset.saturating_sub(1)))
}

fn session(status: StatusCode, name: &RepositoryName, upload: &UploadStatus) -> Response {
    let headers = [
        (header::LOCATION, location(name, &upload.uid)),
        (header::RANGE, range(upload.offset)),
        (UPLOAD_UUID, plain(upload.uid.as_str())),
    ];
    let mut response = (status, headers).into_response();
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn created(name: &RepositoryName, digest: &Digest) -> Response {
    let headers = [
        (header::LOCATION, plain(&format!("/v2/{name}/blobs/{digest}"))),
        (header::CONTENT_LENGTH, HeaderValue::from_static("0")),
        (CONTENT_DIGEST, plain(digest.as_str())),
    ];
    (StatusCode::CREATED, headers).into_response()
}

/// An error after which the session goes on tells where it stands.
fn still_alive(name: &RepositoryName, uid: &UploadUid, error: CoreError) -> OciError {
    let offset = match &error {
        CoreError::OffsetMismatch { expected } => *expected,
        _ => return error.into(),
    };
    OciError::from(error)
        .with_header(header::LOCATION, location(name, uid))
        .with_header(header::RANGE, range(offset))
        .with_header(UPLOAD_UUID, plain(uid.as_str()))
}
