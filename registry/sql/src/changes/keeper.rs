//! The keeper of one replica: brings it up to date with a copy of the database, and lets old changes go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{Position, remove_all, remove_older, write_snapshot};
use super::replica::Queue;
use super::standing::{Shared, Standing};
use crate::session::{Access, Session};
use crate::{Error, copy_sqlite};

/// How often a keeper looks.
const LOOK: Duration = Duration::from_millis(200);
/// Between two attempts to bring a replica back.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) queue: Queue,
    pub(super) database: PathBuf,
}

impl Keeper {
    /// Starts the thread; it ends when the log is closed.
    pub(super) fn start(self) -> std::io::Result<()> {
        let name = format!("sql-keeper-{}", self.index);
        std::thread::Builder::new().name(name).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut not_before = Instant::now();
        while !self.shared.is_closing() {
            let (standing, log_bytes) = self.shared.standing(self.index);
            let due = match standing {
                Standing::Joining => false,
                Standing::Out => true,
                Standing::InSync => {
                    log_bytes >= enough(&self.shared, &self.database)
                        || self.shared.wish(self.index).is_some()
                }
            };
            let due = due && Instant::now() >= not_before;
            if !due {
                self.shared.wait(LOOK);
                continue;
            }
            match self.refresh() {
                Ok(()) => pause = FIRST_PAUSE,
                Err(problem) => {
                    tracing::warn!(
                        replica.id = self.shared.config.replicas[self.index].name,
                        problem,
                        "the database could not be copied to a replica"
                    );
                    if standing == Standing::Out {
                        self.shared.leave_out(self.index, problem);
                    }
                    not_before = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// A new log from now on, and a copy of the database behind which everything older can go.
    fn refresh(&self) -> Result<(), String> {
        let replica = &self.shared.config.replicas[self.index];
        let wish = self.shared.wish(self.index);
        let log = self.shared.begin(self.index, &self.queue)?;
        let term = self.shared.term();
        let copy = Copy::make(&self.database, &replica.name, term).map_err(|error| error.to_string())?;
        let shown = |error: std::io::Error| format!("{}: {error}", replica.root.display());
        (replica.check)()?;
        write_snapshot(
            &replica.root,
            copy.at,
            &copy.path,
            term,
            self.shared.config.seal.as_ref(),
            &self.shared.preface(self.index),
        )
        .map_err(shown)?;
        self.shared.update(self.index, |replica| {
            if replica.standing == Standing::Joining {
                replica.standing = Standing::InSync;
                replica.confirmed = replica.confirmed.max(log.sequence);
                replica.problem = None;
            }
        });
        remove_older(&replica.root, log, copy.at).map_err(shown)?;
        self.shared.fulfilled(self.index, wish);
        Ok(())
    }
}

/// Bytes of changes that are worth a new copy: as many as the database has, or the least that is configured.
pub(super) fn enough(shared: &Shared, database: &Path) -> u64 {
    let len = std::fs::metadata(database).map_or(0, |found| found.len());
    len.max(shared.config.snapshot_bytes)
}

/// A copy of the database beside it, in clear like it, for as long as it is needed.
pub(super) struct Copy {
    pub(super) path: PathBuf,
    pub(super) at: Position,
}

impl Copy {
    /// `term` is the caller's, of whom there may be an earlier one that hangs still.
    pub(super) fn make(database: &Path, name: &str, term: u64) -> Result<Copy, Error> {
        let earlier = database.with_extension(format!("copy-for-{name}."));
        if let (Some(folder), Some(earlier)) = (earlier.parent(), earlier.file_name()) {
            drop(remove_all(folder, &earlier.to_string_lossy()));
        }
        let path = database.with_extension(format!("copy-for-{name}.{term}"));
        let mut copy = Copy { path, at: Position { term: 0, sequence: 0 } };
        copy_sqlite(database, &copy.path, &mut |_, _| {})?;
        let session = Session::open(&copy.path, Access::Read)?;
        let at = super::log::stored(&session)?;
        copy.at = Position { term: at.term, sequence: at.sequence };
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            drop(std::fs::remove_file(path));
        }
    }
}
