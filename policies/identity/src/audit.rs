//! The audit log: one JSON object a line for every decision, appended to one file by one thread.
//!
//! Requests hand lines over through a bounded queue and never wait for the disk. What finds no room is
//! not done. A normal stop loses nothing; secrets never come here.

mod line;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use parking_lot::Mutex;

pub(crate) use line::{Line, Outcome, Who};

/// Lines that may wait for the disk.
const QUEUE: usize = 16_384;

/// The queue is full, or the log is closed.
#[derive(Debug)]
pub(crate) struct Full;

pub(crate) struct AuditLog {
    queue: SyncSender<Message>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

enum Message {
    Line(String),
    Flush(SyncSender<()>),
    Close,
}

impl AuditLog {
    /// Opens the file for appending, creating it with mode 0600.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let writer = writer::Writer::open(path)?;
        let thread =
            std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&messages))?;
        Ok(Self { queue, writer: Mutex::new(Some(thread)) })
    }

    pub(crate) fn record(&self, line: &Line<'_>) -> Result<(), Full> {
        match self.queue.try_send(Message::Line(line.to_json())) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Full),
        }
    }

    /// Waits until everything recorded so far is in the file. Blocks.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Writes what is left, makes it durable and ends the thread. Blocks.
    pub(crate) fn close(&self) {
        let _ = self.queue.send(Message::Close);
        let thread = self.writer.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}
