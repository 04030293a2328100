//! The change log of a SQLite database on the replicas that are folders: where it is kept, and under which key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use registry_blob::FsStore;
use registry_runtime::{KeyProvider, RecordSeal, StreamKey, StreamKind};
use registry_sql::{ChangeLogConfig, FrameSeal, LogFile, LogReplica, LogSeal};

use crate::config::Settings;

/// Bytes of changes after which a new copy of the database is written, at the least.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// The replicas of the configuration that are folders of this machine.
fn folders(settings: &Settings) -> Vec<PathBuf> {
    settings.replica_locations().into_iter().map(PathBuf::from).filter(|path| path.is_absolute()).collect()
}

/// Where the log is kept; `None` with one replica only, or with a database that replicates itself.
pub(crate) fn config(settings: &Settings, keys: &dyn KeyProvider) -> Result<Option<ChangeLogConfig>> {
    let folders = folders(settings);
    if settings.config.database.is_some() || folders.len() < 2 {
        return Ok(None);
    }
    let quorum = settings.config.write_quorum.unwrap_or(folders.len() / 2 + 1).min(folders.len());
    let key = StreamKey::of(keys)?;
    let cluster = key.installation().to_owned();
    let replicas = folders.into_iter().enumerate().map(|(number, root)| {
        let (place, cluster) = (root.clone(), cluster.clone());
        LogReplica {
            name: format!("replica{number}"),
            root,
            check: Arc::new(move || check(&place, &cluster)),
        }
    });
    Ok(Some(ChangeLogConfig {
        replicas: replicas.collect(),
        quorum,
        seal: Arc::new(Seal(key)),
        snapshot_bytes: SNAPSHOT_BYTES,
    }))
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
pub(crate) fn refuse_lost_database(settings: &Settings) -> Result<()> {
    for root in folders(settings) {
        if registry_sql::holds_change_log(&root) {
            bail!(
                "the database of {} is gone, and replica {} holds everything that was in it: bring it back with \
                 `berth restore --from-replica {}`",
                settings.data.display(),
                root.display(),
                root.display()
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
