//! The writer's side: numbers a group, sends it to the replicas while SQLite commits it, waits for the quorum.
//!
//! The row of `change_log` says which group the database holds, with the group itself: after a crash it may be
//! the only place that has it, and it goes to the replicas again. The row is also a fence: whoever else writes
//! to the file moves it, and then the replicas begin anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::OptionalExtension;

use super::chain::{self, End};
use super::files::{self, Position};
use super::keeper::Keeper;
use super::replica::{self, Command, Queue};
use super::shipper::Shipper;
use super::standing::{Numbers, PATIENCE, Shared, Standing};
use super::{ChangeLogConfig, ChangeLogStatus};
use crate::Error;
use crate::session::Session;

/// How long a start waits until enough replicas hold the database.
const START: Duration = Duration::from_secs(60);
/// How long somebody who wants new copies of the database waits for them.
const RENEWAL: Duration = Duration::from_secs(300);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS change_log (
    id BIGINT NOT NULL PRIMARY KEY, term BIGINT NOT NULL, sequence BIGINT NOT NULL, frame BLOB);
    INSERT INTO change_log (id, term, sequence) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING";

/// The change log of an open database.
pub(crate) struct ChangeLog {
    shared: Arc<Shared>,
    queues: Vec<Queue>,
}

/// The row of the log.
pub(super) struct Stored {
    pub(super) term: u64,
    pub(super) sequence: u64,
    frame: Option<Vec<u8>>,
}

/// Reads the row; zeros where there is none.
pub(super) fn stored(session: &Session) -> Result<Stored, Error> {
    let row = session.connection().query_row(
        "SELECT term, sequence, frame FROM change_log WHERE id = 1",
        [],
        |row| {
            let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
            Ok(Stored { term: number(0)?, sequence: number(1)?, frame: row.get(2)? })
        },
    );
    Ok(row.optional()?.unwrap_or(Stored { term: 0, sequence: 0, frame: None }))
}

/// Notes that the file is written without the log: what the replicas hold is no longer all.
pub(crate) fn note_unlogged(session: &Session) -> Result<(), Error> {
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'change_log'";
    let found: i64 = session.connection().query_row(table, [], |row| row.get(0))?;
    if found > 0 {
        session
            .connection()
            .execute("UPDATE change_log SET sequence = sequence + 2, frame = NULL WHERE id = 1", [])?;
    }
    Ok(())
}

impl ChangeLog {
    /// As [`ChangeLog::begin`]; returns once the quorum is reached.
    pub(crate) fn open(
        session: &Session,
        database: &Path,
        config: ChangeLogConfig,
    ) -> Result<ChangeLog, Error> {
        let log = ChangeLog::begin(session, database, config)?;
        log.shared.wait_for_quorum(START)?;
        Ok(log)
    }

    /// Looks where the replicas stand, goes on with those that hold everything and has the others brought up to
    /// date, all under a new term. Blocks.
    pub(crate) fn begin(
        session: &Session,
        database: &Path,
        config: ChangeLogConfig,
    ) -> Result<ChangeLog, Error> {
        session.connection().execute_batch(TABLE)?;
        let row = stored(session)?;
        let ends = chain::ends(&config, PATIENCE);
        let there = refuse_newer(&config, row.term)?;
        if let Some(newer) = ends.iter().flatten().find(|end| end.term > row.term) {
            return Err(Error::LogNewer { replica: newer.replica.clone() });
        }
        // Durable before any file bears it, so that no two starts ever write under one term.
        session.connection().execute("UPDATE change_log SET term = term + 1 WHERE id = 1", [])?;
        let numbers = Numbers { term: row.term + 1, committed: row.sequence, sent: row.sequence };
        let shared = Arc::new(Shared::new(config, numbers));
        let mut queues = Vec::new();
        for (index, (end, there)) in ends.iter().zip(there).enumerate() {
            let queue = replica::start(&shared, index).map_err(|error| Error::Open(Arc::new(error)))?;
            if let Some(end) = end {
                go_on(&shared, index, &queue, &row, end);
            }
            let (shared, database) = (Arc::clone(&shared), database.to_owned());
            let started = match shared.config.replicas[index].remote.clone() {
                None => Keeper { shared, index, queue: queue.clone(), database }.start(),
                Some(remote) => {
                    let queue = queue.clone();
                    let mut shipper = Shipper { shared, index, queue, database, remote, shipped_bytes: 0 };
                    if let Some(there) = there {
                        shipper.go_on(Position { term: row.term, sequence: row.sequence }, there);
                    }
                    shipper.start()
                }
            };
            started.map_err(|error| Error::Open(Arc::new(error)))?;
            queues.push(queue);
        }
        Ok(ChangeLog { shared, queues })
    }

