//! Carries the log to a replica that is no folder of this machine: what was committed is there within a second.
//!
//! Nothing can be appended to a file that lies there. So its groups are written to a folder here, as those of any
//! replica are; each half second, if something came, a new file is begun, and those before it go out whole. A
//! start brings a new copy of the database there, unless the server before it stopped in order and left everything
//! there; so does one that has missed something. Invariant: a file is removed here once it lies there, and there once
//! a copy of the database stands for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{self, Position, list, name, remove_older, write_snapshot};
use super::keeper::{Copy, enough};
use super::replica::Queue;
use super::shipped::Shipped;
use super::standing::{Shared, Standing};
use super::{LogFile, LogRemote};

const EVERY: Duration = Duration::from_millis(500);
/// Between two attempts after one that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Shipper {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) queue: Queue,
    pub(super) database: PathBuf,
    pub(super) remote: Arc<dyn LogRemote>,
    /// Bytes of changes that lie there behind the last copy of the database.
    pub(super) shipped_bytes: u64,
}

impl Shipper {
    /// Goes on with what lies there, before any group is sent, where the server before this one left all of it
    /// there. `stopped` is where the database stood when it was opened, `there` the names of the files.
    pub(super) fn go_on(&mut self, stopped: Position, there: Vec<String>) {
        let root = &self.shared.config.replicas[self.index].root;
        let most = enough(&self.shared, &self.database);
        let fits =
            |shipped: &Shipped| shipped.bytes < most && shipped.fits(&self.remote.location(), stopped, there);
        let Some(shipped) = Shipped::take(root).filter(fits) else { return };
        let begun = self.shared.begin(self.index, &self.queue);
        let begun = begun.and_then(|log| remove_older(root, log, log).map_err(shown));
        match begun {
            Err(problem) => self.shared.leave_out(self.index, problem),
            Ok(()) => {
                self.shipped_bytes = shipped.bytes;
                self.shared.update(self.index, |replica| {
                    replica.standing = Standing::InSync;
                    replica.staged = shipped.at.sequence;
                    replica.confirmed = shipped.at.sequence;
                });
            }
        }
    }

    /// Starts the thread; it ends when the log is closed, having carried what it could.
    pub(super) fn start(mut self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.shipper_began();
        let named = std::thread::Builder::new().name(format!("sql-shipper-{}", self.index));
        let started = named.spawn(move || {
            self.run();
            self.shared.shipper_ended();
        });
        if started.is_err() {
            shared.shipper_ended();
        }
        started.map(drop)
    }

