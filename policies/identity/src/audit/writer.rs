//! The thread that writes the audit log.
//!
//! Lines are written in batches, whole. When the disk is full it keeps what it has and tries again, while
//! the queue behind it fills up and requests are refused. A file that was moved away (logrotate) is made anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Message;

const BATCH: usize = 256 * 1024;
/// How long the first line of a batch waits for others.
const GATHER_FOR: Duration = Duration::from_millis(4);
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often a stop that cannot write tries before it gives up.
const ATTEMPTS_AT_THE_END: u32 = 4;
const LOOK_FOR_ROTATION_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
    failing: bool,
    looked_at: Instant,
}

/// What a batch ended with.
enum End {
    Written,
    Closed,
}

impl Writer {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            pending: Vec::with_capacity(BATCH),
            failing: false,
            looked_at: Instant::now(),
        })
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(LOOK_FOR_ROTATION_EVERY) {
                Ok(message) => {
                    // While this thread sleeps instead of listening, nobody has to wake it for each line.
                    std::thread::park_timeout(GATHER_FOR);
                    if let End::Closed = self.batch(message, messages) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look_for_rotation(),
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
        }
    }

    fn batch(&mut self, first: Message, messages: &Receiver<Message>) -> End {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        let mut closed = false;
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => self.pending.extend_from_slice(line.as_bytes()),
                Message::Flush(done) => waiting.push(done),
                Message::Close => closed = true,
            }
            if !closed && self.pending.len() < BATCH {
                next = messages.try_recv().ok();
            }
        }
        if closed {
            self.finish();
            drop(waiting);
            return End::Closed;
        }
        if self.looked_at.elapsed() >= LOOK_FOR_ROTATION_EVERY {
            self.look_for_rotation();
        }
        while !self.write() {
            std::thread::park_timeout(RETRY_AFTER);
        }
        drop(waiting);
        End::Written
    }

    /// Writes what is pending; false when something is left.
    fn write(&mut self) -> bool {
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
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the audit log is written again");
            }
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    path = %self.path.display(),
                    "the audit log cannot be written; requests are refused once its queue is full"
                );
            }
            Ok(()) | Err(_) => {}
        }
        self.pending.is_empty()
    }

    fn finish(&mut self) {
        for attempt in 1..=ATTEMPTS_AT_THE_END {
            if self.write() {
                break;
            }
            if attempt < ATTEMPTS_AT_THE_END {
                std::thread::park_timeout(RETRY_AFTER);
            }
        }
        if !self.pending.is_empty() {
            let lines = self.pending.iter().filter(|byte| **byte == b'\n').count();
            tracing::error!(lines, "audit lines are lost: the log cannot be written");
        }
        if let Err(error) = self.file.sync_data() {
            tracing::error!(error = &error as &dyn std::error::Error, "the audit log could not be synced");
        }
    }

    fn look_for_rotation(&mut self) {
        self.looked_at = Instant::now();
        let same = match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            (Err(_), _) => false,
            (Ok(_), Err(_)) => true,
        };
        if !same && let Ok(file) = open(&self.path) {
            self.file = file;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
