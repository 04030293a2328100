//! The scheduler's tables: every change becomes statements, all of one commit in one transaction.
//!
//! Sealing and ids happen before the transaction, so that its closure can run again. A scheduler that
//! took over raises the epoch; from then on the one before cannot write.

mod enrolment;
mod join_token;
mod lease;
mod load;
mod statement;

pub(crate) use enrolment::Enrolment;
pub(crate) use join_token::{JoinToken, Standing};
pub(crate) use lease::{Lease, read as read_lease};
pub(crate) use load::{pinned_images, stopped_tasks};

use std::sync::Arc;

use registry_runtime::Sealer;
use registry_sql::{Database, Error, Migration};

use crate::state::Change;
use statement::statements;

const NAMESPACE: &str = "scheduler";
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "initial", sql: include_str!("../migrations/0001_initial.sql") },
    Migration {
        version: 2,
        name: "join_token_limits",
        sql: include_str!("../migrations/0002_join_token_limits.sql"),
    },
    Migration { version: 3, name: "lease", sql: include_str!("../migrations/0003_lease.sql") },
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
    pub(crate) async fn check_schema(database: &Database) -> Result<(), registry_sql::Error> {
        database.check_schema(NAMESPACE, MIGRATIONS).await
    }

    /// Brings the schema up to date.
    pub(crate) async fn migrate(database: &Database) -> Result<(), StoreError> {
        Ok(database.migrate(NAMESPACE, MIGRATIONS).await?)
    }

    /// Takes the lead, whoever has it: writes of any scheduler before this one fail from now on. For the only server
    /// of a database.
    pub(crate) async fn lead_alone(database: Database, sealer: Arc<Sealer>) -> Result<Store, StoreError> {
        let epoch = lease::claim(&database, None, "alone".to_owned(), String::new()).await?;
        Ok(Store { database, sealer, epoch: epoch.ok_or(StoreError::Fenced)? })
    }

    /// Takes the lead from whoever had it when `seen` was read. None when it lives, or another was faster.
    pub(crate) async fn lead(
        database: Database,
        sealer: Arc<Sealer>,
        seen: Lease,
        address: String,
    ) -> Result<Option<Store>, StoreError> {
        let holder = uuid::Uuid::new_v4().to_string();
        let epoch = lease::claim(&database, Some(seen), holder, address).await?;
        Ok(epoch.map(|epoch| Store { database, sealer, epoch }))
    }

    /// Makes changes durable, all or none.
    pub(crate) async fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let statements: Vec<_> = changes.iter().flat_map(|change| statements(change, &self.sealer)).collect();
        let epoch = self.epoch;
        self.database
            .write(move |tx| {
                lease::fence(tx, epoch)?;
                for (sql, values) in &statements {
                    tx.execute(sql, values)?;
                }
                Ok(())
            })
            .await
    }
}
