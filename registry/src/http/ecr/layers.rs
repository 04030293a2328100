//! Layers through the API itself: what `docker push` does over HTTP, in JSON with base64.

use std::pin::Pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use policies_identity::{Caller, Scope};
use registry_aws::AwsError;
use registry_core::{Body, ContentRange, CoreError, NewUpload, PushTarget, UploadUid};
use registry_types::{Algorithm, Digest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::invalid;
use super::through::Asking;
use super::{Ecr, input};
use crate::http::oci::ticket;
use crate::pull_through::Part;

/// ECR's part sizes in bytes: what clients are told to send, and the most they may.
const PART_BYTES: u64 = 10_485_760;
const MAX_PART_BYTES: usize = 20_971_520;

/// The media type that Docker gives its layers; links do not remember what a client called them.
const LAYER_MEDIA_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchCheckLayerAvailabilityRequest {
    layer_digests: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetDownloadUrlForLayerRequest {
    layer_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadLayerPartRequest {
    upload_id: String,
    part_first_byte: u64,
    part_last_byte: u64,
    layer_part_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompleteLayerUploadRequest {
    upload_id: String,
    layer_digests: Vec<String>,
}

impl Ecr {
    /// A URL that fetches the layer without further credentials for as long as a token lives. It carries no
    /// rights: whether its caller may still read is decided when it is used.
    pub(super) async fn get_download_url_for_layer(
        &self,
        asking: Asking<'_>,
        input: Value,
    ) -> Result<Value, AwsError> {
        let name = self.named(&input)?;
        let request: GetDownloadUrlForLayerRequest = input::parse(input)?;
        let digest: Digest = request
            .layer_digest
            .parse()
            .map_err(|_| invalid("layerDigest", "must be a sha256 or sha512 digest"))?;
        let repository = asking.repository_with(&name, Part::Blob(digest.clone())).await;
        let repository = repository.map_err(|absent| asking.not_here(&name, absent))?;
        let layer = self.registry.blob_info(&repository, &digest).await;
        layer.map_err(|error| self.subject(&name).error(error))?;
        let scope = Scope::parse(&ticket::scope(&name, &digest)).ok_or_else(AwsError::server)?;
        let token = self.identity.mint_bearer(asking.caller, &scope).map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "no ticket can be made");
            AwsError::unavailable("The server cannot do this at the moment. Try again.")
        })?;
        let ctx = asking.ctx;
        let scheme = if ctx.secure_transport { "https" } else { "http" };
        let url = format!(
            "{scheme}://{}/v2/{name}/blobs/{digest}?{}={}",
            self.host(ctx),
            ticket::PARAMETER,
            token.token.expose()
        );
        Ok(json!({ "downloadUrl": url, "layerDigest": digest }))
    }

    /// Which layers a push can leave out: those that are here. Nothing is fetched for it, as an image that is new here
    /// needs its layers here.
    pub(super) async fn batch_check_layer_availability(&self, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: BatchCheckLayerAvailabilityRequest = input::parse(input)?;
        input::check_batch("layerDigests", request.layer_digests.len())?;
        let (mut layers, mut failures) = (Vec::new(), Vec::new());
        for text in request.layer_digests {
            let Ok(digest) = text.parse::<Digest>() else {
                let (code, reason) = if text.is_empty() {
                    ("MissingLayerDigest", "The layer digest is missing")
                } else {
                    ("InvalidLayerDigest", "The layer digest is not valid")
                };
                failures.push(json!({ "layerDigest": text, "failureCode": code, "failureReason": reason }));
                continue;
            };
            match self.registry.blob_info(&repository, &digest).await {
                Ok(layer) => layers.push(json!({
                    "layerDigest": digest,
                    "layerAvailability": "AVAILABLE",
                    "layerSize": layer.size,
                    "mediaType": LAYER_MEDIA_TYPE,
                })),
                Err(CoreError::BlobNotFound) => {
                    layers.push(json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" }));
                }
                Err(error) => return Err(self.subject(&repository.name).error(error)),
            }
        }
        Ok(json!({ "layers": layers, "failures": failures }))
    }

    pub(super) async fn initiate_layer_upload(
        &self,
        caller: &Caller,
        input: Value,
    ) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let name = repository.name.clone();
        let target = PushTarget::Existing(repository);
        let new =
            NewUpload { target: &target, principal: caller.principal_uid(), algorithm: Algorithm::Sha256 };
        let started =
            self.registry.start_upload(new).await.map_err(|error| self.subject(&name).error(error))?;
        Ok(json!({ "uploadId": started.uid.as_str(), "partSize": PART_BYTES }))
    }

    pub(super) async fn upload_layer_part(&self, caller: &Caller, input: Value) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: UploadLayerPartRequest = input::parse(input)?;
        let part = STANDARD
            .decode(request.layer_part_blob)
            .map_err(|_| AwsError::serialization("The member layerPartBlob is not base64."))?;
        if part.len() > MAX_PART_BYTES {
            let message = format!("A layer part may have at most {MAX_PART_BYTES} bytes");
            return Err(AwsError::client("InvalidLayerPartException", message));
        }
        if request.part_last_byte > i64::MAX.unsigned_abs() {
            return Err(invalid("partLastByte", "must be a 64-bit integer"));
        }
        let range = ContentRange { start: request.part_first_byte, end: request.part_last_byte };
        if range.end < range.start {
            return Err(invalid("partLastByte", "must not be less than partFirstByte"));
        }
        let uid = UploadUid::new(request.upload_id);
        let principal = caller.principal_uid();
        let body = body(part.into());
        let appended = self.registry.append_upload(&repository, &uid, principal, Some(range), body).await;
        let status = appended.map_err(|error| self.subject(&repository.name).error(error))?;
        Ok(json!({
            "registryId": self.access.account(),
            "repositoryName": repository.name,
            "uploadId": status.uid.as_str(),
            "lastByteReceived": status.offset.saturating_sub(1),
        }))
    }

    pub(super) async fn complete_layer_upload(
        &self,
        caller: &Caller,
        input: Value,
    ) -> Result<Value, AwsError> {
        let repository = self.found(&input).await?;
        let request: CompleteLayerUploadRequest = input::parse(input)?;
        let [digest] = request.layer_digests.as_slice() else {
            return Err(invalid("layerDigests", "must have one item: other checksums are not supported"));
        };
        let digest: Digest =
            digest.parse().map_err(|_| invalid("layerDigests", "must be a sha256 or sha512 digest"))?;
        let subject = self.subject(&repository.name);
        let uid = UploadUid::new(request.upload_id);
        let principal = caller.principal_uid();
        let status = self.registry.upload_status(&repository, &uid, principal).await;
        if status.map_err(|error| subject.error(error))?.offset == 0 {
            return Err(AwsError::client("EmptyUploadException", "The upload holds no layer parts"));
        }
        let finished = self
            .registry
            .finish_upload(&repository, &uid, principal, None, body(Bytes::new()), &digest)
            .await;
        let finished = finished.map_err(|error| subject.error(error))?;
        Ok(json!({
            "registryId": self.access.account(),
            "repositoryName": repository.name,
            "uploadId": uid.as_str(),
            "layerDigest": finished.digest,
        }))
    }
}

fn body(bytes: Bytes) -> Body {
    let chunks = (!bytes.is_empty()).then_some(Ok(bytes));
    let stream: Body = Pin::from(Box::new(stream::iter(chunks)));
    stream
}
