//! The scheduler's tables: every change becomes statements, all of one commit in one transaction.
//!
//! Sealing and ids happen before the transaction, so that its closure can run again. A scheduler that
//! took over raises the epoch; from then on the one before cannot write.

mod enrolment;
mod join_token;
mod load;
mod statement;

pub(crate) use enrolment::Enrolment;
pub(crate) use join_token::{JoinToken, Standing};

use std::sync::Arc;

use registry_runtime::Sealer;
use registry_sql::{Database, Error, Migration, params};

use crate::state::{Change, State};
use statement::statements;

const NAMESPACE: &str = "scheduler";
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "initial", sql: include_str!("../migrations/0001_initial.sql") },
    Migration {
        version: 2,
        name: "join_token_limits",
        sql: include_str!("../migrations/0002_join_token_limits.sql"),
    },
];

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the scheduler's database does not answer as it should")]
    Database(#[from] Error),
    #[error("a record of table {table} does not open or cannot be read")]
    Record { table: &'static str },
    #[error("another scheduler has taken over")]
    Fenced,
}

#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
    sealer: Arc<Sealer>,
    epoch: i64,
}

impl Store {
    /// Brings the schema up to date and takes the lead: writes of any scheduler before this one fail from now on.
    pub(crate) async fn open(database: Database, sealer: Arc<Sealer>) -> Result<(Store, State), StoreError> {
        database.migrate(NAMESPACE, MIGRATIONS).await?;
        let epoch = database
            .write(|tx| {
                let row = tx.query_one(
                    "UPDATE scheduler_leader SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch",
                    params![],
                )?;
                Ok::<i64, StoreError>(row.get(0)?)
            })
            .await?;
        let store = Store { database, sealer, epoch };
        let state = store.load().await?;
        Ok((store, state))
    }

    /// Makes changes durable, all or none.
    pub(crate) async fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let statements: Vec<_> = changes.iter().flat_map(|change| statements(change, &self.sealer)).collect();
        let epoch = self.epoch;
        self.database
            .write(move |tx| {
                let row = tx.query_one("SELECT epoch FROM scheduler_leader WHERE id = 1", params![])?;
                if row.get::<i64>(0)? != epoch {
                    return Err(StoreError::Fenced);
                }
                for (sql, values) in &statements {
                    tx.execute(sql, values)?;
                }
                Ok(())
            })
            .await
    }
}
