//! What a request was allowed, until it is known whether it changed something.
//!
//! The first change of the request takes the lines along into its own transaction, so that neither is there
//! without the other; what changes nothing goes to the log when the request ends.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use registry_sql::{Companion, Error, Tx};

use super::{AuditLog, Full, Line};
use crate::store;

tokio::task_local! {
    static PENDING: Arc<Pending>;
}

/// The audit lines of one request.
struct Pending {
    log: AuditLog,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    /// Each with the number of its record.
    waiting: Vec<(i64, String)>,
    /// So many were written by a transaction that may have been committed.
    rode: usize,
    /// So many of those are on their way to the log.
    sent: usize,
}

/// Runs a request, whose changes commit together with the lines of the decisions that allowed them.
pub(crate) async fn recorded<F: Future>(log: AuditLog, work: F) -> F::Output {
    let pending = Arc::new(Pending { log, lines: Mutex::default() });
    let companion: Arc<dyn Companion> = Arc::<Pending>::clone(&pending);
    // Ends also when the client went away and the work is dropped.
    let _end = End(Arc::clone(&pending));
    PENDING.scope(pending, registry_sql::accompanied(companion, work)).await
}

/// Takes the line of a decision: to the request's other lines, or where there is no request, to the log.
pub(super) fn record(log: &AuditLog, line: &Line<'_>) -> Result<(), Full> {
    log.reserve()?;
    let line = line.begun();
    match PENDING.try_with(Arc::clone) {
        Ok(pending) => pending.lines.lock().waiting.push((log.next_record(), line)),
        Err(_) => log.send(None, line),
    }
    Ok(())
}

struct End(Arc<Pending>);

impl Drop for End {
    fn drop(&mut self) {
        let mut lines = self.0.lines.lock();
        let (rode, sent) = (lines.rode, lines.sent);
        for (at, (number, line)) in lines.waiting.drain(..).enumerate().skip(sent) {
            let record = (at < rode).then_some(number);
            self.0.log.send(record, line);
        }
        *lines = Lines::default();
    }
}

impl Companion for Pending {
    fn is_pending(&self) -> bool {
        let lines = self.lines.lock();
        lines.sent < lines.waiting.len()
    }

    fn ride(&self, tx: &Tx<'_>) -> Result<(), Error> {
        if let Some(failure) = self.log.failure() {
            return Err(Error::companion(failure));
        }
        let riding: Vec<(i64, String)> = {
            let mut lines = self.lines.lock();
            lines.rode = lines.waiting.len();
            lines.waiting[lines.sent..].to_vec()
        };
        riding
            .iter()
            .try_for_each(|(number, line)| store::audit::put_record(tx, self.log.chain(), *number, line))
    }

    fn committed(&self) {
        let mut lines = self.lines.lock();
        for at in lines.sent..lines.rode {
            let (number, line) = &mut lines.waiting[at];
            let (number, line) = (*number, std::mem::take(line));
            self.log.send(Some(number), line);
        }
        lines.sent = lines.rode;
    }
}
