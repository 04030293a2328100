//! Connections for readers: each thread that reads has one to itself while it reads.
//!
//! They are kept in a stack rather than in thread-locals, so that closing the database closes them and the
//! short-lived threads of the blocking pool find warm ones. Invariant: one closure sees one snapshot.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::rerun::Rerun;
use crate::session::{Access, Session};
use crate::{Error, Tx};

/// Connections kept when nobody reads. Each has a page cache of 2 MB.
const IDLE_KEPT: usize = 8;

pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Session>>,
    rerun: Arc<Rerun>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, rerun: Arc<Rerun>) -> Readers {
        Readers { path, idle: Mutex::default(), rerun }
    }

    /// Runs a closure on a snapshot, in the calling thread.
    pub(crate) fn run<T, E, F>(&self, mut body: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        let idle = self.idle.lock().pop();
        let session = match idle {
            Some(session) => session,
            None => {
                let mut session = Session::open(&self.path, Access::Read)?;
                session.watch(&self.rerun);
                session
            }
        };
        if self.rerun.toss() {
            drop(snapshot(&session, &mut body));
        }
        let result = snapshot(&session, &mut body)?;
        // A panic or a failing engine does not get here: its connection is closed instead.
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_KEPT {
            idle.push(session);
        }
        result
    }

    pub(crate) fn walks(&self) -> Vec<&'static str> {
        self.rerun.walks()
    }

    pub(crate) fn close(&self) {
        self.idle.lock().clear();
    }
}

fn snapshot<T, E: From<Error>>(
    session: &Session,
    body: &mut dyn FnMut(&mut Tx<'_>) -> Result<T, E>,
) -> Result<Result<T, E>, Error> {
    session.control("BEGIN")?;
    let result = body(&mut Tx::new(session));
    // After an error the engine may have ended the transaction itself.
    if !session.connection().is_autocommit() {
        session.control("ROLLBACK")?;
    }
    Ok(result)
}
