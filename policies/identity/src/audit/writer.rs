//! The thread that writes the audit log.
//!
//! Lines are linked to the chain and written in batches, whole. When the disk is full it keeps what it has and
//! tries again; changes are refused meanwhile, and everything once too much waits. A file that was moved away
//! (logrotate) is made anew, and begins with a checkpoint.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::chain::{Head, LineKey, Position};
use super::{Message, State};

const BATCH: usize = 256 * 1024;
/// How long lines gather behind those that were written, so that not every request wakes the writer; not longer than
/// there is room for them, nor while anybody waits for them.
const GATHER_FOR: Duration = Duration::from_millis(50);
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often a stop that cannot write tries before it gives up.
const ATTEMPTS_AT_THE_END: u32 = 4;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    path: PathBuf,
    file: File,
    position: Position,
    /// Linked lines that are not in the file yet, and how many.
    pending: Vec<u8>,
    pending_lines: usize,
    /// Records that are in the file, and perhaps not on the disk.
    unsynced: Vec<i64>,
    checkpoint_at: Instant,
    /// The number of the last checkpoint's line.
    checkpoint_number: u64,
}

/// How it goes on after a batch.
enum Next {
    /// With the lines that come meanwhile.
    Gather,
    /// With those that are there.
    GoOn,
    End,
}

/// What the keeper is to do.
pub(super) struct Tending {
    /// Records that are in the log durably.
    pub(super) logged: Vec<i64>,
    pub(super) due: Option<Due>,
}

/// A checkpoint that is due: the writer waits for it.
pub(super) struct Due {
    /// Number and MAC of the last line, which is durable.
    pub(super) covers: (u64, Head),
    /// Where the line of the checkpoint will begin.
    pub(super) offset: u64,
    /// Whether it begins a file.
    pub(super) begins_file: bool,
    pub(super) answer: oneshot::Sender<Signed>,
}

/// A checkpoint that is in the metadata.
pub(super) struct Signed {
    /// Its line, begun but not ended.
    pub(super) line: String,
    /// The key that this and the lines after it are written with.
    pub(super) key: LineKey,
}

