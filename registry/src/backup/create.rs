//! Taking a backup while the server serves, or while it does not.
//!
//! First the deletion of objects is held up, then the database is copied, then every object that the copy
//! names is verified and written. What is pushed meanwhile is not in it; what was acknowledged before, is.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use registry_blob::{
    Buffer, ContentStore, Domain, FileId, KeyRow, ObjectReader, Pace, ReplicaId, Replicated,
};
use registry_core::Places;
use registry_metadata::blobs::{self, Object};
use registry_metadata::{Metadata, replicas};
use registry_runtime::{Hold, KeyProvider, StreamKey, durable};
use registry_sql::{Database, copy_sqlite};
use registry_types::{AccountId, Region};
use serde::Serialize;

use super::archive::ArchiveWriter;
use super::error::BackupError;
use super::staging::{Scratch, own};
use super::{BESIDE, BackupManifest, DATABASE, FORMAT, MANIFEST, POLICIES, Phase, Progress, Report};

/// Key rows read at once.
const PAGE: u32 = 500;
/// Bytes of an object read at once.
const SPAN: u64 = 1 << 20;

/// What is backed up, and where to.
pub struct NewBackup<'a> {
    /// The data directory; a copy of the database lies in it meanwhile.
    pub data: &'a Path,
    pub database: &'a Path,
    /// Where policy files lie; a folder that is not there is left out.
    pub policies: &'a Path,
    /// The lock that whoever deletes objects takes.
    pub deletion_lock: &'a Path,
    /// Where replicas can lie, and those of the configuration.
    pub places: &'a dyn Places,
    pub locations: &'a [String],
    pub keys: Arc<dyn KeyProvider>,
    pub key: &'a StreamKey,
    pub account_id: &'a AccountId,
    pub region: &'a Region,
    /// Release that writes it.
    pub berth: &'a str,
    pub now_ms: i64,
    pub output: &'a Path,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupReport {
    pub file: PathBuf,
    pub bytes: u64,
    pub database_bytes: u64,
    pub objects: u64,
    pub object_bytes: u64,
    /// Digests that no replica holds whole: they were lost before, and are not in the backup.
    pub damaged: Vec<String>,
}

