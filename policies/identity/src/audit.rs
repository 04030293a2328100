//! The audit log: one JSON object a line for every decision, appended to one file by one thread.
//!
//! Requests hand lines over and never wait for the disk; what finds no room is not done. The line of a change
//! commits together with the change and is forgotten there only when it is in the file, so that a crash loses
//! none. The lines are a chain (`chain`) that the keeper signs every minute. Secrets never come here.

mod chain;
mod keeper;
mod line;
mod pending;
mod places;
mod recover;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::{JoinHandle, Thread};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;

pub use keeper::AuditError;
pub(crate) use keeper::Keeper;
pub(crate) use line::{Line, Outcome, Who};
pub(crate) use pending::recorded;
pub use places::CheckpointPlaces;
pub use verify::{AuditEvidence, AuditFinding, AuditFindingKind, AuditReport, audit_files, verify_audit_log};

/// Lines that may wait for the disk.
const QUEUE: usize = 16_384;
/// So many lines are not left waiting for more.
const GATHERED: usize = QUEUE / 4;

/// Too many lines wait, or the log is closed.
#[derive(Debug)]
pub(crate) struct Full;

/// What changes are refused with while the disk takes no lines.
#[derive(Clone, Copy, Debug, Error)]
#[error("the audit log cannot be written")]
pub(crate) struct NotWritten;

/// The log. All clones are one.
#[derive(Clone)]
pub(crate) struct AuditLog {
    shared: Arc<Shared>,
}

struct Shared {
    chain: String,
    queue: Sender<Message>,
    state: Arc<State>,
    /// The number of the last record of a change.
    records: AtomicI64,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The writer's, to be called when it lets lines gather.
    thread: Thread,
}

/// What the writer tells those who record.
#[derive(Default)]
struct State {
    /// Lines that were taken and are not written yet.
    waiting: AtomicUsize,
    failing: AtomicBool,
    closed: AtomicBool,
}

enum Message {
    /// A line that was begun, and the number under which it was recorded with a change.
    Line(Option<i64>, String),
    Flush(SyncSender<()>),
    /// Asks for what the keeper has to do.
    Tend {
        checkpoint: bool,
        reply: oneshot::Sender<writer::Tending>,
    },
    Close,
}

impl AuditLog {
    fn start(chain: String, records: i64, writer: writer::Writer) -> std::io::Result<Self> {
        let (queue, messages) = channel();
        let state = Arc::<State>::default();
        let told = Arc::clone(&state);
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&messages, &told))?;
        let (records, thread) = (AtomicI64::new(records), writer.thread().clone());
        let writer = Mutex::new(Some(writer));
        Ok(Self { shared: Arc::new(Shared { chain, queue, state, records, writer, thread }) })
    }

    /// Takes a line. In a request it waits for the request's first change.
    pub(crate) fn record(&self, line: &Line<'_>) -> Result<(), Full> {
        pending::record(self, line)
    }

    /// Takes room for one line.
    fn reserve(&self) -> Result<(), Full> {
        let state = &self.shared.state;
        if state.closed.load(Ordering::Acquire) || state.waiting.load(Ordering::Relaxed) >= QUEUE {
            return Err(Full);
        }
        self.count();
        Ok(())
    }

    /// Counts one more line that waits.
    fn count(&self) {
        let waiting = self.shared.state.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting.is_multiple_of(GATHERED) {
            self.shared.thread.unpark();
        }
    }

    /// Sends a line for which room was taken.
    fn send(&self, record: Option<i64>, line: String) {
        // Only after `close`: a record of a change is written at the next start.
        let _ = self.shared.queue.send(Message::Line(record, line));
    }

    /// Takes a line that must be written whatever waits.
    fn append(&self, record: Option<i64>, line: String) {
        self.count();
        self.send(record, line);
    }

    fn next_record(&self) -> i64 {
        self.shared.records.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn chain(&self) -> &str {
        &self.shared.chain
    }

    /// Why no change may be made at the moment.
    fn failure(&self) -> Option<NotWritten> {
        self.shared.state.failing.load(Ordering::Acquire).then_some(NotWritten)
    }

    async fn tend(&self, checkpoint: bool) -> Option<writer::Tending> {
        let (reply, tending) = oneshot::channel();
        if !self.shared.ask(Message::Tend { checkpoint, reply }) {
            return None;
        }
        tending.await.ok()
    }

    /// Waits until everything recorded so far is in the file. Blocks.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.shared.ask(Message::Flush(done)) {
            let _ = wait.recv();
        }
    }

    /// Takes no more lines of requests. A disk that takes none either is not waited for any longer.
    pub(crate) fn stop_taking(&self) {
        self.shared.state.closed.store(true, Ordering::Release);
    }

    /// Writes what is left, makes it durable and ends the thread. Blocks.
    pub(crate) fn close(&self) {
        self.shared.close();
    }
}

impl Shared {
    /// Sends what somebody waits for; false when the log is closed.
    fn ask(&self, message: Message) -> bool {
        let sent = self.queue.send(message).is_ok();
        self.thread.unpark();
        sent
    }

    fn close(&self) {
        self.state.closed.store(true, Ordering::Release);
        self.ask(Message::Close);
        let thread = self.writer.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}
