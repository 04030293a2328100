//! Media types of manifests and layers, OCI's and Docker's side by side.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type without parameters, as pushed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Box<str>);

impl MediaType {
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_MANIFEST_LIST: &'static str =
        "application/vnd.docker.distribution.manifest.list.v2+json";

    /// From a `Content-Type` value; parameters such as `; charset=utf-8` are dropped, case is folded.
    pub fn from_content_type(value: &str) -> Self {
        let essence = value.split(';').next().unwrap_or_default().trim();
        Self(essence.to_ascii_lowercase().into_boxed_str())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An image manifest: a configuration and layers.
    pub fn is_manifest(&self) -> bool {
        matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// An index (OCI) or manifest list (Docker): a list of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_MANIFEST_LIST)
    }

    /// Layers that registries need not hold (image-spec "Non-Distributable Layers", Docker's foreign layers).
    pub fn is_non_distributable(&self) -> bool {
        self.as_str().starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.as_str().starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::MediaType;

    #[test]
    fn parameters_are_dropped() {
        let media_type =
            MediaType::from_content_type("Application/vnd.oci.image.index.v1+json; charset=utf-8");
        assert!(media_type.is_index());
    }
}