impl NewBackup<'_> {
    /// Writes the backup. The output appears under its name only when it is whole and durable.
    ///
    /// # Errors
    /// Nothing is left of an output that could not be finished.
    pub async fn write(&self, report: Report<'_>) -> Result<BackupReport, BackupError> {
        if self.output.exists() {
            return Err(BackupError::OutputExists { path: self.output.to_owned() });
        }
        let lock = self.deletion_lock.to_owned();
        let hold = tokio::task::spawn_blocking(move || Hold::share(&lock)).await;
        let _hold =
            hold.map_err(|_| BackupError::Panicked)?.map_err(BackupError::file(self.deletion_lock))?;
        let scratch = Scratch::make(&self.data.join(".backup"))?;
        let copy = scratch.path().join(DATABASE);
        copy_sqlite(self.database, &copy, &mut |done_bytes, total_bytes| {
            report(Progress { phase: Phase::Database, done_bytes, total_bytes });
        })?;

        let unfinished = unfinished(self.output);
        let file = start_anew(&unfinished)?;
        let written = self.write_into(file, &copy, report).await;
        let renamed = written.and_then(|written| {
            std::fs::rename(&unfinished, self.output)
                .and_then(|()| durable::sync_directory(folder(self.output)))
                .map_err(BackupError::file(self.output))?;
            Ok(written)
        });
        renamed.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
    }

    async fn write_into(
        &self,
        file: File,
        copy: &Path,
        report: Report<'_>,
    ) -> Result<BackupReport, BackupError> {
        let database = Database::open_sqlite(copy).await?;
        // Of an older release perhaps: the rows are read as this one knows them.
        Metadata::open(database.clone()).await?;
        let content = self.content(&database).await?;
        let manifest = self.manifest(&database).await?;
        let failed = BackupError::file(self.output);
        let mut archive = ArchiveWriter::start(file, self.key).map_err(failed)?;
        let source = Source { database: &database, content: &content, copy };
        let parts = self.parts(&mut archive, &manifest, &source, report).await;
        database.close().await;
        let mut written = match parts {
            Ok(written) => written,
            Err(BackupError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                return Err(BackupError::file(self.output)(archive.failure().await));
            }
            Err(error) => return Err(error),
        };
        let missing = written.damaged.len() as u64;
        let counts = archive.finish(missing).await.map_err(BackupError::file(self.output))?;
        written.objects = counts.objects;
        let unfinished = unfinished(self.output);
        written.bytes = std::fs::metadata(&unfinished).map_err(BackupError::file(&unfinished))?.len();
        Ok(written)
    }

    /// The content, for reading.
    async fn content(&self, database: &Database) -> Result<ContentStore, BackupError> {
        let rows = database.read(|tx| replicas::all(tx)).await.map_err(BackupError::Metadata)?;
        let mut places: Vec<(String, String)> =
            rows.into_iter().filter_map(|row| Some((row.id, row.location?))).collect();
        if places.is_empty() {
            let numbered = self.locations.iter().enumerate();
            places = numbered.map(|(number, one)| (format!("replica{number}"), one.clone())).collect();
        }
        let mut stores = Vec::with_capacity(places.len());
        for (id, location) in places {
            let id = ReplicaId::new(&id);
            let store = self.places.open(&location, &id)?;
            stores.push((id, store));
        }
        let all = stores.len();
        let replicas = Replicated::new(stores, Some(all))
            .map_err(|error| BackupError::Incomplete { what: error.to_string() })?;
        Ok(ContentStore::new(replicas, Arc::clone(&self.keys)))
    }

    async fn manifest(&self, database: &Database) -> Result<BackupManifest, BackupError> {
        let (mut objects, mut object_bytes) = (0, 0);
        let mut after = Vec::new();
        loop {
            let page = page(database, after).await?;
            objects += page.len() as u64;
            object_bytes += page.iter().map(|object| object.key.object_len).sum::<u64>();
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.key.file_id.to_vec(),
                _ => break,
            }
        }
        Ok(BackupManifest {
            format: FORMAT,
            berth: self.berth.to_owned(),
            installation: self.key.installation().to_owned(),
            created_at_ms: self.now_ms,
            account_id: self.account_id.to_string(),
            region: self.region.to_string(),
            schemas: database.schema_versions().await?.into_iter().collect(),
            objects,
            object_bytes,
        })
    }

    async fn parts(
        &self,
        archive: &mut ArchiveWriter,
        manifest: &BackupManifest,
        source: &Source<'_>,
        report: Report<'_>,
    ) -> Result<BackupReport, BackupError> {
        let failed = || BackupError::file(self.output);
        let text = serde_json::to_vec(manifest).map_err(|error| failed()(error.into()))?;
        archive.begin_file(MANIFEST, 0o600, text.len() as u64).await.map_err(failed())?;
        archive.chunk(text).await.map_err(failed())?;
        let mut damaged = Vec::new();
        let mut done_bytes = 0;
        let mut after = Vec::new();
        loop {
            let page = page(source.database, after).await?;
            for object in &page {
                if !self.object(archive, source.content, object).await? {
                    damaged.push(object.digest.to_string());
                }
                done_bytes += object.key.object_len;
                report(Progress { phase: Phase::Content, done_bytes, total_bytes: manifest.object_bytes });
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.key.file_id.to_vec(),
                _ => break,
            }
        }
        // Closed before it is read as a file: then all of it lies in the file.
        source.database.close().await;
        let database_bytes = archive.file(DATABASE, source.copy).await?;
        for (name, _) in BESIDE {
            let path = self.data.join(name);
            if path.is_file() {
                archive.file(name, &path).await?;
            }
        }
        self.policy_files(archive).await?;
        Ok(BackupReport {
            file: self.output.to_owned(),
            bytes: 0,
            database_bytes,
            objects: 0,
            object_bytes: done_bytes,
            damaged,
        })
    }

    /// Copies an object from the first replica whose copy is good to the last byte. False when none is.
    async fn object(
        &self,
        archive: &mut ArchiveWriter,
        content: &ContentStore,
        object: &Object,
    ) -> Result<bool, BackupError> {
        let row = key_row(object);
        let replicas = content.replicas();
        let ids: Vec<ReplicaId> = replicas.replica_ids().cloned().collect();
        for id in &ids {
            match content.verify_keyed(id, &row, &object.digest, &Pace::unbounded()).await {
                Ok(None) => {}
                Ok(Some(damage)) => {
                    tracing::warn!(
                        replica.id = %id,
                        object.file_id = %row.file_id,
                        reason = damage.reason,
                        "a copy is damaged"
                    );
                    continue;
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(replica.id = %id, error, "a replica cannot be read");
                    continue;
                }
            }
            let Some(store) = replicas.store(id) else { continue };
            let reader = store.open(row.file_id).await?;
            self.copy(archive, row.file_id, reader.as_ref()).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn copy(
        &self,
        archive: &mut ArchiveWriter,
        file_id: FileId,
        reader: &dyn ObjectReader,
    ) -> Result<(), BackupError> {
        let failed = || BackupError::file(self.output);
        let len = reader.len();
        archive.begin_object(file_id, len).await.map_err(failed())?;
        let mut offset = 0;
        while offset < len {
            let span = usize::try_from((len - offset).min(SPAN)).expect("a span fits");
            let buffer = reader.read_at(offset, Buffer::new(span), 0, span).await?;
            archive.chunk(buffer[..span].to_vec()).await.map_err(failed())?;
            offset += span as u64;
        }
        Ok(())
    }

    async fn policy_files(&self, archive: &mut ArchiveWriter) -> Result<(), BackupError> {
        let mut folders = vec![self.policies.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BackupError::file(&folder)(error)),
            };
            for entry in entries {
                let path = entry.map_err(BackupError::file(&folder))?.path();
                let Ok(relative) = path.strip_prefix(self.policies) else { continue };
                // What begins with a dot is none of the policy files, git's own files above all.
                let hidden = relative.file_name().is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
                let Some(name) = relative.to_str().filter(|_| !hidden) else { continue };
                if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() {
                    archive.file(&format!("{POLICIES}{name}"), &path).await?;
                }
            }
        }
        Ok(())
    }
}

