//! Bringing a backup back onto an empty directory.
//!
//! Everything is written beside its place first; only when all of it was read, opened and found to fit together
//! does it get its names, the database last: a directory without it is none yet. Invariant: after an error
//! nothing is left but empty folders, unless it came while the names were given: then the next attempt goes on there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use registry_blob::{BlobStore, FileId, ReplicaId};
use registry_core::Places;
use registry_metadata::adoption::{self, Restored};
use registry_metadata::{Metadata, blobs};
use registry_runtime::{RecoveryKey, SealedReader, StreamError, StreamKey, StreamKind, durable};
use registry_sql::{Database, Error as SqlError, check_sqlite};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::archive::{self, Counts, Part};
use super::error::BackupError;
use super::staging::{OwnData, Scratch, is_empty, publish};
use super::{
    BESIDE, BackupManifest, CHECKED, DATABASE, FORMAT, MANIFEST, POLICIES, Phase, Progress, RESTORING,
    Report, keys,
};

/// Objects up to this size are written many at a time: each costs a sync.
const SMALL: u64 = 1 << 20;
const AT_ONCE: usize = 16;
/// Key rows read at once.
const PAGE: u32 = 500;

/// Whether this release can open what a database holds, asked of every room.
#[async_trait]
pub trait SchemaCheck: Send + Sync {
    /// # Errors
    /// [`SqlError::SchemaNewer`] names both versions.
    async fn check(&self, database: &Database) -> Result<(), SqlError>;
}

/// What is restored, and where to.
pub struct Restore<'a> {
    pub from: &'a Path,
    pub data: &'a Path,
    pub policies: &'a Path,
    pub key_dir: &'a Path,
    /// Written into `key_dir`; `None` when that holds the keys already.
    pub recovery_key: Option<&'a RecoveryKey>,
    pub key: &'a StreamKey,
    pub places: &'a dyn Places,
    /// The replicas to be filled; those in folders must be empty.
    pub locations: &'a [String],
    pub schema: &'a dyn SchemaCheck,
    pub now_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    pub data: PathBuf,
    #[serde(flatten)]
    pub backup: BackupManifest,
    /// Objects that no replica held whole when the backup was made.
    pub missing_objects: u64,
    /// Keys, as `domain/epoch`, without which some of it stays unreadable.
    pub missing_keys: Vec<String>,
    /// Whether the policy files came back too: where there are others already, these stay.
    pub policies: bool,
    /// Whether an interrupted restore had checked all of this before, and was brought to its end.
    pub went_on: bool,
}

/// What has been written so far, none of it in its place.
struct Staged {
    scratch: Scratch,
    /// Where the objects of replicas in folders are staged.
    roots: Vec<Scratch>,
    stores: Vec<Arc<dyn BlobStore>>,
    objects: HashMap<FileId, u64>,
    manifest: Option<BackupManifest>,
    counts: Option<Counts>,
    running: JoinSet<Result<(), BackupError>>,
}