    fn run(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut not_before = Instant::now();
        let mut last_round = Instant::now();
        loop {
            let is_last = self.shared.is_closing();
            if is_last || (Instant::now() >= not_before && last_round.elapsed() >= EVERY) {
                last_round = Instant::now();
                match self.round(is_last) {
                    Ok(()) => pause = FIRST_PAUSE,
                    Err(problem) => {
                        tracing::warn!(
                            replica.id = self.shared.config.replicas[self.index].name,
                            problem,
                            "the database's changes did not reach a replica"
                        );
                        self.failed(problem);
                        not_before = Instant::now() + pause;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
            if is_last {
                return self.leave();
            }
            self.shared.wait(EVERY / 5);
        }
    }

    fn round(&mut self, is_last: bool) -> Result<(), String> {
        let (standing, _) = self.shared.standing(self.index);
        let wants_copy = standing != Standing::InSync
            || self.shipped_bytes >= enough(&self.shared, &self.database)
            || self.shared.wish(self.index).is_some();
        if wants_copy && !is_last {
            self.refresh()?;
            self.shipped_bytes = 0;
        }
        let (staged, held) = self.shared.on_its_way(self.index);
        if staged > held && self.shared.standing(self.index).0 == Standing::InSync {
            self.shipped_bytes += self.ship()?;
        }
        Ok(())
    }

    /// Notes for the next start what lies there, if that is everything.
    fn leave(&self) {
        let numbers = *self.shared.numbers.lock();
        let (standing, _) = self.shared.standing(self.index);
        let (_, held) = self.shared.on_its_way(self.index);
        // A group that was sent and given up may lie there.
        let is_whole = held == numbers.committed && numbers.sent == numbers.committed;
        if standing != Standing::InSync || !is_whole {
            return;
        }
        let replica = &self.shared.config.replicas[self.index];
        let at = Position { term: numbers.term, sequence: numbers.committed };
        let noted = self.remote.list().and_then(|there| {
            let shipped = Shipped::new(self.remote.location(), at, self.shipped_bytes, there);
            shipped.write(&replica.root).map_err(shown)
        });
        if let Err(problem) = noted {
            tracing::debug!(
                replica.id = replica.name,
                problem,
                "the next start brings a copy of the database"
            );
        }
    }

    /// A new log from now on, and a copy of the database behind which everything older can go.
    fn refresh(&self) -> Result<(), String> {
        let replica = &self.shared.config.replicas[self.index];
        let wish = self.shared.wish(self.index);
        (replica.check)()?;
        std::fs::create_dir_all(&replica.root).map_err(shown)?;
        let log = self.shared.begin(self.index, &self.queue)?;
        let term = self.shared.term();
        let copy = Copy::make(&self.database, &replica.name, term).map_err(|error| error.to_string())?;
        let (seal, preface) = (self.shared.config.seal.as_ref(), self.shared.preface(self.index));
        write_snapshot(&replica.root, copy.at, &copy.path, term, seal, &preface).map_err(shown)?;
        let snapshot = name(LogFile::Snapshot, copy.at);
        let path = files::folder(&replica.root).join(&snapshot);
        let put = self.remote.put(&snapshot, &path);
        drop(std::fs::remove_file(path));
        put?;
        self.shared.update(self.index, |replica| {
            if replica.standing == Standing::Joining {
                replica.standing = Standing::InSync;
                replica.problem = None;
            }
            replica.confirmed = replica.confirmed.max(copy.at.sequence);
        });
        remove_older(&replica.root, log, log).map_err(shown)?;
        for file in self.remote.list()? {
            let is_older = match files::parse(&file) {
                Some((LogFile::Snapshot, at)) => at < copy.at,
                Some((LogFile::Changes, at)) => at < log,
                None => false,
            };
            if is_older {
                self.remote.delete(&file)?;
            }
        }
        self.shared.fulfilled(self.index, wish);
        Ok(())
    }

    /// Carries every file that is whole. Gives their bytes.
    fn ship(&self) -> Result<u64, String> {
        let root = &self.shared.config.replicas[self.index].root;
        let at: Position = self.shared.begin(self.index, &self.queue)?;
        let mut bytes = 0;
        for (began, path) in list(root, LogFile::Changes).map_err(shown)? {
            if began >= at {
                break;
            }
            bytes += std::fs::metadata(&path).map_err(shown)?.len();
            self.remote.put(&name(LogFile::Changes, began), &path)?;
            std::fs::remove_file(&path).map_err(shown)?;
        }
        self.shared.update(self.index, |replica| replica.confirmed = replica.confirmed.max(at.sequence));
        Ok(bytes)
    }

    /// What could not be carried waits here, unless it is more than a new copy of the database would be.
    fn failed(&self, problem: String) {
        let root = &self.shared.config.replicas[self.index].root;
        let waiting = list(root, LogFile::Changes).unwrap_or_default();
        let bytes: u64 =
            waiting.iter().filter_map(|(_, path)| Some(std::fs::metadata(path).ok()?.len())).sum();
        let (standing, _) = self.shared.standing(self.index);
        if standing != Standing::InSync || bytes > 2 * enough(&self.shared, &self.database) {
            self.shared.leave_out(self.index, problem);
            drop(std::fs::remove_dir_all(files::folder(root)));
        }
    }
}

fn shown(error: std::io::Error) -> String {
    error.to_string()
}
