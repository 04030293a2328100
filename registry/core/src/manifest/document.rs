//! Image manifests and indexes, OCI's and Docker's, as typed documents.
//!
//! A document is one or the other: what could be read as both is refused (CVE-2021-41190).

use std::collections::BTreeMap;

use registry_metadata::{Content, ContentKind};
use registry_types::{Digest, MediaType};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::strict_json;
use crate::config::Limits;
use crate::error::CoreError;

pub(crate) type Annotations = BTreeMap<String, String>;

/// Everything the registry needs to know of a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ParsedManifest {
    pub(crate) media_type: MediaType,
    pub(crate) artifact_type: Option<String>,
    pub(crate) config_media_type: Option<String>,
    pub(crate) subject: Option<Digest>,
    pub(crate) contents: Vec<Content>,
    pub(crate) annotations: Annotations,
}

impl ParsedManifest {
    /// What the descriptor among a subject's referrers says the artifact is: an image manifest without a
    /// type of its own goes by its configuration's.
    pub(crate) fn referrer_artifact_type(&self) -> &str {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.or(self.config_media_type.as_deref()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<Option<Vec<Descriptor>>>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Vec<Descriptor>>>,
    subject: Option<Descriptor>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    #[serde(deserialize_with = "size")]
    size: u64,
    /// These are read only to be refused when they are malformed: this one is never followed.
    #[serde(rename = "urls")]
    _urls: Option<Vec<String>>,
    #[serde(rename = "annotations")]
    _annotations: Option<Annotations>,
    #[serde(rename = "artifactType")]
    _artifact_type: Option<String>,
}

/// Reads and checks a manifest that was pushed with this `Content-Type`.
///
/// # Errors
/// `ManifestTooLarge`, `ManifestInvalid`.
pub(crate) fn parse(content_type: &str, bytes: &[u8], limits: &Limits) -> Result<ParsedManifest, CoreError> {
    if bytes.len() > limits.manifest_bytes {
        return Err(CoreError::ManifestTooLarge { limit: limits.manifest_bytes });
    }
    let media_type = MediaType::from_content_type(content_type);
    if !media_type.is_manifest() && !media_type.is_index() {
        let message = format!("the Content-Type {media_type:.100} is not that of a manifest or index");
        return Err(CoreError::ManifestInvalid(message));
    }
    let invalid = |message: String| CoreError::ManifestInvalid(message);
    strict_json::check(bytes).map_err(invalid)?;
    let document: Document = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    document.check(&media_type).map_err(|message| invalid(message.to_owned()))?;
    let parsed = document.into_parsed(media_type);
    let (found, limit) = (parsed.contents.len(), limits.descriptors);
    if found > limit {
        return Err(invalid(format!("it names {found} descriptors, and a manifest may name {limit}")));
    }
    Ok(parsed)
}

impl Document {
    fn check(&self, media_type: &MediaType) -> Result<(), &'static str> {
        if self.schema_version != 2 {
            return Err("schemaVersion must be 2");
        }
        if self.media_type.as_deref().is_some_and(|own| own != media_type.as_str()) {
            return Err("mediaType and Content-Type differ");
        }
        if media_type.is_index() {
            if self.config.is_some() || self.layers.is_some() {
                return Err("an index has neither config nor layers");
            }
            if self.manifests.is_none() {
                return Err("an index has manifests");
            }
        } else {
            if self.manifests.is_some() {
                return Err("an image manifest has no manifests");
            }
            if self.config.is_none() {
                return Err("an image manifest has a config");
            }
            if self.layers.is_none() {
                return Err("an image manifest has layers");
            }
        }
        Ok(())
    }

    fn into_parsed(self, media_type: MediaType) -> ParsedManifest {
        let config_media_type = self.config.as_ref().map(|config| config.media_type.clone());
        let of_kind = |kind, list: Option<Option<Vec<Descriptor>>>| {
            list.flatten()
                .unwrap_or_default()
                .into_iter()
                .map(move |descriptor| descriptor.into_content(kind))
        };
        let config = self.config.into_iter().map(|config| config.into_content(ContentKind::Config));
        let contents = config
            .chain(of_kind(ContentKind::Layer, self.layers))
            .chain(of_kind(ContentKind::Child, self.manifests))
            .collect();
        ParsedManifest {
            media_type,
            artifact_type: self.artifact_type,
            config_media_type,
            subject: self.subject.map(|subject| subject.digest),
            contents,
            annotations: self.annotations.unwrap_or_default(),
        }
    }
}

impl Descriptor {
    fn into_content(self, kind: ContentKind) -> Content {
        let media_type = MediaType::from_content_type(&self.media_type);
        Content { kind, digest: self.digest, media_type, size: self.size }
    }
}

/// Tells a member that is null, as Go writes an empty list, from one that is missing.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A whole number of bytes that databases and clients can hold: 0 to 2^63 - 1.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_ok() { Ok(size) } else { Err(D::Error::custom("a size is at most 2^63 - 1")) }
}

#[cfg(test)]
mod tests;
