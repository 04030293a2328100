//! The change log of a SQLite database on the replicas: where it is kept, and under which key.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use registry_blob::{FsStore, Marker, S3Config, S3Folder, S3Store, StoreError};
use registry_core::{Places, numbered_replica};
use registry_metadata::replicas::{self, ReplicaRow, ReplicaState};
use registry_runtime::{KeyProvider, RecordSeal, Sealer, Shutdown, StreamKey, StreamKind, worker};
use registry_sql::{
    ChangeLogConfig, Database, FrameSeal, LOG_FOLDER, LogFile, LogRemote, LogReplica, LogSeal, peek_sqlite,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::config::{Settings, private_dir};
use crate::places::ReplicaPlaces;

/// How often it is looked whether the replicas are others.
const LOOK: Duration = Duration::from_secs(1);
/// What a service may take for a small request, and the bytes of a large one that it takes each second at least.
const ANSWER: Duration = Duration::from_secs(10);
const SLOWEST: u64 = 256 << 10;

/// Bytes of changes after which a new copy of the database is written, at the least.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// Who keeps the log, and how many of them a group waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// Ids and locations.
    replicas: Vec<(String, String)>,
    quorum: usize,
}

/// Makes the change log follow the replicas of the content: those that are written keep it.
pub(crate) struct ChangeLogs {
    known: ReplicaPlaces,
    /// Those of the configuration.
    configured: Vec<String>,
    write_quorum: Option<usize>,
    staging: PathBuf,
    seal: Arc<Seal>,
}

impl ChangeLogs {
    /// `None` with a database that replicates itself.
    pub(crate) fn new(settings: &Settings, keys: &dyn KeyProvider, sealer: &Sealer) -> Result<Option<Self>> {
        if settings.config.database.is_some() {
            return Ok(None);
        }
        let known = ReplicaPlaces::new(settings, sealer)?;
        let locations = settings.replica_locations();
        let configured: Result<_, _> = locations.iter().map(|location| known.resolve(location)).collect();
        Ok(Some(Self {
            known,
            configured: configured.map_err(anyhow::Error::msg)?,
            write_quorum: settings.config.write_quorum,
            staging: settings.data.join("change-log"),
            seal: Arc::new(Seal(StreamKey::of(keys)?)),
        }))
    }

    /// Who keeps the log of the database at `path` from its opening on: the replicas that it knows, and on a first
    /// start those of the configuration. `None` with one alone.
    pub(crate) async fn at_start(&self, path: Option<&Path>) -> Result<Option<Keeping>> {
        let mut replicas: Vec<(String, String)> = match path {
            Some(path) => {
                let path = path.to_owned();
                // A database of an early release has no such table: then there was never another than the first.
                let rows = tokio::task::spawn_blocking(move || peek_sqlite(&path, |tx| replicas::all(tx)));
                rows.await?.map(written).unwrap_or_default()
            }
            None => Vec::new(),
        };
        if replicas.is_empty() {
            let first = self.configured.iter().enumerate();
            let first = first
                .map(|(number, location)| (numbered_replica(number).as_str().to_owned(), location.clone()));
            replicas = first.collect();
        }
        for location in &self.configured {
            if replicas.iter().any(|(_, known)| known == location) {
                continue;
            }
            // One that has moved tells by its marker which it is. Whatever else is new there comes later.
            let marker = self.known.marker(location).await.ok().flatten();
            let marker = marker.filter(|marker| marker.cluster == self.known.cluster());
            let moved = marker.and_then(|marker| replicas.iter_mut().find(|(id, _)| *id == marker.replica));
            if let Some(moved) = moved {
                moved.1.clone_from(location);
            }
        }
        Ok((replicas.len() > 1).then(|| self.keeping(replicas)))
    }

    /// Groups wait for the replicas here, where so many of all lie here as an object must lie on.
    fn keeping(&self, replicas: Vec<(String, String)>) -> Keeping {
        let all = replicas.len();
        let here = replicas.iter().filter(|replica| self.is_here(replica)).count();
        let quorum = match self.write_quorum.unwrap_or(all / 2 + 1) {
            wanted if wanted <= here => wanted,
            _ => 0,
        };
        Keeping { replicas, quorum }
    }

    /// Whether a replica is a folder of this machine, and no bucket.
    fn is_here(&self, (_, location): &(String, String)) -> bool {
        self.known.bucket(location).is_none()
    }

    pub(crate) fn config(&self, keeping: &Keeping) -> Result<ChangeLogConfig> {
        let mut replicas = Vec::new();
        for (name, location) in &keeping.replicas {
            let marked = Marked { cluster: self.known.cluster().to_owned(), replica: name.clone() };
            replicas.push(match self.known.bucket(location) {
                None => {
                    let (root, place) = (PathBuf::from(location), PathBuf::from(location));
                    let check = move || marked.check(&place.display(), FsStore::marker(&place));
                    LogReplica { name: name.clone(), root, check: Arc::new(check), remote: None }
                }
                Some(bucket) => {
                    let remote = Arc::new(BucketLog::new(location.clone(), bucket?, marked));
                    let (root, checked) = (self.staging.join(name), Arc::clone(&remote));
                    let check = Arc::new(move || checked.check());
                    LogReplica { name: name.clone(), root, check, remote: Some(remote) }
                }
            });
        }
        Ok(ChangeLogConfig {
            replicas,
            quorum: keeping.quorum,
            seal: Arc::clone(&self.seal) as Arc<dyn LogSeal>,
            snapshot_bytes: SNAPSHOT_BYTES,
        })
    }

