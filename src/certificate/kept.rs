//! The server's CA in the database, where other servers of the installation and every backup find it.
//!
//! The key is sealed there as it is in its file. The folder's files are what is used; they follow the database,
//! unless an operator took them away to have a new CA.

use std::path::Path;

use anyhow::{Context, Result};
use registry_runtime::durable;
use registry_sql::{Database, Error, Migration, params};

const TABLES: &str = "tls";
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "the server's CA",
    sql: "CREATE TABLE authority (id BIGINT PRIMARY KEY, certificate TEXT NOT NULL, sealed_key TEXT NOT NULL);",
}];
const KEEP_FIRST: &str = "INSERT INTO authority (id, certificate, sealed_key) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO NOTHING";
const KEEP_LAST: &str = "INSERT INTO authority (id, certificate, sealed_key) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO UPDATE SET certificate = $1, sealed_key = $2";
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// A CA as it lies in files: certificate in PEM, sealed key in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    certificate: String,
    sealed_key: String,
}

/// What the folder was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The CA that is there, or the first.
    Same,
    /// The files were taken away: another one.
    New,
}

impl Files {
    fn read(dir: &Path) -> Option<Self> {
        let certificate = std::fs::read_to_string(dir.join(CERTIFICATE)).ok()?;
        let sealed_key = hex::encode(std::fs::read(dir.join(KEY)).ok()?);
        Some(Self { certificate, sealed_key })
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let key = hex::decode(&self.sealed_key).context("the CA's key in the database is damaged")?;
        durable::create_directory(dir, 0o700)
            .and_then(|()| durable::write_file_atomically(&dir.join(KEY), &key, 0o600))
            .and_then(|()| {
                durable::write_file_atomically(&dir.join(CERTIFICATE), self.certificate.as_bytes(), 0o644)
            })
            .with_context(|| format!("cannot write the CA to {}", dir.display()))
    }
}

/// Brings the folder up to date with the database.
pub(super) async fn fetch(database: &Database, dir: &Path) -> Result<Wish> {
    database.migrate(TABLES, MIGRATIONS).await.context("the tables of the CA")?;
    let (known, found) = (stored(database).await?, Files::read(dir));
    if found.is_none() && dir.exists() {
        return Ok(Wish::New);
    }
    if let Some(known) = known.filter(|known| found.as_ref() != Some(known)) {
        known.write(dir)?;
    }
    Ok(Wish::Same)
}

/// Keeps the folder's CA in the database. True when another server was quicker, and its CA is in the folder now.
pub(super) async fn keep(database: &Database, dir: &Path, wish: Wish) -> Result<bool> {
    let Some(own) = Files::read(dir) else { return Ok(false) };
    let stored_now = own.clone();
    let write = database.write(move |tx| {
        let insert = match wish {
            Wish::Same => KEEP_FIRST,
            Wish::New => KEEP_LAST,
        };
        tx.execute(insert, params![&stored_now.certificate, &stored_now.sealed_key])?;
        Ok::<_, Error>(())
    });
    write.await.context("the CA could not be stored")?;
    match stored(database).await?.filter(|kept| *kept != own) {
        Some(quicker) => quicker.write(dir).map(|()| true),
        None => Ok(false),
    }
}

async fn stored(database: &Database) -> Result<Option<Files>> {
    let read = database.read(|tx| {
        let row =
            tx.query_optional("SELECT certificate, sealed_key FROM authority WHERE id = 1", params![])?;
        row.map(|row| Ok::<_, Error>(Files { certificate: row.get(0)?, sealed_key: row.get(1)? })).transpose()
    });
    read.await.context("the CA could not be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(text: &str) -> Files {
        Files { certificate: text.to_owned(), sealed_key: hex::encode(text) }
    }

    #[tokio::test]
    async fn one_ca_is_kept_for_all_until_somebody_takes_it_away() {
        let root = tempfile::tempdir().unwrap();
        let database = Database::open_sqlite(&root.path().join("berth.db")).await.unwrap();
        let (here, there) = (root.path().join("here"), root.path().join("there"));
        assert_eq!(fetch(&database, &here).await.unwrap(), Wish::Same);
        ca("first").write(&here).unwrap();
        assert!(!keep(&database, &here, Wish::Same).await.unwrap());

        // Another server, or this one restored: the same CA, also where it has made one at the same moment.
        assert_eq!(fetch(&database, &there).await.unwrap(), Wish::Same);
        assert_eq!(Files::read(&there), Some(ca("first")));
        ca("second").write(&there).unwrap();
        assert!(keep(&database, &there, Wish::Same).await.unwrap());
        assert_eq!(Files::read(&there), Some(ca("first")));

        // An operator removes it: a new one, and the other server follows.
        std::fs::remove_file(there.join(CERTIFICATE)).unwrap();
        std::fs::remove_file(there.join(KEY)).unwrap();
        let wish = fetch(&database, &there).await.unwrap();
        assert_eq!(wish, Wish::New);
        ca("third").write(&there).unwrap();
        assert!(!keep(&database, &there, wish).await.unwrap());
        assert_eq!(fetch(&database, &here).await.unwrap(), Wish::Same);
        assert_eq!(Files::read(&here), Some(ca("third")));
        database.close().await;
    }
}
