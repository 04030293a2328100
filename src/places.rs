//! Where replicas can lie: folders of this machine, and buckets of S3 services.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use registry_blob::{BlobStore, FsStore, Marker, ReplicaId, S3Config, S3Store, StoreError};
use registry_core::Places;
use registry_runtime::{Sealer, SecretString};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::config::Settings;

const SCHEME: &str = "s3://";
/// What a disk may take to tell where its symbolic links lead.
const FOLLOW: Duration = Duration::from_secs(2);

/// An entry of `replicas`: a location, or a table with a bucket's own service.
#[derive(Clone, Debug)]
pub(crate) enum Replica {
    Location(String),
    S3(OwnS3),
}

/// A bucket with settings of its own; what it leaves out is as in `[s3]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnS3 {
    /// `s3://BUCKET/PREFIX`
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    access_key_id: Option<String>,
    secret_access_key: Option<SecretString>,
    secret_access_key_file: Option<PathBuf>,
}

/// The settings of `[s3]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct S3Settings {
    /// `https://HOST`; without it, Amazon's own of the region.
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    /// The bucket in the path rather than in the host name, as most services other than Amazon's want it.
    pub(crate) path_style: bool,
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Option<SecretString>,
    /// A file that holds the secret alone.
    pub(crate) secret_access_key_file: Option<PathBuf>,
    /// Parts of 8 MiB that all uploads together hold in memory.
    pub(crate) part_buffers: usize,
    /// MiB of memory for what was read, so that many pulls of one image ask the service once.
    pub(crate) cache: u64,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: false,
            access_key_id: None,
            secret_access_key: None,
            secret_access_key_file: None,
            part_buffers: 16,
            cache: 64,
        }
    }
}

impl Replica {
    pub(crate) fn location(&self) -> &str {
        match self {
            Self::Location(location) => location,
            Self::S3(own) => &own.url,
        }
    }
}

impl<'de> Deserialize<'de> for Replica {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = Replica;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, an s3:// URL, or a table with `url`")
            }

            fn visit_str<E>(self, location: &str) -> Result<Replica, E> {
                Ok(Replica::Location(location.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Replica, A::Error> {
                OwnS3::deserialize(MapAccessDeserializer::new(map)).map(Replica::S3)
            }
        }

        deserializer.deserialize_any(Entry)
    }
}

/// Makes stores of locations.
pub(crate) struct ReplicaPlaces {
    cluster: String,
    /// For buckets that the configuration does not describe.
    any: Bucket,
    described: Vec<(String, Bucket)>,
}

/// How buckets of one service are asked.
#[derive(Clone)]
struct Bucket {
    endpoint: Option<String>,
    region: String,
    path_style: bool,
    credentials: Option<(String, SecretString)>,
    part_buffers: usize,
    cache_bytes: u64,
}

impl ReplicaPlaces {
    pub(crate) fn new(settings: &Settings, sealer: &Sealer) -> Result<Self> {
        let cluster = hex::encode(&sealer.derive("installation id").expose()[..16]);
        let config = &settings.config;
        let common = &config.s3;
        let id = common.access_key_id.clone().or_else(|| config.s3_access_key_id.clone());
        let secret = common.secret_access_key.clone().or_else(|| config.s3_secret_access_key.clone());
        let any = Bucket {
            endpoint: common.endpoint.clone(),
            region: common.region.clone().unwrap_or_else(|| config.region.clone()),
            path_style: common.path_style,
            credentials: credentials("s3", id, secret, common.secret_access_key_file.as_deref())?,
            part_buffers: common.part_buffers,
            cache_bytes: common.cache << 20,
        };
        let mut described = Vec::new();
        for replica in &config.replicas {
            let Replica::S3(own) = replica else { continue };
            let url = normal_url(&own.url).map_err(anyhow::Error::msg).context("replicas")?;
            let (id, secret) = (own.access_key_id.clone(), own.secret_access_key.clone());
            let credentials = credentials(&url, id, secret, own.secret_access_key_file.as_deref())?;
            let bucket = Bucket {
                endpoint: own.endpoint.clone().or_else(|| any.endpoint.clone()),
                region: own.region.clone().unwrap_or_else(|| any.region.clone()),
                path_style: own.path_style.unwrap_or(any.path_style),
                credentials: credentials.or_else(|| any.credentials.clone()),
                ..any.clone()
            };
            described.push((url, bucket));
        }
        Ok(Self { cluster, any, described })
    }

    /// The bucket of an `s3://` location; `None` for a path.
    pub(crate) fn bucket(&self, location: &str) -> Option<Result<S3Config, StoreError>> {
        let (bucket, prefix) = split_url(location)?;
        let own = self.described.iter().find(|(url, _)| url == location);
        let service = own.map_or(&self.any, |(_, service)| service);
        let Some((id, secret)) = &service.credentials else {
            let text =
                format!("no credentials for {location}: set access_key_id and secret_access_key in [s3]");
            return Some(Err(StoreError::Offline(text)));
        };
        Some(Ok(S3Config {
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            endpoint: service.endpoint.clone(),
            region: service.region.clone(),
            path_style: service.path_style,
            access_key_id: id.clone(),
            secret_access_key: secret.clone(),
            part_buffers: service.part_buffers,
            cache_bytes: service.cache_bytes,
        }))
    }
}

