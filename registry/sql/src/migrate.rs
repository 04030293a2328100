//! Migrations by namespace: each room numbers its own, and they share one file.
//!
//! The text of every applied migration is kept, so that an edited one is noticed. Invariant: a schema newer
//! than the program is refused before anything is changed, and a file that holds data is copied whole before
//! its schema changes.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::session::{Access, Session};
use crate::sqlite::{folder, sync_folder};
use crate::{Error, Tx, params};

/// One step of a schema, portable SQL, several statements allowed; `WITHOUT ROWID` after a table counts on SQLite.
/// Never edited once released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1, 2, 3 … within the namespace.
    pub version: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

/// Whether any migration has ever been applied to this file.
pub(crate) fn holds_a_schema(tx: &mut Tx<'_>) -> Result<bool, Error> {
    let table = if tx.is_postgres() {
        "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migrations'"
    } else {
        "SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_migrations'"
    };
    let count = tx.query_one(table, params![])?;
    Ok(count.get::<i64>(0)? > 0)
}

/// The version of the first migration that is still to be applied, if any.
pub(crate) fn pending(
    tx: &mut Tx<'_>,
    namespace: &'static str,
    migrations: &'static [Migration],
) -> Result<Option<u32>, Error> {
    if migrations.iter().zip(1..).any(|(migration, number)| migration.version != number) {
        return Err(Error::SchemaNumbering { namespace });
    }
    let first = migrations.first().map(|migration| migration.version);
    if !holds_a_schema(tx)? {
        return Ok(first);
    }
    let applied = tx.query(
        "SELECT version, sql FROM schema_migrations WHERE namespace = $1 ORDER BY version",
        params![namespace],
    )?;
    let supported = migrations.len() as u32;
    if let Some(last) = applied.last() {
        let found: u32 = last.get(0)?;
        if found > supported {
            return Err(Error::SchemaNewer { namespace, found, supported });
        }
    }
    for (row, migration) in applied.iter().zip(migrations) {
        if row.get::<u32>(0)? != migration.version || row.get::<String>(1)? != migration.sql {
            return Err(Error::SchemaChanged { namespace, version: migration.version });
        }
    }
    Ok(migrations.get(applied.len()).map(|migration| migration.version))
}

/// Applies what is pending. Checks again first: another process may have been quicker. Of several servers that
/// come this far, one has the lock; the others wait for it and then run again.
pub(crate) fn apply(
    tx: &mut Tx<'_>,
    namespace: &'static str,
    migrations: &'static [Migration],
) -> Result<(), Error> {
    if tx.is_postgres() {
        tx.execute("UPDATE schema_lock SET taken = taken + 1 WHERE id = 1", params![])?;
    }
    tx.batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             namespace TEXT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, sql TEXT NOT NULL,
             PRIMARY KEY (namespace, version))",
    )?;
    let Some(first) = pending(tx, namespace, migrations)? else { return Ok(()) };
    for migration in migrations.iter().filter(|migration| migration.version >= first) {
        tx.batch(migration.sql)?;
        tx.execute(
            "INSERT INTO schema_migrations (namespace, version, name, sql) VALUES ($1, $2, $3, $4)",
            params![namespace, migration.version, migration.name, migration.sql],
        )?;
        tracing::info!(
            database.namespace = namespace,
            database.version = migration.version,
            "schema migrated"
        );
    }
    Ok(())
}

/// Writes a complete copy of the database next to it. It appears under its name only when it is whole and
/// durable. To restore: stop the server and put the copy in the place of the database, without the files
/// ending in `-wal` and `-shm`.
pub(crate) fn snapshot(database: &Path, namespace: &str, version: u32) -> Result<PathBuf, Error> {
    let name = database.file_name().unwrap_or_default().to_string_lossy();
    let target = database.with_file_name(format!("{name}.before-{namespace}-{version}"));
    let unfinished = database.with_file_name(format!("{name}.before-{namespace}-{version}.unfinished"));
    let failed = |error: std::io::Error| Error::Snapshot(Arc::new(error));

    // An empty file is what VACUUM INTO accepts, and it keeps its mode.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let file = file.map_err(failed)?;
    let session = Session::open(database, Access::Write)?;
    session.connection().execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&unfinished, &target).map_err(failed)?;
    sync_folder(database).map_err(failed)?;
    tracing::info!(snapshot.path = %target.display(), "the database was copied before its migration");
    remove_others(&target, &format!("{name}.before-"));
    Ok(target)
}

/// Keeps the newest copy alone: each is as large as the database.
fn remove_others(kept: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder(kept)) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != kept) {
        let older = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if older && let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(snapshot.path = %path.display(), error = %error, "an older copy stays");
        }
    }
}

#[cfg(test)]
mod tests;
