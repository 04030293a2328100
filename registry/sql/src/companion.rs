//! Rows that commit together with whatever a piece of work changes first.
//!
//! A record of who asked for a change must not be there without it nor be missing beside it. Whoever serves a
//! request wraps it in [`accompanied`]; the first write in it takes the companion's rows along, in its own
//! transaction. Invariant: a write that was acknowledged took along everything that was pending when it began.

use std::future::Future;
use std::sync::Arc;

use crate::{Error, Tx};

tokio::task_local! {
    static COMPANION: Arc<dyn Companion>;
}

/// What rides along with a change.
pub trait Companion: Send + Sync {
    /// Whether there is anything to take along.
    fn is_pending(&self) -> bool;

    /// Writes what is pending; free of side effects, because the transaction may be run again.
    ///
    /// # Errors
    /// An error here is the error of the whole write, which then changes nothing.
    fn ride(&self, tx: &Tx<'_>) -> Result<(), Error>;

    /// What the last [`Companion::ride`] wrote is committed, and as durable as the change that it rode with.
    fn committed(&self);
}

/// Runs `work`, whose writes take `companion` along. Tasks that `work` spawns are on their own.
pub async fn accompanied<F: Future>(companion: Arc<dyn Companion>, work: F) -> F::Output {
    COMPANION.scope(companion, work).await
}

/// The companion of this task, while it has something to write.
pub(crate) fn pending() -> Option<Arc<dyn Companion>> {
    COMPANION.try_with(Arc::clone).ok().filter(|companion| companion.is_pending())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::{Companion, accompanied};
    use crate::{Database, Error, Migration, Tx, params};

    #[derive(Default)]
    struct Note {
        refuses: AtomicBool,
        written: AtomicBool,
        rides: AtomicU64,
    }

    impl Companion for Note {
        fn is_pending(&self) -> bool {
            !self.written.load(Ordering::SeqCst)
        }

        fn ride(&self, tx: &Tx<'_>) -> Result<(), Error> {
            self.rides.fetch_add(1, Ordering::SeqCst);
            if self.refuses.load(Ordering::SeqCst) {
                return Err(Error::Closed);
            }
            tx.execute("INSERT INTO notes (what) VALUES ($1)", params!["record"]).map(drop)
        }

        fn committed(&self) {
            self.written.store(true, Ordering::SeqCst);
        }
    }

    const MIGRATIONS: &[Migration] =
        &[Migration { version: 1, name: "notes", sql: "CREATE TABLE notes (what TEXT NOT NULL);" }];

    async fn change(database: &Database, works: bool) -> Result<(), Error> {
        database
            .write(move |tx| {
                tx.execute("INSERT INTO notes (what) VALUES ($1)", params!["change"])?;
                if works { Ok(()) } else { Err(Error::NotOneRow { found: 0 }) }
            })
            .await
    }

    async fn notes(database: &Database) -> Vec<String> {
        let rows =
            database.read(|tx| tx.query("SELECT what FROM notes ORDER BY what DESC", &[])).await.unwrap();
        rows.iter().map(|row| row.get(0).unwrap()).collect()
    }

    #[tokio::test]
    async fn the_first_change_takes_the_companion_along_or_neither_happens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let database = Database::open_rerunning(path.to_str().unwrap(), 7).await.unwrap();
        database.migrate("companion", MIGRATIONS).await.unwrap();
        let note = Arc::new(Note::default());
        accompanied(note.clone(), async {
            note.refuses.store(true, Ordering::SeqCst);
            change(&database, true).await.unwrap_err();
            note.refuses.store(false, Ordering::SeqCst);
            change(&database, false).await.unwrap_err();
            assert!(notes(&database).await.is_empty());
            change(&database, true).await.unwrap();
            change(&database, true).await.unwrap();
        })
        .await;
        assert_eq!(notes(&database).await, ["record", "change", "change"]);
        let rides = note.rides.load(Ordering::SeqCst);
        change(&database, true).await.unwrap();
        assert_eq!(note.rides.load(Ordering::SeqCst), rides, "outside of the request nothing rides along");
    }
}
