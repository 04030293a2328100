//! The thread of one replica: it writes frames and syncs them, many at a time when they come fast.
//!
//! A disk that hangs holds up its own thread and nothing else.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::files::{FrameWriter, Position};
use super::standing::{Shared, Standing};

/// Groups on their way to one replica; one that falls further behind is left out.
const QUEUE: usize = 256;

pub(super) enum Command {
    /// Begins a new log behind the group `at.sequence`. Answers when that is durable.
    Begin {
        at: Position,
        done: SyncSender<Result<(), String>>,
    },
    Append {
        sequence: u64,
        frame: Arc<Vec<u8>>,
    },
}

pub(super) type Queue = SyncSender<Command>;

/// Starts the thread; it ends with its queue.
pub(super) fn start(shared: &Arc<Shared>, index: usize) -> std::io::Result<Queue> {
    let (queue, commands) = sync_channel(QUEUE);
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name(format!("sql-log-{index}"))
        .spawn(move || Worker { shared, index, log: None }.run(&commands))?;
    Ok(queue)
}

/// Sends without waiting; false when the replica is too far behind.
pub(super) fn send(queue: &Queue, command: Command) -> bool {
    match queue.try_send(command) {
        Ok(()) => true,
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
    }
}

struct Worker {
    shared: Arc<Shared>,
    index: usize,
    log: Option<FrameWriter>,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        let mut next = commands.recv().ok();
        while let Some(command) = next.take() {
            match command {
                Command::Begin { at, done } => {
                    // Nobody waits for the answer any more: then the log is of no use, and does no harm.
                    drop(done.try_send(self.begin(at)));
                }
                Command::Append { sequence, frame } => {
                    next = self.append(sequence, &frame, commands);
                }
            }
            if next.is_none() {
                next = commands.recv().ok();
            }
        }
    }

    fn begin(&mut self, at: Position) -> Result<(), String> {
        self.log = None;
        let replica = &self.shared.config.replicas[self.index];
        (replica.check)()?;
        let (seal, preface) = (self.shared.config.seal.as_ref(), self.shared.preface(self.index));
        let begun = FrameWriter::begin_log(&replica.root, at, seal, &preface);
        let log = begun.map_err(|error| format!("{}: {error}", replica.root.display()))?;
        self.log = Some(log);
        Ok(())
    }

    /// Writes a group and those that wait behind it, and syncs them at once. Gives what else came.
    fn append(&mut self, sequence: u64, frame: &[u8], commands: &Receiver<Command>) -> Option<Command> {
        let mut written = self.write(frame);
        let mut last = sequence;
        let mut other = None;
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Append { sequence, frame } => {
                    written = written.and_then(|()| self.write(&frame));
                    last = sequence;
                }
                begin @ Command::Begin { .. } => {
                    other = Some(begin);
                    break;
                }
            }
        }
        let Some(log) = &self.log else { return other };
        let len = log.len;
        // What is on its way elsewhere need not outlive this machine.
        let is_remote = self.shared.config.replicas[self.index].remote.is_some();
        match written.and_then(|()| if is_remote { log.check_name() } else { log.sync() }) {
            Ok(()) => self.shared.update(self.index, |replica| {
                let held = if is_remote { &mut replica.staged } else { &mut replica.confirmed };
                *held = last.max(*held);
                replica.log_bytes = len;
            }),
            Err(error) => {
                // After a failed sync nobody knows what is there: a new log begins, with a new snapshot.
                self.log = None;
                self.shared.leave_out(self.index, error.to_string());
            }
        }
        other
    }

    fn write(&mut self, frame: &[u8]) -> std::io::Result<()> {
        match &mut self.log {
            Some(log) => log.write(frame, false),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Begins a new log on a replica, between two groups. It then gets every group, whatever it lacks of before.
    pub(super) fn begin(&self, index: usize, queue: &Queue) -> Result<Position, String> {
        let (done, begun) = sync_channel(1);
        let at = {
            let numbers = self.numbers.lock();
            let at = Position { term: numbers.term, sequence: numbers.committed };
            if !send(queue, Command::Begin { at, done }) {
                return Err("it is too far behind".to_owned());
            }
            self.update(index, |replica| {
                if replica.standing == Standing::Out {
                    replica.standing = Standing::Joining;
                }
                replica.log_bytes = 0;
            });
            at
        };
        match begun.recv_timeout(super::standing::PATIENCE) {
            Ok(begun) => begun.map(|()| at),
            Err(_) => Err("it did not answer in time".to_owned()),
        }
    }
}