impl Writer {
    /// `checkpoint_number`: the number of the line of the last checkpoint.
    pub(super) fn new(path: &Path, file: File, position: Position, checkpoint_number: u64) -> Self {
        Self {
            path: path.to_owned(),
            file,
            position,
            pending: Vec::with_capacity(BATCH),
            pending_lines: 0,
            unsynced: Vec::new(),
            checkpoint_at: Instant::now(),
            checkpoint_number,
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>, state: &State) {
        while let Ok(message) = messages.recv() {
            match self.batch(message, messages, state) {
                // While this thread sleeps instead of listening, nobody has to wake it for each line.
                Next::Gather => std::thread::park_timeout(GATHER_FOR),
                Next::GoOn => {}
                Next::End => return,
            }
        }
        self.finish(state);
    }

    /// Writes what has come.
    fn batch(&mut self, first: Message, messages: &Receiver<Message>, state: &State) -> Next {
        let mut flushed = Vec::new();
        let mut tend = None;
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Line(record, line) => self.link(record, line),
                Message::Flush(done) => flushed.push(done),
                Message::Tend { checkpoint, reply } => tend = Some((checkpoint, reply)),
                Message::Close => {
                    self.finish(state);
                    return Next::End;
                }
            }
            if tend.is_none() && self.pending.len() < BATCH {
                next = messages.try_recv().ok();
            }
        }
        let is_all = tend.is_none() && self.pending.len() < BATCH;
        while !self.write(state) {
            // The keeper has other things to do, and will ask again.
            tend = None;
            if state.closed.load(Ordering::Acquire) {
                return Next::GoOn;
            }
            pause(RETRY_AFTER);
            if self.is_moved_away()
                && let Ok(file) = open(&self.path)
            {
                self.file = file;
            }
        }
        drop(flushed);
        if let Some((checkpoint, reply)) = tend {
            self.tend(checkpoint, reply, state);
        }
        if is_all { Next::Gather } else { Next::GoOn }
    }

    fn link(&mut self, record: Option<i64>, mut line: String) {
        if let Some(record) = record {
            line.push_str(&change_member(record));
            self.unsynced.push(record);
        }
        self.position.link(&mut self.pending, &line);
        self.pending_lines += 1;
    }

    /// Writes what is pending; false when something is left.
    fn write(&mut self, state: &State) -> bool {
        let mut written = 0;
        let result = loop {
            if written == self.pending.len() {
                break Ok(());
            }
            match self.file.write(&self.pending[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..written);
        if self.pending.is_empty() {
            state.waiting.fetch_sub(self.pending_lines, Ordering::Relaxed);
            self.pending_lines = 0;
        }
        let failing = state.failing.load(Ordering::Relaxed);
        match result {
            Ok(()) if failing => {
                state.failing.store(false, Ordering::Release);
                tracing::info!("the audit log is written again");
            }
            Err(error) if !failing => {
                state.failing.store(true, Ordering::Release);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    path = %self.path.display(),
                    "the audit log cannot be written; changes are refused"
                );
            }
            Ok(()) | Err(_) => {}
        }
        self.pending.is_empty()
    }

    /// Tells the keeper what is durable, and waits for the checkpoint where one is due.
    fn tend(&mut self, checkpoint: bool, reply: oneshot::Sender<Tending>, state: &State) {
        let moved = self.is_moved_away();
        let lines_since = self.position.number > self.checkpoint_number;
        let due = moved || (lines_since && (checkpoint || self.checkpoint_at.elapsed() >= CHECKPOINT_EVERY));
        let mut tending = Tending { logged: Vec::new(), due: None };
        if (due || !self.unsynced.is_empty()) && !self.sync() {
            let _ = reply.send(tending);
            return;
        }
        tending.logged = std::mem::take(&mut self.unsynced);
        if !due {
            let _ = reply.send(tending);
            return;
        }
        let file = if moved { open(&self.path) } else { self.file.try_clone() };
        let Ok((file, offset)) = file.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())))
        else {
            let _ = reply.send(tending);
            return;
        };
        let (answer, signed) = oneshot::channel();
        let covers = (self.position.number, self.position.head);
        tending.due = Some(Due { covers, offset, begins_file: offset == 0, answer });
        if reply.send(tending).is_err() {
            return;
        }
        // Without an answer the metadata did not take it, and the chain goes on as it was.
        let Ok(signed) = signed.blocking_recv() else { return };
        self.file = file;
        self.position.key = signed.key;
        self.link(None, signed.line);
        // Nobody took room for it.
        state.waiting.fetch_add(1, Ordering::Relaxed);
        self.checkpoint_at = Instant::now();
        self.checkpoint_number = self.position.number;
        if self.write(state) {
            self.sync();
        }
    }

    fn sync(&self) -> bool {
        let synced = self.file.sync_data();
        if let Err(error) = &synced {
            tracing::error!(error = error as &dyn std::error::Error, "the audit log could not be synced");
        }
        synced.is_ok()
    }

    fn finish(&mut self, state: &State) {
        for attempt in 1..=ATTEMPTS_AT_THE_END {
            if self.write(state) {
                break;
            }
            if attempt < ATTEMPTS_AT_THE_END {
                pause(RETRY_AFTER);
            }
        }
        if !self.pending.is_empty() {
            let lines = self.pending.iter().filter(|byte| **byte == b'\n').count();
            tracing::error!(lines, "audit lines are lost: the log cannot be written");
        }
        self.sync();
    }

    fn is_moved_away(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            (Err(_), _) => true,
            (Ok(_), Err(_)) => false,
        }
    }
}

/// Sleeps, whoever wants to be attended to.
fn pause(duration: Duration) {
    let until = Instant::now() + duration;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// The member by which a record of a change is known in the log.
pub(super) fn change_member(record: i64) -> String {
    format!(",\"change\":{record}")
}

/// Opens the log for appending, creating it with mode 0600.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)
}