/// An id with its secret, which may lie in a file.
fn credentials(
    whose: &str,
    id: Option<String>,
    secret: Option<SecretString>,
    file: Option<&Path>,
) -> Result<Option<(String, SecretString)>> {
    let secret = match (secret, file) {
        (Some(_), Some(_)) => {
            bail!("{whose}: secret_access_key and secret_access_key_file exclude each other")
        }
        (Some(secret), None) => Some(secret),
        (None, Some(file)) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(SecretString::from(text.trim()))
        }
        (None, None) => None,
    };
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some((id, secret))),
        (None, None) => Ok(None),
        _ => bail!("{whose}: access_key_id and its secret go together"),
    }
}

/// Bucket and prefix of an `s3://` URL.
fn split_url(location: &str) -> Option<(&str, &str)> {
    let rest = location.strip_prefix(SCHEME)?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// An `s3://` URL in the one way it is written down.
fn normal_url(location: &str) -> Result<String, String> {
    let Some((bucket, prefix)) = split_url(location) else {
        return Err(format!("{location} is no s3:// URL"));
    };
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let has_gaps = !prefix.is_empty() && prefix.split('/').any(str::is_empty);
    let is_plain = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || "-_./".contains(one));
    if bucket.is_empty() || !is_plain(bucket) || !is_plain(prefix) || has_gaps {
        return Err(format!(
            "{location} is not s3://BUCKET or s3://BUCKET/PREFIX of letters, digits, - _ . and /"
        ));
    }
    Ok(if prefix.is_empty() { format!("{SCHEME}{bucket}") } else { format!("{SCHEME}{bucket}/{prefix}") })
}

/// A path with symbolic links followed, in as much of it as is there.
fn follow(path: &Path) -> Option<String> {
    let mut above = path.ancestors();
    let (above, real) = above.find_map(|above| Some((above, above.canonicalize().ok()?)))?;
    let real = real.join(path.strip_prefix(above).ok()?);
    real.to_str().map(str::to_owned)
}

/// Runs what asks a disk where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Io(std::io::Error::other(error)))?
}

#[async_trait]
impl Places for ReplicaPlaces {
    fn resolve(&self, location: &str) -> Result<String, String> {
        if location.contains("://") {
            return normal_url(location);
        }
        let path = Path::new(location);
        if !path.is_absolute() {
            return Err(format!("{location} is neither an absolute path nor an s3:// URL"));
        }
        path.components()
            .as_path()
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("{location} is no text"))
    }

    async fn real(&self, location: &str) -> String {
        if split_url(location).is_some() {
            return location.to_owned();
        }
        let path = PathBuf::from(location);
        let followed = tokio::task::spawn_blocking(move || follow(&path));
        match tokio::time::timeout(FOLLOW, followed).await {
            Ok(Ok(Some(real))) => real,
            _ => location.to_owned(),
        }
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }

    async fn marker(&self, location: &str) -> Result<Option<Marker>, StoreError> {
        if let Some(bucket) = self.bucket(location) {
            return S3Store::marker(&bucket?).await;
        }
        let root = location.to_owned();
        blocking(move || FsStore::marker(Path::new(&root))).await
    }

    async fn initialize(&self, location: &str, id: &ReplicaId) -> Result<(), StoreError> {
        if let Some(bucket) = self.bucket(location) {
            return S3Store::initialize(&bucket?, &self.cluster, id).await;
        }
        let (root, cluster, id) = (location.to_owned(), self.cluster.clone(), id.clone());
        blocking(move || FsStore::initialize(Path::new(&root), &cluster, &id)).await
    }

    fn open(&self, location: &str, id: &ReplicaId) -> Result<Arc<dyn BlobStore>, StoreError> {
        match self.bucket(location) {
            Some(bucket) => Ok(Arc::new(S3Store::open(&bucket?, &self.cluster, id))),
            None => Ok(Arc::new(FsStore::open(Path::new(location), &self.cluster, id))),
        }
    }

    async fn keep_note(
        &self,
        location: &str,
        id: &ReplicaId,
        name: &str,
        text: Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some(bucket) = self.bucket(location) {
            return S3Store::open(&bucket?, &self.cluster, id).keep_note(name, text).await;
        }
        let (store, name) = (FsStore::open(Path::new(location), &self.cluster, id), name.to_owned());
        blocking(move || store.keep_note(&name, &text)).await
    }

    async fn note(&self, location: &str, id: &ReplicaId, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(bucket) = self.bucket(location) {
            return S3Store::open(&bucket?, &self.cluster, id).note(name).await;
        }
        let (store, name) = (FsStore::open(Path::new(location), &self.cluster, id), name.to_owned());
        blocking(move || store.note(&name)).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{follow, normal_url, split_url};

    #[test]
    fn links_are_followed_in_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("disk")).unwrap();
        std::os::unix::fs::symlink(root.join("disk"), root.join("link")).unwrap();
        let followed = follow(&root.join("link/not/there")).unwrap();
        assert_eq!(Path::new(&followed), root.join("disk/not/there"));
        assert_eq!(Path::new(&follow(&root.join("link")).unwrap()), root.join("disk"));
    }

    #[test]
    fn urls_are_written_in_one_way() {
        for (url, normal) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://b/a/c/", "s3://b/a/c"),
            ("s3://my.bucket-1/x_y", "s3://my.bucket-1/x_y"),
        ] {
            assert_eq!(normal_url(url).unwrap(), normal);
        }
        for wrong in ["s3://", "s3:///a", "s3://b//a", "s3://b/a//c", "s3://b/a?x", "http://b", "s3://b/ä"] {
            assert!(normal_url(wrong).is_err(), "{wrong}");
        }
        assert_eq!(split_url("s3://b/a/c"), Some(("b", "a/c")));
        assert_eq!(split_url("/path"), None);
    }
}