    /// Whether a group can be taken: enough replicas are in sync. Waits a while for them.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        self.shared.wait_for_quorum(PATIENCE)
    }

    /// Commits the open transaction of `session` with what it recorded. [`Error::NotReplicated`] means that it
    /// is committed here and not held by the quorum; after any other error it is not committed.
    pub(crate) fn commit(&self, session: &Session) -> Result<(), Error> {
        let Some(sequence) = self.send_and_commit(session)? else { return Ok(()) };
        self.shared.wait_until_held(sequence)
    }

    fn send_and_commit(&self, session: &Session) -> Result<Option<u64>, Error> {
        let mut numbers = self.shared.numbers.lock();
        let sequence = numbers.sent + 1;
        let Some(frame) = session.recorded(sequence, numbers.committed) else {
            session.control("COMMIT")?;
            return Ok(None);
        };
        let moved = session
            .connection()
            .prepare_cached("UPDATE change_log SET sequence = ?1, frame = ?2 WHERE id = 1 AND sequence = ?3")?
            .execute((sequence.cast_signed(), &frame, numbers.committed.cast_signed()))?;
        if moved != 1 {
            let row = stored(session)?;
            tracing::warn!("another process has written to the database: the replicas get a new copy of it");
            numbers.committed = row.sequence;
            numbers.sent = numbers.sent.max(row.sequence);
            drop(numbers);
            for index in 0..self.queues.len() {
                self.shared.leave_out(index, "another process has written to the database".to_owned());
            }
            // Not committed: it runs again once the replicas hold what the other wrote.
            return Err(Error::Spoiled);
        }
        numbers.sent = sequence;
        let frame = Arc::new(frame);
        for (index, queue) in self.queues.iter().enumerate() {
            if self.shared.standing(index).0 != Standing::Out
                && !replica::send(queue, Command::Append { sequence, frame: Arc::clone(&frame) })
            {
                self.shared.leave_out(index, "it is too far behind".to_owned());
            }
        }
        session.control("COMMIT")?;
        numbers.committed = sequence;
        self.shared.note_committed(sequence);
        Ok(Some(sequence))
    }

    /// Lets the threads end. What was acknowledged is on the replicas here, and on those elsewhere if they take it
    /// at once. Blocks for as long.
    pub(crate) fn close(&self) {
        self.shared.close();
        self.shared.wait_for_shippers();
    }

    /// Has every replica take a new copy of the database in the place of everything older. Gives the names of those
    /// that have not. Blocks.
    pub(crate) fn renew(&self) -> Vec<String> {
        self.shared.renew(RENEWAL)
    }

    pub(crate) fn status(&self) -> ChangeLogStatus {
        self.shared.status()
    }
}

impl Drop for ChangeLog {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The files of each remote replica that answers. One that was written under a later term than ours is refused: an
/// older copy of the database lies in the place of ours.
fn refuse_newer(config: &ChangeLogConfig, term: u64) -> Result<Vec<Option<Vec<String>>>, Error> {
    let mut there = Vec::new();
    for replica in &config.replicas {
        let listed = replica.remote.as_ref().map(|remote| remote.list());
        match listed {
            None => there.push(None),
            Some(Ok(names)) => {
                let terms = names.iter().filter_map(|name| files::parse(name)).map(|(_, at)| at.term);
                if terms.max().is_some_and(|newest| newest > term) {
                    return Err(Error::LogNewer { replica: replica.name.clone() });
                }
                there.push(Some(names));
            }
            Some(Err(problem)) => {
                tracing::warn!(replica.id = replica.name, problem, "a replica's changes cannot be listed");
                there.push(None);
            }
        }
    }
    Ok(there)
}

/// A replica that holds everything, but perhaps the last group, goes on under the new term.
fn go_on(shared: &Shared, index: usize, queue: &Queue, row: &Stored, end: &End) {
    // Whoever took no part in the last term may hold a group of that number which was given up.
    if end.term != row.term {
        return;
    }
    let end = end.sequence;
    let previous = row.frame.as_deref().and_then(super::record::Place::of).map(|place| place.previous);
    let holds_all = end >= row.sequence;
    if !holds_all && previous.is_none_or(|previous| end < previous) {
        return;
    }
    let begun = shared.begin(index, queue).and_then(|_| match &row.frame {
        Some(frame) if !holds_all => {
            let again = Command::Append { sequence: row.sequence, frame: Arc::new(frame.clone()) };
            if replica::send(queue, again) { Ok(()) } else { Err("it is too far behind".to_owned()) }
        }
        _ => Ok(()),
    });
    match begun {
        Err(problem) => shared.leave_out(index, problem),
        Ok(()) => shared.update(index, |replica| {
            // Counts once it has confirmed the group that was sent again.
            replica.standing = Standing::InSync;
            replica.confirmed = if holds_all { row.sequence } else { 0 };
        }),
    }
}
