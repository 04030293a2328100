//! What one replica holds: a snapshot and the groups behind it, as far as they follow on each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::files::{FrameReader, Next, Position, list};
use super::record::{Place, Preface};
use super::{ChangeLogConfig, LogFile, LogSeal};

/// Takes a group and its place.
type Give<'a> = dyn FnMut(Place, &[u8]) -> Result<(), String> + 'a;

/// Where a replica's changes end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) replica: String,
    /// The last term that it took part in.
    pub(super) term: u64,
    pub(super) sequence: u64,
}

/// A group, by its file and its place in it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    file: usize,
    index: usize,
    place: Place,
}

/// A replica's files, read once.
pub(super) struct Chain {
    pub(super) snapshots: Vec<(Position, PathBuf)>,
    logs: Vec<(Position, PathBuf)>,
    entries: Vec<Entry>,
    /// The last preface that was read.
    pub(super) preface: Preface,
    /// A whole frame did not open: what came behind it is not known.
    pub(super) damaged: bool,
}

impl Chain {
    /// Reads every log under `root`. Blocks.
    pub(super) fn read(root: &Path, seal: &dyn LogSeal) -> Result<Chain, String> {
        let shown = |error: std::io::Error| format!("{}: {error}", root.display());
        let snapshots = list(root, LogFile::Snapshot).map_err(shown)?;
        let logs = list(root, LogFile::Changes).map_err(shown)?;
        let mut chain =
            Chain { snapshots, logs, entries: Vec::new(), preface: Preface::default(), damaged: false };
        for file in 0..chain.logs.len() {
            chain.read_log(file, seal)?;
        }
        if chain.preface.replicas.is_empty()
            && let Some((at, path)) = chain.snapshots.last()
            && let Some(reader) = FrameReader::open(path, LogFile::Snapshot, *at, seal)?
        {
            chain.preface = reader.preface;
        }
        Ok(chain)
    }

    fn read_log(&mut self, file: usize, seal: &dyn LogSeal) -> Result<(), String> {
        let (at, path) = self.logs[file].clone();
        // What was sent before this log was begun, and not committed, is void.
        self.give_up_after(at.sequence);
        let Some(mut reader) = FrameReader::open(&path, LogFile::Changes, at, seal)? else { return Ok(()) };
        self.preface = reader.preface.clone();
        for index in 0.. {
            match reader.next().map_err(|error| format!("{}: {error}", path.display()))? {
                Next::Frame(frame) => {
                    let place = Place::of(&frame).ok_or_else(|| format!("{} is damaged", path.display()))?;
                    self.give_up_after(place.previous);
                    if self.entries.last().is_some_and(|last| last.place.sequence != place.previous) {
                        // A gap: only a snapshot behind it leads on.
                        self.entries.clear();
                    }
                    self.entries.push(Entry { file, index, place });
                }
                Next::End => return Ok(()),
                Next::Last(_) | Next::Damaged => {
                    self.damaged = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn give_up_after(&mut self, sequence: u64) {
        while self.entries.last().is_some_and(|last| last.place.sequence > sequence) {
            self.entries.pop();
        }
    }

    /// The groups that lead on from a snapshot.
    fn behind(&self, snapshot: u64) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.place.sequence <= snapshot);
        let behind = &self.entries[from..];
        match behind.first() {
            Some(first) if first.place.previous == snapshot => behind,
            _ => &[],
        }
    }

    /// The last term and the last group, with the newest snapshot as its base. `None` without a snapshot.
    pub(super) fn end(&self) -> Option<(u64, u64)> {
        let (snapshot, _) = self.snapshots.last()?;
        let term = self.logs.last().map_or(snapshot.term, |(at, _)| at.term.max(snapshot.term));
        let last = self.behind(snapshot.sequence).last();
        Some((term, last.map_or(snapshot.sequence, |entry| entry.place.sequence)))
    }

    /// Gives every group that leads on from a snapshot, in its order.
    pub(super) fn replay(
        &self,
        snapshot: u64,
        seal: &dyn LogSeal,
        give: &mut Give<'_>,
    ) -> Result<(), String> {
        let mut by_file: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
        for entry in self.behind(snapshot) {
            by_file.entry(entry.file).or_default().push(*entry);
        }
        for (file, entries) in by_file {
            let (at, path) = &self.logs[file];
            let gone = || format!("{} was changed while it was read", path.display());
            let mut reader = FrameReader::open(path, LogFile::Changes, *at, seal)?.ok_or_else(gone)?;
            let mut wanted = entries.into_iter().peekable();
            let mut index = 0;
            while let Some(entry) = wanted.peek().copied() {
                let Next::Frame(frame) = reader.next().map_err(|error| error.to_string())? else {
                    return Err(gone());
                };
                if index == entry.index {
                    give(entry.place, &frame)?;
                    wanted.next();
                }
                index += 1;
            }
        }
        Ok(())
    }
}

/// Where every configured replica ends; `None` for one that cannot be read in time or holds nothing. Blocks.
pub(super) fn ends(config: &ChangeLogConfig, patience: Duration) -> Vec<Option<End>> {
    let deadline = Instant::now() + patience;
    let running: Vec<_> = config
        .replicas
        .iter()
        .map(|replica| {
            if replica.remote.is_some() {
                return None;
            }
            let (sender, answer) = sync_channel(1);
            let (replica, seal) = (replica.clone(), Arc::clone(&config.seal));
            // A thread that hangs on a dead disk is left behind.
            let started = std::thread::Builder::new().name("sql-log-end".into()).spawn(move || {
                let end = (replica.check)()
                    .and_then(|()| Chain::read(&replica.root, seal.as_ref()))
                    .inspect_err(|problem| {
                        tracing::warn!(
                            replica.id = replica.name,
                            problem,
                            "a replica's changes cannot be read"
                        );
                    })
                    .ok()
                    .and_then(|chain| chain.end());
                let end = end.map(|(term, sequence)| End { replica: replica.name.clone(), term, sequence });
                drop(sender.send(end));
            });
            started.ok().map(|_| answer)
        })
        .collect();
    running
        .into_iter()
        .map(|answer| answer?.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?)
        .collect()
}
