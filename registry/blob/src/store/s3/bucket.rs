//! The calls that the driver makes, and what the service's answers mean.

use std::fmt;
use std::io;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::Bytes;

use super::S3Config;
use crate::file_id::FileId;
use crate::store::StoreError;

const CONNECT: Duration = Duration::from_secs(5);
/// Until the first byte of an answer; completing a large upload takes a service minutes.
const ANSWER: Duration = Duration::from_secs(300);
/// What one listing may hold.
const PAGE: usize = 1000;
/// The most that one call copies, and the pieces of a longer copy.
const COPY_AT_ONCE: u64 = 5 << 30;
const COPY_PIECE: u64 = 1 << 30;

/// A prefix of a bucket.
pub(super) struct Bucket {
    client: Client,
    name: String,
    prefix: String,
}

/// A stretch of an object.
pub(super) struct Found {
    pub(super) bytes: Bytes,
    /// Length of the whole object.
    pub(super) total: u64,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.name, self.prefix)
    }
}

impl Bucket {
    pub(super) fn new(config: &S3Config) -> Self {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let (id, secret) = (config.access_key_id.clone(), config.secret_access_key.expose().to_owned());
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(ANSWER).build();
        let mut settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(config.region.clone()))
            .credentials_provider(Credentials::new(id, secret, None, None, "configuration"))
            .force_path_style(config.path_style)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard())
            // What is stored is sealed; checksums that some services do not know would only keep them out.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        if let Some(endpoint) = &config.endpoint {
            settings = settings.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(settings.build()),
            name: config.bucket.clone(),
            prefix: config.prefix.clone(),
        }
    }

    #[cfg(test)]
    pub(super) async fn make(&self) -> Result<(), StoreError> {
        self.client.create_bucket().bucket(&self.name).send().await.map_err(failed)?;
        Ok(())
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn objects(&self) -> String {
        self.key("objects/")
    }

    /// In the order of file ids.
    pub(super) fn object(&self, file_id: FileId) -> String {
        let id = file_id.to_string();
        self.key(&format!("objects/{}/{}/{id}", &id[..1], &id[1..2]))
    }

    pub(super) fn tails(&self, file_id: FileId) -> String {
        self.key(&format!("tails/{file_id}/"))
    }

    /// A name for a copy beside the object.
    pub(super) fn beside(&self, file_id: FileId) -> String {
        self.key(&format!("beside/{file_id}.{}", FileId::random()))
    }

    /// The whole object, or the bytes of `range` that it has.
    pub(super) async fn get(&self, key: &str, range: Option<(u64, u64)>) -> Result<Found, StoreError> {
        let range = range.map(|(from, to)| format!("bytes={from}-{}", to - 1));
        let request = self.client.get_object().bucket(&self.name).key(key).set_range(range);
        let output = Box::pin(request.send()).await.map_err(failed)?;
        let total = total_of(&output);
        let bytes = output.body.collect().await.map_err(io::Error::other)?.into_bytes();
        let total = total.unwrap_or(bytes.len() as u64);
        Ok(Found { bytes, total })
    }

    pub(super) async fn len(&self, key: &str) -> Result<u64, StoreError> {
        let head = Box::pin(self.client.head_object().bucket(&self.name).key(key).send());
        let len = head.await.map_err(failed)?.content_length().unwrap_or_default();
        Ok(len.unsigned_abs())
    }

    /// Stores a small object; with `only_new`, `Exists` where one of that name lies.
    pub(super) async fn put(&self, key: &str, bytes: Bytes, only_new: bool) -> Result<(), StoreError> {
        let request = self.client.put_object().bucket(&self.name).key(key);
        let request = request.set_if_none_match(only_new.then(|| "*".to_owned()));
        Box::pin(request.body(ByteStream::from(bytes)).send()).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn begin(&self, key: &str) -> Result<String, StoreError> {
        let begun = Box::pin(self.client.create_multipart_upload().bucket(&self.name).key(key).send()).await;
        begun.map_err(failed)?.upload_id.ok_or_else(|| missing("an upload id"))
    }

    /// Sends a part, numbered from 1; gives its ETag.
    pub(super) async fn send(
        &self,
        key: &str,
        upload: &str,
        number: usize,
        bytes: Bytes,
    ) -> Result<String, StoreError> {
        let request = self.client.upload_part().bucket(&self.name).key(key).upload_id(upload);
        let request = request.part_number(part_number(number)).body(ByteStream::from(bytes));
        Box::pin(request.send()).await.map_err(failed)?.e_tag.ok_or_else(|| missing("an ETag"))
    }

    /// Whether a multipart upload is still there.
    pub(super) async fn is_begun(&self, key: &str, upload: &str) -> Result<(), StoreError> {
        let request = self.client.list_parts().bucket(&self.name).key(key).upload_id(upload).max_parts(1);
        Box::pin(request.send()).await.map_err(failed)?;
        Ok(())
    }

    /// Makes an object of the parts with these ETags. The point from which the object is durable.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[String],
        only_new: bool,
    ) -> Result<(), StoreError> {
        let part = |(index, tag): (usize, &String)| {
            CompletedPart::builder().part_number(part_number(index + 1)).e_tag(tag).build()
        };
        let parts = parts.iter().enumerate().map(part).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        let request = request.set_if_none_match(only_new.then(|| "*".to_owned())).multipart_upload(parts);
        Box::pin(request.send()).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreError> {
        let request = self.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        match Box::pin(request.send()).await.map_err(failed) {
            Err(StoreError::NotFound) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives up every multipart upload of a key.
    pub(super) async fn abort_all(&self, key: &str) -> Result<(), StoreError> {
        let request = self.client.list_multipart_uploads().bucket(&self.name).prefix(key);
        let found = Box::pin(request.send()).await.map_err(failed)?;
        for upload in found.uploads() {
            if let (Some(of), Some(id)) = (upload.key(), upload.upload_id())
                && of == key
            {
                self.abort(key, id).await?;
            }
        }
        Ok(())
    }

    /// Copies an object to another key, in the service, at once.
    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let source = format!("{}/{from}", self.name);
        let len = self.len(from).await?;
        if len <= COPY_AT_ONCE {
            let request = self.client.copy_object().bucket(&self.name).key(to).copy_source(source);
            Box::pin(request.send()).await.map_err(failed)?;
            return Ok(());
        }
        let upload = self.begin(to).await?;
        let mut parts = Vec::new();
        for start in (0..len).step_by(COPY_PIECE as usize) {
            let range = format!("bytes={start}-{}", (start + COPY_PIECE).min(len) - 1);
            let request = self.client.upload_part_copy().bucket(&self.name).key(to).upload_id(&upload);
            let request = request.copy_source(&source).copy_source_range(range);
            let request = request.part_number(part_number(parts.len() + 1));
            let copied = Box::pin(request.send()).await.map_err(failed)?.copy_part_result;
            parts.push(copied.and_then(|part| part.e_tag).ok_or_else(|| missing("an ETag"))?);
        }
        self.complete(to, &upload, &parts, false).await
    }

    /// Up to `limit` keys below a prefix with their lengths, in order, after `after`.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let mut found: Vec<(String, u64)> = Vec::new();
        let mut after = after;
        loop {
            let page = (limit - found.len()).min(PAGE);
            let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
            let request = request.set_start_after(after.take()).max_keys(part_number(page));
            let listed = Box::pin(request.send()).await.map_err(failed)?;
            let entries = listed.contents().iter().filter_map(|object| {
                Some((object.key()?.to_owned(), object.size().unwrap_or_default().unsigned_abs()))
            });
            found.extend(entries);
            after = found.last().map(|(key, _)| key.clone());
            if found.len() >= limit || !listed.is_truncated().unwrap_or_default() || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Removes an object; one that is not there is no error.
    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match Box::pin(self.client.delete_object().bucket(&self.name).key(key).send()).await.map_err(failed) {
            Err(StoreError::NotFound) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes everything below a prefix.
    pub(super) async fn delete_all(&self, prefix: &str) -> Result<(), StoreError> {
        for (key, _) in self.list(prefix, None, usize::MAX).await? {
            self.delete(&key).await?;
        }
        Ok(())
    }
}

/// The length of the whole object: after the slash of `bytes 0-9/200`, or that of the answer.
fn total_of(output: &GetObjectOutput) -> Option<u64> {
    match output.content_range() {
        Some(range) => range.rsplit('/').next()?.parse().ok(),
        None => output.content_length().map(i64::unsigned_abs),
    }
}

/// Part numbers and page sizes are small: at most 10,000.
fn part_number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn missing(what: &str) -> StoreError {
    StoreError::Io(io::Error::other(format!("the service gave no {what}")))
}

/// What an error of the service means. Its text names codes and no credentials.
fn failed<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    match (code.as_str(), status) {
        ("NoSuchBucket" | "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch", _)
        | (_, Some(401 | 403)) => {
            StoreError::Offline(format!("the service refuses: {}", text(&code, status)))
        }
        ("NoSuchKey" | "NoSuchUpload" | "NotFound", _) | (_, Some(404)) => StoreError::NotFound,
        ("InvalidPart" | "InvalidPartOrder", _) => StoreError::NotFound,
        ("PreconditionFailed", _) | (_, Some(412)) => StoreError::Exists,
        ("ConditionalRequestConflict", _) => StoreError::Busy,
        ("InvalidRange", _) | (_, Some(416)) => StoreError::Short,
        ("QuotaExceeded" | "XMinioStorageFull" | "StorageFull", _) | (_, Some(507)) => {
            StoreError::Io(io::Error::new(io::ErrorKind::StorageFull, text(&code, status)))
        }
        _ if matches!(error, SdkError::TimeoutError(_)) => StoreError::TimedOut,
        _ => StoreError::Io(io::Error::other(format!(
            "{}: {}",
            text(&code, status),
            aws_sdk_s3::error::DisplayErrorContext(&error)
        ))),
    }
}

fn text(code: &str, status: Option<u16>) -> String {
    match status {
        Some(status) => format!("{status} {code}"),
        None => code.to_owned(),
    }
}
