//! The row that says who leads.
//!
//! No clock of the database or of another server counts: a holder raises `beat`, and who sees it unchanged for
//! long enough by its own clock may take over. Every take-over raises the epoch. Invariant: every write of a
//! leader changes this row under its epoch, so that none of them can be committed after a take-over.

use registry_sql::{Database, Tx, params};

use super::{Store, StoreError};

/// The row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) epoch: i64,
    /// Names one term of one server; empty when nobody leads.
    pub(crate) holder: String,
    /// Where other servers reach the holder; empty when they cannot.
    pub(crate) address: String,
    pub(crate) beat: i64,
    /// Grows with every change of the scheduler's state.
    pub(crate) commits: i64,
}

pub(crate) async fn read(database: &Database) -> Result<Lease, StoreError> {
    database.point(|tx| row(tx)).await
}

fn row(tx: &Tx<'_>) -> Result<Lease, StoreError> {
    let row = tx.query_one(
        "SELECT epoch, holder, address, beat, commits FROM scheduler_leader WHERE id = 1",
        params![],
    )?;
    Ok(Lease {
        epoch: row.get(0)?,
        holder: row.get(1)?,
        address: row.get(2)?,
        beat: row.get(3)?,
        commits: row.get(4)?,
    })
}

/// Takes the lead for `holder`, of `seen` only if nothing has moved since. The new epoch.
pub(super) async fn claim(
    database: &Database,
    seen: Option<Lease>,
    holder: String,
    address: String,
) -> Result<Option<i64>, StoreError> {
    database
        .write(move |tx| {
            let now = row(tx)?;
            if seen.as_ref().is_some_and(|seen| (seen.epoch, seen.beat) != (now.epoch, now.beat)) {
                return Ok(None);
            }
            let taken = tx.query_one(
                "UPDATE scheduler_leader SET epoch = epoch + 1, holder = $1, address = $2, beat = beat + 1
                 WHERE id = 1 RETURNING epoch",
                params![&holder, &address],
            )?;
            Ok::<_, StoreError>(Some(taken.get(0)?))
        })
        .await
}

/// Within the transaction of a write: fails when somebody else has taken over.
pub(super) fn fence(tx: &Tx<'_>, epoch: i64) -> Result<(), StoreError> {
    let held = tx.execute(
        "UPDATE scheduler_leader SET commits = commits + 1 WHERE id = 1 AND epoch = $1",
        params![epoch],
    )?;
    if held == 1 { Ok(()) } else { Err(StoreError::Fenced) }
}

impl Store {
    /// Says that the holder lives.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it leads no more.
    pub(crate) async fn renew(&self) -> Result<(), StoreError> {
        self.touch("UPDATE scheduler_leader SET beat = beat + 1 WHERE id = 1 AND epoch = $1").await
    }

    /// Gives the lead up, so that another server need not wait.
    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        self.touch("UPDATE scheduler_leader SET holder = '', beat = beat + 1 WHERE id = 1 AND epoch = $1")
            .await
    }

    async fn touch(&self, sql: &'static str) -> Result<(), StoreError> {
        let epoch = self.epoch;
        let held = self.database.write(move |tx| tx.execute(sql, params![epoch])).await?;
        if held == 1 { Ok(()) } else { Err(StoreError::Fenced) }
    }
}