impl Restore<'_> {
    /// Restores everything, or nothing.
    ///
    /// # Errors
    /// What is wrong with the backup, the key or the directory.
    pub async fn run(&self, report: Report<'_>) -> Result<RestoreReport, BackupError> {
        let made = self.missing_folders();
        let own = OwnData::take(self.data)?;
        let restored = self.run_alone(report).await;
        if restored.is_err() {
            own.give_up();
            for folder in made.iter().rev() {
                // Not empty means that somebody else uses it by now.
                drop(std::fs::remove_dir(folder));
            }
        }
        restored
    }

    async fn run_alone(&self, report: Report<'_>) -> Result<RestoreReport, BackupError> {
        let checked = self.data.join(RESTORING).join(CHECKED);
        if checked.exists() && !self.data.join(DATABASE).exists() {
            let text = std::fs::read(&checked).map_err(BackupError::file(&checked))?;
            let restored =
                serde_json::from_slice(&text).map_err(|_| incomplete("what was checked is unknown"))?;
            self.publish(&restored)?;
            return Ok(RestoreReport { went_on: true, ..restored });
        }
        self.check_targets()?;
        let file = File::open(self.from).map_err(BackupError::file(self.from))?;
        let sealed = |source| match source {
            StreamError::NotOne => BackupError::NotBackup { path: self.from.to_owned() },
            reason => BackupError::Sealed { path: self.from.to_owned(), reason },
        };
        let total_bytes = file.metadata().map_err(BackupError::file(self.from))?.len();
        let input = SealedReader::new(BufReader::with_capacity(1 << 20, file), self.key, StreamKind::Backup);
        let mut parts = archive::read(input.map_err(sealed)?);
        self.stage_and_publish(&mut parts, total_bytes, report).await
    }

    async fn stage_and_publish(
        &self,
        parts: &mut mpsc::Receiver<io::Result<Part>>,
        total_bytes: u64,
        report: Report<'_>,
    ) -> Result<RestoreReport, BackupError> {
        let mut staged = self.stage().await?;
        self.receive(parts, &mut staged, total_bytes, report).await?;
        let restored = self.check(&mut staged, total_bytes, report).await?;
        let checked = staged.scratch.path().join(CHECKED);
        let text = serde_json::to_vec(&restored).map_err(|_| BackupError::Panicked)?;
        durable::write_file_atomically(&checked, &text, 0o600).map_err(BackupError::file(&checked))?;
        staged.scratch.keep();
        staged.roots.into_iter().for_each(Scratch::keep);
        self.publish(&restored)?;
        Ok(restored)
    }

    fn check_targets(&self) -> Result<(), BackupError> {
        let targets = || std::iter::once(self.data).chain(self.folders());
        let but: Vec<&Path> = targets().chain([self.key_dir]).collect();
        for path in targets() {
            if !is_empty(path, &but)? {
                return Err(BackupError::NotEmpty { path: path.to_owned() });
            }
        }
        if let Some(key) = self.recovery_key {
            key.check(self.key_dir)?;
        }
        Ok(())
    }

    /// The folders that this restore makes, outermost first.
    fn missing_folders(&self) -> Vec<PathBuf> {
        let wanted = std::iter::once(self.data).chain(self.folders());
        wanted.filter(|path| !path.exists()).map(Path::to_owned).collect()
    }

    /// The locations that are folders.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.locations.iter().map(Path::new).filter(|location| location.is_absolute())
    }

    async fn stage(&self) -> Result<Staged, BackupError> {
        let scratch = Scratch::make(&self.data.join(RESTORING))?;
        let (mut roots, mut stores) = (Vec::new(), Vec::new());
        for (number, location) in self.locations.iter().enumerate() {
            let id = ReplicaId::new(&format!("replica{number}"));
            // A bucket has no place beside: objects that no row names do no harm in it.
            let mut staging = location.clone();
            if Path::new(location).is_absolute() {
                let root = Scratch::make(&Path::new(location).join(RESTORING))?;
                staging = root.path().to_string_lossy().into_owned();
                roots.push(root);
            }
            self.places.initialize(&staging, &id).await?;
            stores.push(self.places.open(&staging, &id)?);
        }
        Ok(Staged {
            scratch,
            roots,
            stores,
            objects: HashMap::new(),
            manifest: None,
            counts: None,
            running: JoinSet::new(),
        })
    }

    async fn receive(
        &self,
        parts: &mut mpsc::Receiver<io::Result<Part>>,
        staged: &mut Staged,
        total_bytes: u64,
        report: Report<'_>,
    ) -> Result<(), BackupError> {
        let mut done_bytes = 0;
        while let Some(part) = self.next(parts).await? {
            match part {
                Part::File { name, mode, len } => {
                    let bytes = self.file(parts, staged, &name, mode, len).await?;
                    done_bytes += bytes;
                }
                Part::Object { file_id, len } => {
                    self.object(parts, staged, file_id, len).await?;
                    done_bytes += len;
                }
                Part::End(counts) => staged.counts = Some(counts),
                Part::Chunk(_) => return Err(incomplete("bytes that belong to nothing")),
            }
            report(Progress { phase: Phase::Content, done_bytes, total_bytes });
        }
        while let Some(written) = staged.running.join_next().await {
            written.map_err(|_| BackupError::Panicked)??;
        }
        Ok(())
    }

    async fn next(&self, parts: &mut mpsc::Receiver<io::Result<Part>>) -> Result<Option<Part>, BackupError> {
        parts
            .recv()
            .await
            .transpose()
            .map_err(|error| BackupError::Sealed { path: self.from.to_owned(), reason: error.into() })
    }

    async fn chunk(&self, parts: &mut mpsc::Receiver<io::Result<Part>>) -> Result<Vec<u8>, BackupError> {
        match self.next(parts).await? {
            Some(Part::Chunk(bytes)) => Ok(bytes),
            _ => Err(incomplete("a part is shorter than it says")),
        }
    }

    async fn file(
        &self,
        parts: &mut mpsc::Receiver<io::Result<Part>>,
        staged: &mut Staged,
        name: &str,
        mode: u32,
        len: u64,
    ) -> Result<u64, BackupError> {
        if name == MANIFEST {
            let mut text = Vec::new();
            while (text.len() as u64) < len {
                text.extend(self.chunk(parts).await?);
            }
            staged.manifest = Some(manifest(&text)?);
            return Ok(len);
        }
        let beside = BESIDE.iter().any(|(known, _)| *known == name);
        let known = name == DATABASE || beside || name.starts_with(POLICIES);
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if staged.manifest.is_none() || !known || !plain {
            return Err(incomplete("a file that does not belong into a backup"));
        }
        let path = staged.scratch.path().join(name);
        let failed = || BackupError::file(&path);
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed())?;
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        let mut file = file.map_err(failed())?;
        let mut left = len;
        while left > 0 {
            let chunk = self.chunk(parts).await?;
            left = left.saturating_sub(chunk.len() as u64);
            file.write_all(&chunk).map_err(failed())?;
        }
        file.sync_all().map_err(failed())?;
        Ok(len)
    }

    async fn object(
        &self,
        parts: &mut mpsc::Receiver<io::Result<Part>>,
        staged: &mut Staged,
        file_id: FileId,
        len: u64,
    ) -> Result<(), BackupError> {
        staged.objects.insert(file_id, len);
        let mut left = len;
        if len <= SMALL {
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            while left > 0 {
                let chunk = self.chunk(parts).await?;
                left = left.saturating_sub(chunk.len() as u64);
                bytes.extend(chunk);
            }
            if staged.running.len() >= AT_ONCE
                && let Some(written) = staged.running.join_next().await
            {
                written.map_err(|_| BackupError::Panicked)??;
            }
            let (stores, bytes) = (staged.stores.clone(), Bytes::from(bytes));
            staged.running.spawn(async move {
                for store in stores {
                    store.create(file_id).await?.commit(bytes.clone()).await?;
                }
                Ok(())
            });
            return Ok(());
        }
        let mut writers = Vec::with_capacity(staged.stores.len());
        for store in &staged.stores {
            writers.push(store.create(file_id).await?);
        }
        while left > 0 {
            let chunk = Bytes::from(self.chunk(parts).await?);
            left = left.saturating_sub(chunk.len() as u64);
            for writer in &mut writers {
                writer.append(chunk.clone()).await?;
            }
        }
        for writer in writers {
            writer.commit(Bytes::new()).await?;
        }
        Ok(())
    }

    /// Whether what was read fits together, and this release can serve it. Marks it as restored.
    async fn check(
        &self,
        staged: &mut Staged,
        total_bytes: u64,
        report: Report<'_>,
    ) -> Result<RestoreReport, BackupError> {
        report(Progress { phase: Phase::Checking, done_bytes: total_bytes, total_bytes });
        let manifest = staged.manifest.take().ok_or_else(|| incomplete("it does not say what it is of"))?;
        let counts = staged.counts.ok_or_else(|| incomplete("its end is missing"))?;
        let path = staged.scratch.path().join(DATABASE);
        if !path.exists() {
            return Err(incomplete("the database is missing"));
        }
        let of_check = path.clone();
        let sound = tokio::task::spawn_blocking(move || check_sqlite(&of_check)).await;
        sound.map_err(|_| BackupError::Panicked)??;
        let database = Database::open_sqlite(&path).await?;
        let checked = self.check_database(&database, &manifest, staged, counts).await;
        database.close().await;
        let missing_keys = checked?;
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(BackupError::file(&path))?;
        Ok(RestoreReport {
            data: self.data.to_owned(),
            backup: manifest,
            missing_objects: counts.missing,
            missing_keys,
            policies: staged.scratch.path().join(POLICIES).exists() && is_empty(self.policies, &[])?,
            went_on: false,
        })
    }

    async fn check_database(
        &self,
        database: &Database,
        manifest: &BackupManifest,
        staged: &Staged,
        counts: Counts,
    ) -> Result<Vec<String>, BackupError> {
        let newer = |source| match source {
            reason @ (SqlError::SchemaNewer { .. } | SqlError::SchemaChanged { .. }) => {
                BackupError::Schema { berth: manifest.berth.clone(), reason }
            }
            source => BackupError::Database(source),
        };
        self.schema.check(database).await.map_err(newer)?;
        let mut missing = 0;
        let mut after = Vec::new();
        loop {
            let page = database.read(move |tx| blobs::objects_after(tx, &after, PAGE)).await;
            let page = page.map_err(BackupError::Metadata)?;
            for object in &page {
                match staged.objects.get(&FileId::from_bytes(object.key.file_id)) {
                    Some(len) if *len == object.key.object_len => {}
                    Some(_) => return Err(incomplete("an object has another length than its row says")),
                    None => missing += 1,
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.key.file_id.to_vec(),
                _ => break,
            }
        }
        if missing != counts.missing {
            return Err(incomplete("objects that the database names are missing"));
        }
        let restored = Restored {
            at_ms: self.now_ms,
            source: format!("backup {} of {}", self.from.display(), manifest.created_at_ms),
        };
        let metadata = Metadata::open(database.clone()).await?;
        let missing_keys = keys::missing(database, self.recovery_key, self.key_dir).await?;
        metadata
            .write(move |tx| {
                adoption::forget_replicas(tx)?;
                adoption::note_restored(tx, &restored)
            })
            .await?;
        Ok(missing_keys)
    }

    /// Gives everything that was checked its place: the database last, and with it the directory counts. Goes on where
    /// an earlier attempt ended.
    fn publish(&self, restored: &RestoreReport) -> Result<(), BackupError> {
        let staged = self.data.join(RESTORING);
        for folder in self.folders() {
            publish(&folder.join(RESTORING), folder)?;
        }
        if restored.policies {
            publish(&staged.join(POLICIES), self.policies)?;
        }
        if let Some(key) = self.recovery_key {
            key.install(self.key_dir)?;
        }
        for (name, place) in BESIDE.iter().chain(&[(DATABASE, DATABASE)]) {
            let (from, to) = (staged.join(name), self.data.join(place));
            if from.exists() {
                std::fs::rename(&from, &to).map_err(BackupError::file(&to))?;
            }
            durable::sync_directory(self.data).map_err(BackupError::file(self.data))?;
        }
        std::fs::remove_dir_all(&staged).map_err(BackupError::file(&staged))
    }
}

fn manifest(text: &[u8]) -> Result<BackupManifest, BackupError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
        berth: String,
    }
    let malformed = |_| incomplete("it does not say what it is of");
    let head: Head = serde_json::from_slice(text).map_err(malformed)?;
    if head.format > FORMAT {
        return Err(BackupError::Newer { found: head.format, berth: head.berth, supported: FORMAT });
    }
    serde_json::from_slice(text).map_err(malformed)
}

fn incomplete(what: &str) -> BackupError {
    BackupError::Incomplete { what: what.to_owned() }
}