    /// Has the log kept by the replicas that are written now. Groups wait for more of them than before only once so
    /// many hold everything, so that a replica which is added holds up nobody.
    async fn follow(&self, database: &Database, kept: &mut Option<Keeping>) -> Result<()> {
        let replicas = written(database.read(|tx| replicas::all(tx)).await?);
        if replicas.is_empty() || (replicas.len() == 1 && kept.is_none()) {
            return Ok(());
        }
        let mut next = self.keeping(replicas);
        let status = database.change_log();
        let is_held = |id: &str| {
            let all = status.iter().flat_map(|status| &status.replicas);
            all.filter(|one| one.name == id).any(|one| one.in_sync)
        };
        let here = next.replicas.iter().filter(|replica| self.is_here(replica));
        let holding = here.filter(|(id, _)| is_held(id)).count();
        let waited_for = status.as_ref().map_or(0, |status| status.quorum);
        next.quorum = next.quorum.min(waited_for.max(holding));
        if kept.as_ref() == Some(&next) {
            return Ok(());
        }
        let ids: Vec<&str> = next.replicas.iter().map(|(id, _)| id.as_str()).collect();
        tracing::info!(
            replicas = ids.join(", "),
            quorum = next.quorum,
            "the change log is kept elsewhere from now on"
        );
        database.follow_change_log(self.config(&next)?).await.context("cannot begin the change log anew")?;
        *kept = Some(next);
        Ok(())
    }

    /// Looks each second whether the log is where it belongs. `kept`: where it is.
    pub(crate) fn spawn(self, database: &Database, kept: Option<Keeping>, shutdown: &Shutdown) {
        let (database, following) = (database.clone(), Arc::new((self, Mutex::new(kept))));
        worker::spawn("follow_change_log", LOOK, shutdown, move || {
            let (database, following) = (database.clone(), Arc::clone(&following));
            async move { following.0.follow(&database, &mut *following.1.lock().await).await }
        });
    }
}

/// Ids and locations of the replicas that are written.
fn written(rows: Vec<ReplicaRow>) -> Vec<(String, String)> {
    let active = rows.into_iter().filter(|row| row.state == ReplicaState::Active);
    active.filter_map(|row| Some((row.id, row.location?))).collect()
}

/// What a place must bear to be the replica: without it the disk is not mounted.
struct Marked {
    cluster: String,
    replica: String,
}

impl Marked {
    fn check(&self, place: &dyn Display, found: Result<Option<Marker>, impl Display>) -> Result<(), String> {
        match found {
            Ok(Some(marker)) if marker.cluster != self.cluster => {
                Err(format!("{place} belongs to another installation"))
            }
            Ok(Some(marker)) if marker.replica != self.replica => {
                Err(format!("{place} is replica {}", marker.replica))
            }
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(format!("{place} carries no marker: it is not mounted")),
            Err(error) => Err(format!("{place}: {error}")),
        }
    }
}

/// The log of a replica that is a bucket.
struct BucketLog {
    location: String,
    bucket: S3Config,
    folder: S3Folder,
    marked: Marked,
    runtime: Handle,
}

impl BucketLog {
    /// In the runtime that is to drive its requests.
    fn new(location: String, bucket: S3Config, marked: Marked) -> Self {
        let folder = S3Folder::new(&bucket, LOG_FOLDER);
        Self { location, bucket, folder, marked, runtime: Handle::current() }
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

    fn check(&self) -> Result<(), String> {
        let marker = self.wait(ANSWER, S3Store::marker(&self.bucket))?;
        self.marked.check(&self.location, Ok::<_, String>(marker))
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

/// A first start where a replica holds the changes of a database: that one was lost, and is not to be
/// forgotten.
pub(crate) async fn refuse_lost_database(settings: &Settings, sealer: &Sealer) -> Result<()> {
    let known = ReplicaPlaces::new(settings, sealer)?;
    for location in settings.replica_locations() {
        let holds_changes = match known.bucket(&location) {
            None => registry_sql::holds_change_log(Path::new(&location)),
            Some(bucket) => {
                // One that cannot be read is told by whoever makes it a replica.
                let names = S3Folder::new(&bucket?, LOG_FOLDER).list().await.unwrap_or_default();
                names.iter().any(|name| registry_sql::is_snapshot(name))
            }
        };
        if holds_changes {
            bail!(
                "the database of {} is gone, and replica {location} holds what was in it: bring it back with \
                 `berth restore --from-replica {location}`",
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
