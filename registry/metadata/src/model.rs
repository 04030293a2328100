//! Rows as values: what the tables hold, parsed once when read.
//!
//! Ids are newtypes; digests, names and tags are the types of `registry-types`, so that a row which does
//! not parse is an error of the database and never reaches a caller half right.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use registry_types::{Algorithm, Digest, MediaType, RepositoryName, Tag};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One incarnation of a repository. A name that is deleted and made again has a new one.
    RepositoryUid
}
text_id! {
    /// An upload session, opaque to clients.
    UploadUid
}
text_id! {
    /// A key domain: content is deduplicated inside one and never across.
    Domain
}

/// A repository as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub uid: RepositoryUid,
    pub name: RepositoryName,
    pub created_at_ms: i64,
    pub domain: Domain,
    pub encryption_type: EncryptionType,
    pub tag_mutability: TagMutability,
    pub policy: Option<RepositoryPolicy>,
    pub resource_tags: BTreeMap<String, String>,
    pub scan_on_push: bool,
}

/// What a repository was asked to be encrypted with. All are AES-256; the key domain says under which key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncryptionType {
    /// The installation's own key, not asked for by name.
    #[default]
    Aes256,
    /// A key that has a name, if only that of the installation's own.
    Kms,
}

impl EncryptionType {
    /// ECR's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "KMS",
        }
    }

    /// From ECR's name; `None` for one that Berth does not have.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Aes256, Self::Kms].into_iter().find(|one| one.as_str() == text)
    }
}

/// The text of a repository policy; `version` rises with every change, removal included, within one uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPolicy {
    pub text: Arc<str>,
    pub version: i64,
}

/// Whether a tag may move to another manifest, with ECR's four settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TagMutability {
    #[default]
    Mutable,
    Immutable,
    /// Mutable, but for tags that match one of the patterns.
    MutableWithExclusion(Vec<ImmutabilityExclusion>),
    /// Immutable, but for tags that match one of the patterns.
    ImmutableWithExclusion(Vec<ImmutabilityExclusion>),
}

/// A pattern over tags in which `*` stands for any run of characters (ECR's filter type `WILDCARD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImmutabilityExclusion(pub String);

impl TagMutability {
    /// ECR's name of the setting.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mutable => "MUTABLE",
            Self::Immutable => "IMMUTABLE",
            Self::MutableWithExclusion(_) => "MUTABLE_WITH_EXCLUSION",
            Self::ImmutableWithExclusion(_) => "IMMUTABLE_WITH_EXCLUSION",
        }
    }

    /// The patterns, empty where the setting has none.
    pub fn exclusions(&self) -> &[ImmutabilityExclusion] {
        match self {
            Self::Mutable | Self::Immutable => &[],
            Self::MutableWithExclusion(filters) | Self::ImmutableWithExclusion(filters) => filters,
        }
    }

    /// From ECR's name and the patterns beside it; `None` for a name that ECR does not have.
    pub fn from_parts(name: &str, exclusions: Vec<ImmutabilityExclusion>) -> Option<Self> {
        match name {
            "MUTABLE" => Some(Self::Mutable),
            "IMMUTABLE" => Some(Self::Immutable),
            "MUTABLE_WITH_EXCLUSION" => Some(Self::MutableWithExclusion(exclusions)),
            "IMMUTABLE_WITH_EXCLUSION" => Some(Self::ImmutableWithExclusion(exclusions)),
            _ => None,
        }
    }
}

/// An upload session. `lease` fences writers: offset and state move only for the holder of the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    pub uid: UploadUid,
    pub repository: RepositoryUid,
    pub domain: Domain,
    /// Unique id of the principal that began it; nobody else sees it.
    pub principal: String,
    pub algorithm: Algorithm,
    pub lease: i64,
    pub lease_expires_at_ms: i64,
    pub offset: i64,
    /// Registered before the object's first byte is written.
    pub file_id: Option<[u8; 16]>,
    /// Sealed by the content store under `sealed_epoch`, `sealed_lease` and `offset`.
    pub sealed_state: Option<Vec<u8>>,
    pub sealed_epoch: u32,
    pub sealed_lease: i64,
    pub updated_at_ms: i64,
}

/// BRF1's key row: which object is the blob, and how to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub file_id: [u8; 16],
    pub dek_id: [u8; 16],
    pub total_len: u64,
    pub object_len: u64,
    pub footer_sha256: [u8; 32],
    pub epoch: u32,
    pub wrap_nonce: [u8; 12],
    pub wrapped: [u8; 48],
}

/// A blob's visibility in one repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub size: u64,
    pub linked_at_ms: i64,
    /// When somebody last relied on it: an upload, a mount, or (to the hour) a look at it.
    pub noted_at_ms: i64,
}

/// A manifest in one repository, without its bytes. The row is its visibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub size: u64,
    pub artifact_type: Option<String>,
    pub config_media_type: Option<String>,
    pub subject: Option<Digest>,
    /// Sum of the sizes of configuration and layers, as ECR's `imageSizeInBytes`.
    pub image_size: u64,
    pub pushed_at_ms: i64,
    /// When its bytes were last read by somebody, to the hour.
    pub last_pulled_at_ms: Option<i64>,
}

/// The part a descriptor plays in the manifest that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentKind {
    Config,
    Layer,
    /// An entry of an index.
    Child,
}

impl ContentKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Child => "child",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "config" => Some(Self::Config),
            "layer" => Some(Self::Layer),
            "child" => Some(Self::Child),
            _ => None,
        }
    }
}

/// One descriptor that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub kind: ContentKind,
    pub digest: Digest,
    pub media_type: MediaType,
    pub size: u64,
}

/// A tag and the manifest it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    pub tag: Tag,
    pub digest: Digest,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

/// A manifest that names a subject, with what its descriptor needs but for the sealed annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerKey {
    pub digest: Digest,
    pub media_type: MediaType,
    pub size: u64,
    /// Empty when the descriptor has none.
    pub artifact_type: String,
    /// Bytes of the annotations as JSON, 0 when there are none.
    pub annotations_len: u64,
}

/// What repositories hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    /// Manifests, indexes included.
    pub images: u64,
}

/// The bounds of a [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub max_bytes: Option<u64>,
    pub max_images: Option<u64>,
}