/// What is copied from.
struct Source<'a> {
    database: &'a Database,
    content: &'a ContentStore,
    /// The file of `database`.
    copy: &'a Path,
}

async fn page(database: &Database, after: Vec<u8>) -> Result<Vec<Object>, BackupError> {
    let page = database.read(move |tx| blobs::objects_after(tx, &after, PAGE)).await;
    page.map_err(BackupError::Metadata)
}

/// A key row as the content store takes it.
fn key_row(object: &Object) -> KeyRow {
    let key = &object.key;
    KeyRow {
        domain: Domain::new(object.domain.as_str()),
        file_id: FileId::from_bytes(key.file_id),
        total_len: key.total_len,
        object_len: key.object_len,
        footer_sha256: key.footer_sha256,
        epoch: key.epoch,
        dek_id: key.dek_id,
        wrap_nonce: key.wrap_nonce,
        wrapped: key.wrapped,
    }
}

/// Makes a file that is this process's alone, in the place of one that a process which ended left.
fn start_anew(unfinished: &Path) -> Result<File, BackupError> {
    let failed = || BackupError::file(unfinished);
    if unfinished.exists() {
        let _left = own(unfinished)?;
        std::fs::remove_file(unfinished).map_err(failed())?;
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(unfinished);
    let file = file.map_err(failed())?;
    file.lock().map_err(failed())?;
    Ok(file)
}

fn unfinished(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!(".{name}.unfinished"))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
