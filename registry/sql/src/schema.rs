//! What schema a database holds, asked without changing it: for backups and for those who restore them.

use crate::{Database, Error, Migration, migrate, params};

impl Database {
    /// Whether this release can open the tables of `namespace`; nothing is migrated.
    ///
    /// # Errors
    /// [`Error::SchemaNewer`] and [`Error::SchemaChanged`], as [`Database::migrate`] has them.
    pub async fn check_schema(
        &self,
        namespace: &'static str,
        migrations: &'static [Migration],
    ) -> Result<(), Error> {
        self.read(move |tx| migrate::pending(tx, namespace, migrations)).await.map(drop)
    }

    /// Namespaces and the version that each of them has.
    ///
    /// # Errors
    /// Of the database.
    pub async fn schema_versions(&self) -> Result<Vec<(String, u32)>, Error> {
        let query =
            "SELECT namespace, MAX(version) FROM schema_migrations GROUP BY namespace ORDER BY namespace";
        self.read(move |tx| {
            let rows = tx.query(query, params![])?;
            rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
        })
        .await
    }
}
