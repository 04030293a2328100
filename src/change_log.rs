//! The change log of a SQLite database on the replicas: where it is kept, and under which key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use registry_blob::{FsStore, S3Config, S3Folder, S3Store, StoreError};
use registry_core::Places;
use registry_runtime::{KeyProvider, RecordSeal, Sealer, StreamKey, StreamKind};
use registry_sql::{ChangeLogConfig, FrameSeal, LOG_FOLDER, LogFile, LogRemote, LogReplica, LogSeal};
use tokio::runtime::Handle;

use crate::config::{Settings, private_dir};
use crate::places::ReplicaPlaces;

/// What a service may take for a small request, and the bytes of a large one that it takes each second at least.
const ANSWER: Duration = Duration::from_secs(10);
const SLOWEST: u64 = 256 << 10;

/// Bytes of changes after which a new copy of the database is written, at the least.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// A replica of the configuration: a folder of this machine, or a bucket.
enum Place {
    Folder(PathBuf),
    Bucket(String, S3Config),
}

fn places(settings: &Settings, sealer: &Sealer) -> Result<Vec<Place>> {
    let known = ReplicaPlaces::new(settings, sealer)?;
    let place = |location: String| match known.bucket(&location) {
        Some(bucket) => Ok(Place::Bucket(location, bucket?)),
        None => Ok(Place::Folder(PathBuf::from(location))),
    };
    settings.replica_locations().into_iter().map(place).collect()
}

/// Where the log is kept; `None` with one replica only, or with a database that replicates itself.
pub(crate) fn config(
    settings: &Settings,
    keys: &dyn KeyProvider,
    sealer: &Sealer,
) -> Result<Option<ChangeLogConfig>> {
    let all = settings.replica_locations().len();
    if settings.config.database.is_some() || all < 2 {
        return Ok(None);
    }
    let places = places(settings, sealer)?;
    let here = places.iter().filter(|place| matches!(place, Place::Folder(_))).count();
    // Groups wait for the replicas here, where so many of all lie here as an object must lie on.
    let quorum = match settings.config.write_quorum.unwrap_or(all / 2 + 1) {
        wanted if wanted <= here => wanted,
        _ => 0,
    };
    let key = StreamKey::of(keys)?;
    let cluster = key.installation().to_owned();
    let staging = settings.data.join("change-log");
    let replicas = places.into_iter().enumerate().map(|(number, place)| {
        let (name, cluster) = (format!("replica{number}"), cluster.clone());
        match place {
            Place::Folder(root) => {
                let place = root.clone();
                LogReplica { name, root, check: Arc::new(move || check(&place, &cluster)), remote: None }
            }
            Place::Bucket(location, bucket) => {
                let remote = Arc::new(BucketLog::new(location, bucket, cluster));
                let (root, checked) = (staging.join(&name), Arc::clone(&remote));
                LogReplica { name, root, check: Arc::new(move || checked.check()), remote: Some(remote) }
            }
        }
    });
    Ok(Some(ChangeLogConfig {
        replicas: replicas.collect(),
        quorum,
        seal: Arc::new(Seal(key)),
        snapshot_bytes: SNAPSHOT_BYTES,
    }))
}

/// The log of a replica that is a bucket.
struct BucketLog {
    location: String,
    bucket: S3Config,
    folder: S3Folder,
    cluster: String,
    runtime: Handle,
}

impl BucketLog {
    /// In the runtime that is to drive its requests.
    fn new(location: String, bucket: S3Config, cluster: String) -> Self {
        let folder = S3Folder::new(&bucket, LOG_FOLDER);
        Self { location, bucket, folder, cluster, runtime: Handle::current() }
    }

    /// From a thread that may block.
    fn wait<T>(
        &self,
        at_most: Duration,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, String> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(at_most, request).await });
        let answer = answer.map_err(|_| format!("{} does not answer", self.location))?;
        answer.map_err(|error| format!("{}: {error}", self.location))
    }

    /// Only a bucket that carries our marker is a replica.
    fn check(&self) -> Result<(), String> {
        match self.wait(ANSWER, S3Store::marker(&self.bucket))? {
            Some(marker) if marker.cluster == self.cluster => Ok(()),
            Some(_) => Err(format!("{} belongs to another installation", self.location)),
            None => Err(format!("{} carries no marker", self.location)),
        }
    }
}

impl LogRemote for BucketLog {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn put(&self, name: &str, file: &Path) -> Result<(), String> {
        let len = std::fs::metadata(file).map_or(0, |found| found.len());
        self.wait(ANSWER + Duration::from_secs(len / SLOWEST), self.folder.put(name, file))
    }

