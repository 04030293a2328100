//! Small durable transactions and point reads: operations a second, and CPU time of this process for each.
//!
//! Run with `cargo bench -p registry-sql`. The folder can be given as an argument, to measure another disk.

#![allow(clippy::print_stdout)] // a benchmark prints its result

use std::path::PathBuf;
use std::time::{Duration, Instant};

use registry_sql::{Database, Error, Migration, params};

const CALLERS: i64 = 32;
const ROWS: i64 = 10_000;
const TIME: Duration = Duration::from_secs(3);

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "bench",
    sql: "CREATE TABLE items (id TEXT PRIMARY KEY, value BIGINT NOT NULL);
          CREATE TABLE log (id TEXT NOT NULL, at_ms BIGINT NOT NULL);",
}];

fn main() -> Result<(), Error> {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(folder).expect("the folder can be written");
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    runtime.block_on(async {
        let database = Database::open_sqlite(&folder.path().join("bench.db")).await?;
        database.migrate("bench", SCHEMA).await?;
        for chunk in 0..ROWS / 1000 {
            let fill = move |tx: &mut registry_sql::Tx<'_>| {
                for n in chunk * 1000..(chunk + 1) * 1000 {
                    tx.execute("INSERT INTO items (id, value) VALUES ($1, 0)", params![key(n)])?;
                }
                Ok::<(), Error>(())
            };
            database.write(fill).await?;
        }
        measure("transactions of two writes", &database, |database, n| async move {
            let write = move |tx: &mut registry_sql::Tx<'_>| {
                tx.execute("UPDATE items SET value = value + 1 WHERE id = $1", params![key(n % ROWS)])?;
                tx.execute("INSERT INTO log (id, at_ms) VALUES ($1, $2)", params![key(n % ROWS), n])
            };
            database.write(write).await.map(drop)
        })
        .await?;
        measure("point reads", &database, |database, n| async move {
            let read = move |tx: &mut registry_sql::Tx<'_>| {
                tx.query_one("SELECT value FROM items WHERE id = $1", params![key(n * 7919 % ROWS)])
            };
            database.point(read).await.map(drop)
        })
        .await?;
        database.close().await;
        Ok(())
    })
}

fn key(n: i64) -> String {
    format!("item-{n:08}")
}

async fn measure<F, R>(name: &str, database: &Database, operation: F) -> Result<(), Error>
where
    F: Fn(Database, i64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), Error>> + Send,
{
    let (began, cpu) = (Instant::now(), cpu_time());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (operation, database) = (operation.clone(), database.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while began.elapsed() < TIME {
                    operation(database.clone(), caller + done * CALLERS).await?;
                    done += 1;
                    // A point read never waits: let the others have their turn.
                    tokio::task::yield_now().await;
                }
                Ok::<i64, Error>(done)
            })
        })
        .collect();
    let mut done = 0;
    for caller in callers {
        done += caller.await.expect("no caller panics")?;
    }
    let per_second = done as f64 / began.elapsed().as_secs_f64();
    let cpu_us = (cpu_time() - cpu).as_secs_f64() * 1e6 / done as f64;
    println!("{name}: {per_second:.0} a second, {CALLERS} callers, {cpu_us:.1} µs of CPU each");
    Ok(())
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
