//! What only a server can do to us: connections that break, commits without an answer, several of us at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use test_support::Postgres as Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::database::suite::{SCHEMA, add, value};
use crate::{Database, Error, Tx, params};

async fn open(url: &str) -> Database {
    let database = Database::open_postgres(url).await.unwrap();
    database.migrate("test", SCHEMA).await.unwrap();
    database
}

/// What a [`Cutter`] does with the first commit it sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

/// A proxy that breaks one connection at its commit: before the server hears of it, or before the client hears
/// that it was done. The URL to use instead of `url`.
async fn cutter(address: String, cut: Cut) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let armed = Arc::new(AtomicUsize::new(1));
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (address, armed) = (address.clone(), Arc::clone(&armed));
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    tokio::select! {
                        read = client.read(&mut up) => {
                            let Ok(count @ 1..) = read else { return };
                            let commits = up[..count].windows(6).any(|window| window == b"COMMIT");
                            // The schema was migrated by another connection: the first commit is the test's.
                            if commits && armed.swap(0, Ordering::SeqCst) == 1 {
                                if cut == Cut::After {
                                    server.write_all(&up[..count]).await.unwrap();
                                    // The answer says that it was done, and goes no further.
                                    assert!(server.read(&mut down).await.unwrap() > 0);
                                }
                                return;
                            }
                            server.write_all(&up[..count]).await.unwrap();
                        }
                        read = server.read(&mut down) => {
                            let Ok(count @ 1..) = read else { return };
                            if client.write_all(&down[..count]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    format!("127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_reported_as_such_and_never_run_again() {
    for (cut, stored) in [(Cut::Before, None), (Cut::After, Some(1))] {
        let server = Server::shared();
        let url = server.database();
        let direct = open(&url).await;
        let name = url.rsplit('/').next().unwrap();
        let proxy = cutter(server.address(), cut).await;
        let database = Database::open_postgres(&format!("postgres://postgres@{proxy}/{name}")).await.unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let result = database
            .write(move |tx| {
                counted.fetch_add(1, Ordering::SeqCst);
                add(tx, "n", 1)
            })
            .await;
        assert!(matches!(result, Err(Error::OutcomeUnknown(_))), "{result:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(direct.point(|tx| value(tx, "n")).await.unwrap(), stored);
        // The next one finds a new connection.
        database.write(|tx| add(tx, "n", 1)).await.unwrap();
        assert_eq!(direct.point(|tx| value(tx, "n")).await.unwrap(), Some(stored.unwrap_or(0) + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_before_the_commit_runs_again() {
    let server = Server::shared();
    let url = server.database();
    let database = open(&url).await;
    let kill = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'berth'",
        url.rsplit('/').next().unwrap()
    );
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let result = database.write(move |tx| {
        add(tx, "n", 1)?;
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            server.psql("postgres", &kill);
        }
        add(tx, "n", 1)
    });
    assert_eq!(result.await.unwrap(), 2);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_found_again_and_has_lost_nothing() {
    let mut server = Server::start(&[]);
    let database = open(&server.database()).await;
    for _ in 0..5 {
        database.write(|tx| add(tx, "n", 1)).await.unwrap();
    }
    server.stop();
    let refused = database.write(|tx| add(tx, "n", 1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(!database.is_healthy());
    server.start_again();
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), Some(5));
    assert_eq!(database.write(|tx| add(tx, "n", 1)).await.unwrap(), 6);
    assert!(database.is_healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_that_start_at_once_migrate_once() {
    let url = Server::shared().database();
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { open(&url).await })
        })
        .collect();
    let mut databases = Vec::new();
    for start in starts {
        databases.push(start.await.unwrap());
    }
    for (n, database) in (1..).zip(&databases) {
        assert_eq!(database.write(|tx| add(tx, "n", 1)).await.unwrap(), n);
    }
    let applied =
        databases[0].read(|tx| tx.query_one("SELECT COUNT(*) FROM schema_migrations", params![])).await;
    assert_eq!(applied.unwrap().get::<i64>(0).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_scans_hold_up_no_point_read() {
    let database = open(&Server::shared().database()).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(parking_lot::Mutex::new(held));
    let scans: Vec<_> = (0..20)
        .map(|_| {
            let (database, held) = (database.clone(), Arc::clone(&held));
            tokio::spawn(async move {
                let scan = move |tx: &mut Tx<'_>| {
                    let found = value(tx, "n")?;
                    let _ = held.lock().recv();
                    Ok::<_, Error>(found)
                };
                database.read(scan).await
            })
        })
        .collect();
    assert_eq!(database.point(|tx| value(tx, "n")).await.unwrap(), None);
    assert_eq!(database.write(|tx| add(tx, "n", 1)).await.unwrap(), 1);
    drop(release);
    for scan in scans {
        scan.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_or_name_is_said_when_it_is_opened() {
    let url = Server::shared().url("there_is_no_such_database");
    let Err(error) = Database::open_postgres(&url).await else { panic!("it was opened") };
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("there_is_no_such_database"), "{reason}");
}
