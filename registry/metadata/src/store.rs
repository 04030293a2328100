//! The registry's tables inside a database that other rooms share.
//!
//! A thin face: it migrates its own namespace and hands out transactions. Closures are `FnMut` and may run
//! again (group commit), so they hold no side effects.

use registry_sql::{Database, Error, Tx};

use crate::migrations::{MIGRATIONS, RECOVERY};

pub(crate) const REGISTRY: &str = "registry";
const RECOVERY_TABLES: &str = "recovery";

/// Transactions over the registry's tables.
#[derive(Clone)]
pub struct Metadata {
    database: Database,
}

impl Metadata {
    /// Brings the tables up to this release.
    ///
    /// # Errors
    /// When the database holds a newer schema, or cannot be written.
    pub async fn open(database: Database) -> Result<Self, Error> {
        database.migrate(REGISTRY, MIGRATIONS).await?;
        database.migrate(RECOVERY_TABLES, RECOVERY).await?;
        Ok(Self { database })
    }

    /// Whether this release can open what the database holds; nothing is changed.
    ///
    /// # Errors
    /// As [`Metadata::open`] has them.
    pub async fn check_schema(database: &Database) -> Result<(), Error> {
        database.check_schema(REGISTRY, MIGRATIONS).await?;
        database.check_schema(RECOVERY_TABLES, RECOVERY).await
    }

    /// Has every replica that keeps the database's changes take a new copy of it. Gives the names of those that have
    /// not.
    pub async fn renew_change_log(&self) -> Vec<String> {
        self.database.renew_change_log().await
    }

    /// One durable transaction; an `Err` of the closure undoes that closure alone.
    ///
    /// # Errors
    /// The closure's own, or the database's.
    pub async fn write<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.database.write(closure).await
    }

    /// The same for what need not outlive a power cut: visible at once, and durable with the next durable transaction.
    ///
    /// # Errors
    /// The closure's own, or the database's.
    pub async fn write_unsynced<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.database.write_unsynced(closure).await
    }

    /// A consistent read that may walk up to a page of rows.
    ///
    /// # Errors
    /// The closure's own, or the database's.
    pub async fn read<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.database.read(closure).await
    }

    /// Reads by full key only: runs inline on the calling thread.
    ///
    /// # Errors
    /// The closure's own, or the database's.
    pub async fn point<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.database.point(closure).await
    }
}
