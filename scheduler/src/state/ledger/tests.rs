use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use registry_aws::AwsError;
use registry_runtime::{Clock, Sealer, Secret, Shutdown};
use registry_sql::{Database, params};
use tokio_util::sync::CancellationToken;

use super::super::{Change, Draft, Hooks, Ledger, Record, State};
use crate::ids::ClusterName;
use crate::model::{Cluster, ClusterStatus};
use crate::store::Store;

/// Remembers which clusters were committed.
#[derive(Default)]
struct Watch {
    committed: Mutex<Vec<String>>,
}

impl Hooks for Watch {
    fn reconcile(&self, _draft: &mut Draft<'_>, _changed: &[Change]) {}

    fn tick(&self, _draft: &mut Draft<'_>) {}

    fn committed(&self, changes: &[Change], _state: &State) {
        for change in changes {
            if let Change::Put(Record::Cluster(cluster)) = change {
                self.committed.lock().push(cluster.name.to_string());
            }
        }
    }
}

struct Fixture {
    ledger: Ledger,
    watch: Arc<Watch>,
    database: Database,
    sealer: Arc<Sealer>,
    closed: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open_rerunning(&test_support::database_in(directory.path()), 3).await.unwrap();
    let sealer = Arc::new(Sealer::new(&Secret::new(vec![1; 32]), 1));
    Store::migrate(&database).await.unwrap();
    let store = Store::lead_alone(database.clone(), Arc::clone(&sealer)).await.unwrap();
    let state = store.load().await.unwrap();
    let (ledger, clerk) = Ledger::new(state, store, Clock::system());
    let (watch, closed) = (Arc::new(Watch::default()), CancellationToken::new());
    let hooks: Arc<dyn Hooks> = watch.clone();
    let running = tokio::spawn(clerk.run(hooks, Duration::from_secs(1), Shutdown::new(), closed.clone()));
    Fixture { ledger, watch, database, sealer, closed, running, _directory: directory }
}

fn cluster(name: &str) -> Record {
    Record::Cluster(Arc::new(Cluster {
        name: ClusterName::new(name),
        status: ClusterStatus::Active,
        created_at: 0,
        settings: Vec::new(),
        configuration: None,
        tags: Vec::new(),
    }))
}

fn known(ledger: &Ledger) -> Vec<String> {
    ledger.read().clusters().map(|cluster| cluster.name.to_string()).collect()
}

async fn put(ledger: &Ledger, name: &'static str) -> Result<(), AwsError> {
    ledger
        .change(move |draft| {
            draft.put(cluster(name));
            Ok(())
        })
        .await
}

#[tokio::test]
async fn works_that_wait_together_are_all_done_and_stored() {
    let fixture = fixture().await;
    let works = ["a", "b", "c", "d"].map(|name| put(&fixture.ledger, name));
    for outcome in futures_util::future::join_all(works).await {
        outcome.unwrap();
    }
    assert_eq!(known(&fixture.ledger), ["a", "b", "c", "d"]);
    assert_eq!(fixture.watch.committed.lock().len(), 4);
    let store = Store::lead_alone(fixture.database.clone(), Arc::clone(&fixture.sealer)).await.unwrap();
    let state = store.load().await.unwrap();
    assert_eq!(state.clusters().count(), 4);
}

#[tokio::test]
async fn a_work_that_fails_takes_its_changes_back_and_no_others() {
    let fixture = fixture().await;
    let failing = fixture.ledger.change(|draft| {
        draft.put(cluster("half-done"));
        Err::<(), _>(AwsError::invalid_parameter("no"))
    });
    let (failed, done) = tokio::join!(failing, put(&fixture.ledger, "whole"));
    assert_eq!(failed.unwrap_err().message, "no");
    done.unwrap();
    assert_eq!(known(&fixture.ledger), ["whole"]);
}

#[tokio::test]
async fn a_panic_fails_its_work_and_the_next_one_is_done() {
    let fixture = fixture().await;
    let broken = fixture.ledger.change(|draft| -> Result<(), AwsError> {
        draft.put(cluster("broken"));
        panic!("a mistake in a work");
    });
    assert_eq!(broken.await.unwrap_err().code, "ServerException");
    put(&fixture.ledger, "next").await.unwrap();
    assert_eq!(known(&fixture.ledger), ["next"]);
}

#[tokio::test]
async fn a_scheduler_that_was_taken_over_writes_nothing_more() {
    let fixture = fixture().await;
    put(&fixture.ledger, "before").await.unwrap();
    Store::lead_alone(fixture.database.clone(), Arc::clone(&fixture.sealer)).await.unwrap();
    assert_eq!(put(&fixture.ledger, "after").await.unwrap_err().code, "ServerException");
    assert_eq!(known(&fixture.ledger), ["before"]);
    assert_eq!(*fixture.watch.committed.lock(), ["before"]);
    let rows = fixture
        .database
        .read(|tx| tx.query("SELECT name FROM clusters", params![]))
        .await
        .map_err(|error: registry_sql::Error| error)
        .unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_closed_ledger_takes_nothing_more() {
    let fixture = fixture().await;
    put(&fixture.ledger, "before").await.unwrap();
    fixture.closed.cancel();
    fixture.running.await.unwrap();
    assert_eq!(put(&fixture.ledger, "late").await.unwrap_err().code, "ServiceUnavailableException");
    assert_eq!(known(&fixture.ledger), ["before"]);
}