    fn list(&self) -> Result<Vec<String>, String> {
        self.wait(ANSWER, self.folder.list())
    }

    fn delete(&self, name: &str) -> Result<(), String> {
        self.wait(ANSWER, self.folder.delete(name))
    }
}

/// Where the change log of a replica is read from: a folder, or a bucket whose log was fetched into one.
pub(crate) struct Source {
    pub(crate) root: PathBuf,
    _fetched: Option<Fetched>,
}

/// A folder that is removed with this.
struct Fetched(PathBuf);

impl Drop for Fetched {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Source {
    /// # Errors
    /// When a bucket cannot be read, or nothing can be written beside the data directory.
    pub(crate) async fn open(location: &str, settings: &Settings, sealer: &Sealer) -> Result<Source> {
        let known = ReplicaPlaces::new(settings, sealer)?;
        let location = match location.contains("://") {
            true => known.resolve(location).map_err(anyhow::Error::msg)?,
            false => return Ok(Source { root: std::path::absolute(location)?, _fetched: None }),
        };
        let bucket = known.bucket(&location).with_context(|| format!("{location} is no bucket"))??;
        let beside = settings.data.parent().unwrap_or(Path::new("/"));
        let id = registry_runtime::random_id();
        let fetched = Fetched(beside.join(format!(".berth-restore-{id}")));
        let target = fetched.0.join(LOG_FOLDER);
        private_dir(&fetched.0)?;
        private_dir(&target)?;
        let folder = S3Folder::new(&bucket, LOG_FOLDER);
        let names = folder.list().await.with_context(|| format!("cannot read {location}"))?;
        for name in names.iter().filter(|name| !name.contains('/')) {
            folder.get(name, &target.join(name)).await.with_context(|| format!("{location}: {name}"))?;
        }
        Ok(Source { root: fetched.0.clone(), _fetched: Some(fetched) })
    }
}

/// Only a root that carries our marker is a replica; without it the disk is not mounted.
fn check(root: &Path, cluster: &str) -> Result<(), String> {
    match FsStore::marker(root) {
        Ok(Some(marker)) if marker.cluster == cluster => Ok(()),
        Ok(Some(_)) => Err(format!("{} belongs to another installation", root.display())),
        Ok(None) => Err(format!("{} carries no marker: it is not mounted", root.display())),
        Err(error) => Err(format!("{}: {error}", root.display())),
    }
}

/// A first start where a replica holds the changes of a database: that one was lost, and is not to be
/// forgotten.
pub(crate) async fn refuse_lost_database(settings: &Settings, sealer: &Sealer) -> Result<()> {
    for place in places(settings, sealer)? {
        let found = match place {
            Place::Folder(root) => registry_sql::holds_change_log(&root).then(|| root.display().to_string()),
            Place::Bucket(location, bucket) => {
                // One that cannot be read is told by whoever makes it a replica.
                let names = S3Folder::new(&bucket, LOG_FOLDER).list().await.unwrap_or_default();
                names.iter().any(|name| registry_sql::is_snapshot(name)).then_some(location)
            }
        };
        if let Some(replica) = found {
            bail!(
                "the database of {} is gone, and replica {replica} holds what was in it: bring it back with \
                 `berth restore --from-replica {replica}`",
                settings.data.display(),
            );
        }
    }
    Ok(())
}

/// Seals what the log writes.
pub(crate) struct Seal(pub(crate) StreamKey);

struct Frames(RecordSeal);

fn kind(file: LogFile) -> StreamKind {
    match file {
        LogFile::Snapshot => StreamKind::Snapshot,
        LogFile::Changes => StreamKind::Changes,
    }
}

impl LogSeal for Seal {
    fn head_len(&self) -> usize {
        StreamKey::HEAD_LEN
    }

    fn begin(&self, file: LogFile) -> (Vec<u8>, Box<dyn FrameSeal>) {
        let (head, seal) = self.0.begin(kind(file));
        (head, Box::new(Frames(seal)))
    }

    fn open(&self, file: LogFile, head: &[u8]) -> Result<Box<dyn FrameSeal>, String> {
        let seal = self.0.open(kind(file), head).map_err(|error| error.to_string())?;
        Ok(Box::new(Frames(seal)))
    }
}

impl FrameSeal for Frames {
    fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8> {
        self.0.seal(plaintext, last)
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>> {
        self.0.open(sealed, last)
    }
}
