//! The log as a file: nothing is lost at a stop or a crash, and what is changed in it is found.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use registry_runtime::{Sealer, Secret};
use registry_sql::{Database, Error, params};
use tempfile::TempDir;

use super::verify::{AuditEvidence, AuditFindingKind, AuditReport, audit_files, verify_audit_log};
use super::{AuditLog, CheckpointPlaces, Keeper, Line, Outcome, QUEUE, Who, recorded};
use crate::context::RequestContext;
use crate::store;

/// A log over a database of its own.
struct Fixture {
    folder: TempDir,
    database: Database,
    sealer: Arc<Sealer>,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database =
            Database::open_rerunning(folder.path().join("test.db").to_str().unwrap(), 11).await.unwrap();
        database.migrate(store::NAMESPACE, store::MIGRATIONS).await.unwrap();
        let sealer = Arc::new(Sealer::new(&Secret::new(vec![7; 32]), 1));
        Self { folder, database, sealer }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    async fn open(&self) -> (Keeper, AuditLog) {
        Keeper::open(self.database.clone(), Arc::clone(&self.sealer), &self.path(), 1).await.unwrap()
    }

    async fn verify(&self) -> AuditReport {
        self.verify_with(Some(&self.database), None).await
    }

    async fn verify_with(
        &self,
        database: Option<&Database>,
        places: Option<&dyn CheckpointPlaces>,
    ) -> AuditReport {
        let files = audit_files(&self.path()).unwrap();
        let evidence = AuditEvidence { database, sealer: &self.sealer, places };
        verify_audit_log(evidence, files).await.unwrap()
    }

    /// A log of three stretches of ten lines, each but the last covered by a checkpoint.
    async fn three_stretches(&self) {
        let (keeper, log) = self.open().await;
        for stretch in 0..3 {
            (0..10).for_each(|at| assert!(record(&log, stretch * 10 + at)));
            if stretch < 2 {
                keeper.tend(2, true).await.unwrap();
            }
        }
        log.close();
    }

    async fn outbox(&self) -> usize {
        self.database
            .read(|tx| tx.query("SELECT number FROM identity_audit_outbox", &[]))
            .await
            .unwrap()
            .len()
    }

    /// A change of something, in the transaction of which records ride along.
    async fn change(&self) -> Result<(), Error> {
        let sql = "INSERT INTO identity_revoked_sessions (session_uid, expires_ms) VALUES ($1, $2)";
        let id = registry_runtime::random_id();
        self.database.write(move |tx| tx.execute(sql, params![id.as_str(), 0]).map(drop)).await
    }
}

fn record(log: &AuditLog, request_id: usize) -> bool {
    let request = RequestContext { request_id: request_id.to_string(), ..RequestContext::local(0) };
    let caller = Who { arn: "anonymous", user_id: "anonymous", access_key_id: None, source_identity: None };
    let line = Line {
        request: &request,
        caller,
        operation: "Ping",
        asked: None,
        outcome: Outcome::Open,
        generations: (1, 0),
    };
    log.record(&line).is_ok()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn decisions(path: &Path) -> usize {
    lines(path).iter().filter(|line| line.contains("\"operation\"")).count()
}

fn kinds(report: &AuditReport) -> Vec<AuditFindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normal_stop_loses_no_line() {
    let fixture = Fixture::new().await;
    let (_, log) = fixture.open().await;
    let recorded = (0..10_000).filter(|index| record(&log, *index)).count();
    log.close();
    assert_eq!(decisions(&fixture.path()), recorded);
    assert_eq!(std::fs::metadata(fixture.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!record(&log, 0), "nothing is recorded after the end, so nothing may be allowed");
    assert!(fixture.verify().await.is_intact());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_goes_on_where_it_stood() {
    let fixture = Fixture::new().await;
    for round in 1..=3 {
        let (keeper, log) = fixture.open().await;
        assert!(record(&log, round));
        if round == 2 {
            keeper.tend(5, true).await.unwrap();
        }
        log.close();
        assert_eq!(decisions(&fixture.path()), round);
    }
    let report = fixture.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.first, report.last, report.checkpoints), (Some(1), Some(5), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_of_a_crash_is_cut_off() {
    let fixture = Fixture::new().await;
    fixture.three_stretches().await;
    let text = std::fs::read(fixture.path()).unwrap();
    std::fs::write(fixture.path(), &text[..text.len() - 9]).unwrap();
    let (_, log) = fixture.open().await;
    assert!(record(&log, 99));
    log.close();
    let report = fixture.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(decisions(&fixture.path()), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_moved_away_is_made_anew_and_verified_with_it_or_alone() {
    let fixture = Fixture::new().await;
    let (keeper, log) = fixture.open().await;
    assert!(record(&log, 1));
    log.flush();
    let moved = fixture.folder.path().join("audit.log.1");
    std::fs::rename(fixture.path(), &moved).unwrap();
    keeper.tend(5, false).await.unwrap();
    assert!(record(&log, 2));
    log.close();
    assert_eq!((decisions(&moved), decisions(&fixture.path())), (1, 1));
    let report = fixture.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.files, 2);
    std::fs::remove_file(&moved).unwrap();
    let report = fixture.verify().await;
    assert!(report.is_intact(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_moved_away_while_no_server_runs_is_gone_on_with() {
    let fixture = Fixture::new().await;
    fixture.three_stretches().await;
    std::fs::rename(fixture.path(), fixture.folder.path().join("audit.log.1")).unwrap();
    let (_, log) = fixture.open().await;
    assert!(record(&log, 99));
    log.close();
    let report = fixture.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.files, decisions(&fixture.path())), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_change_commits_with_it_and_survives_a_crash() {
    let fixture = Fixture::new().await;
    let (keeper, log) = fixture.open().await;
    recorded(log.clone(), async {
        assert!(record(&log, 1));
        fixture.change().await.unwrap();
        log.flush();
        // What a crash right now would leave: a record, whether or not its line reached the file.
        assert_eq!(fixture.outbox().await, 1);
    })
    .await;
    recorded(log.clone(), async { assert!(record(&log, 2)) }).await;
    keeper.tend(5, false).await.unwrap();
    assert_eq!((fixture.outbox().await, decisions(&fixture.path())), (0, 2), "each is in the log, once");

    recorded(log.clone(), async {
        assert!(record(&log, 3));
        fixture.change().await.unwrap();
    })
    .await;
    log.close();
    let text = std::fs::read_to_string(fixture.path()).unwrap();
    assert!(text.contains("\"change\":3"), "{text}");
    let (keeper, log) = fixture.open().await;
    keeper.tend(5, false).await.unwrap();
    assert_eq!(
        (fixture.outbox().await, decisions(&fixture.path())),
        (0, 3),
        "it was there and stays there once"
    );
    log.close();

    // The line was lost with the page cache: the record brings it back.
    let (_, log) = fixture.open().await;
    recorded(log.clone(), async {
        assert!(record(&log, 4));
        fixture.change().await.unwrap();
    })
    .await;
    log.close();
    let text = std::fs::read_to_string(fixture.path()).unwrap();
    let cut = text.trim_end().rfind('\n').unwrap() + 1;
    std::fs::write(fixture.path(), &text[..cut]).unwrap();
    assert_eq!(decisions(&fixture.path()), 3);
    let (_, log) = fixture.open().await;
    log.close();
    assert_eq!(decisions(&fixture.path()), 4);
    assert!(fixture.verify().await.is_intact());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_change_leaves_no_record_and_its_decision_is_logged() {
    let fixture = Fixture::new().await;
    let (_, log) = fixture.open().await;
    recorded(log.clone(), async {
        assert!(record(&log, 1));
        let refused: Result<(), Error> = fixture.database.write(|_| Err(Error::NotOneRow { found: 0 })).await;
        refused.unwrap_err();
    })
    .await;
    log.flush();
    assert_eq!((fixture.outbox().await, decisions(&fixture.path())), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_gaps_reordering_and_a_missing_end_are_found() {
    let fixture = Fixture::new().await;
    fixture.three_stretches().await;
    let good = lines(&fixture.path());
    assert_eq!(good.len(), 33, "30 decisions and 3 checkpoints");
    assert!(fixture.verify().await.is_intact());
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = good.clone();
        change(&mut lines);
        std::fs::write(fixture.path(), lines.join("\n") + "\n").unwrap();
    };
    for at in [1, 5, 15, 32] {
        with(&|lines| lines[at] = lines[at].replace("\"requestId\":\"", "\"requestId\":\"x"));
        let report = fixture.verify().await;
        assert_eq!(kinds(&report), [AuditFindingKind::Edited], "line {at}: {report:?}");
        assert_eq!(report.findings[0].line, Some(at as u64 + 1));
        with(&|lines| drop(lines.remove(at)));
        let report = fixture.verify().await;
        // The last line is covered by no checkpoint yet.
        let expected: &[_] = if at == 32 { &[] } else { &[AuditFindingKind::Gap] };
        assert_eq!(kinds(&report), expected, "line {at}: {report:?}");
    }
    with(&|lines| lines.swap(3, 4));
    assert!(kinds(&fixture.verify().await).contains(&AuditFindingKind::Reordered));
    with(&|lines| lines.truncate(15));
    assert_eq!(kinds(&fixture.verify().await), [AuditFindingKind::MissingTail]);
    with(&|lines| drop(lines.drain(..5)));
    assert_eq!(kinds(&fixture.verify().await), [AuditFindingKind::MissingHead]);
    with(&|lines| lines.clear());
    assert_eq!(kinds(&fixture.verify().await), [AuditFindingKind::MissingHead]);
    with(&|lines| lines[7] = "nonsense".to_owned());
    let found = kinds(&fixture.verify().await);
    assert_eq!(found, [AuditFindingKind::Edited, AuditFindingKind::Gap]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_chain_of_somebody_else_is_not_taken_for_this_one() {
    let (ours, theirs) = (Fixture::new().await, Fixture::new().await);
    ours.three_stretches().await;
    theirs.three_stretches().await;
    std::fs::copy(theirs.path(), ours.path()).unwrap();
    assert!(kinds(&ours.verify().await).contains(&AuditFindingKind::MissingHead));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_queue_is_refused_rather_than_kept() {
    let fixture = Fixture::new().await;
    let (_, log) = fixture.open().await;
    recorded(log.clone(), async {
        let taken = (0..QUEUE + 10).filter(|at| record(&log, *at)).count();
        assert_eq!(taken, QUEUE);
    })
    .await;
    log.flush();
    assert!(record(&log, 0), "there is room again");
}

/// Replicas in memory, by name; one without texts is away.
#[derive(Default)]
struct Shelf(Mutex<BTreeMap<String, Option<Texts>>>);

type Texts = BTreeMap<String, Vec<u8>>;

impl Shelf {
    fn of(places: &[&str]) -> Arc<Self> {
        let places = places.iter().map(|place| ((*place).to_owned(), Some(BTreeMap::new())));
        Arc::new(Self(Mutex::new(places.collect())))
    }
}

#[async_trait]
impl CheckpointPlaces for Shelf {
    async fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    async fn read(&self, place: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let places = self.0.lock();
        places[place].as_ref().map(|texts| texts.get(name).cloned()).ok_or_else(|| "away".to_owned())
    }

    async fn write(&self, place: &str, name: &str, text: Vec<u8>) -> Result<(), String> {
        let mut places = self.0.lock();
        let texts = places.get_mut(place).and_then(Option::as_mut).ok_or_else(|| "away".to_owned())?;
        texts.insert(name.to_owned(), text);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_what_is_missing_when_the_database_is_gone() {
    let fixture = Fixture::new().await;
    let shelf = Shelf::of(&["one", "two"]);
    let (keeper, log) = fixture.open().await;
    keeper.keep_at(Arc::<Shelf>::clone(&shelf));
    for stretch in 0..3 {
        (0..5).for_each(|at| assert!(record(&log, stretch * 5 + at)));
        keeper.tend(2, true).await.unwrap();
        keeper.mirror().await.unwrap();
    }
    (0..3).for_each(|at| assert!(record(&log, 100 + at)));
    log.close();
    let good = lines(&fixture.path());
    let with_database = fixture.verify_with(Some(&fixture.database), Some(shelf.as_ref())).await;
    assert!(with_database.is_intact(), "{with_database:?}");
    assert_eq!((with_database.unchecked, with_database.compared.len()), (0, 3));
    let without = fixture.verify_with(None, Some(shelf.as_ref())).await;
    assert!(without.is_intact(), "{without:?}");
    assert_eq!((without.unchecked, without.compared.len()), (3, 2), "no key is left for the last lines");
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = good.clone();
        change(&mut lines);
        std::fs::write(fixture.path(), lines.join("\n") + "\n").unwrap();
    };
    with(&|lines| lines[3] = lines[3].replace("\"requestId\":\"", "\"requestId\":\"x"));
    assert_eq!(kinds(&fixture.verify_with(None, Some(shelf.as_ref())).await), [AuditFindingKind::Edited]);
    with(&|lines| drop(lines.remove(3)));
    assert_eq!(kinds(&fixture.verify_with(None, Some(shelf.as_ref())).await), [AuditFindingKind::Gap]);
    with(&|lines| lines.swap(8, 9));
    let found = kinds(&fixture.verify_with(None, Some(shelf.as_ref())).await);
    assert!(found.contains(&AuditFindingKind::Reordered), "{found:?}");
    with(&|lines| lines.truncate(13));
    assert_eq!(
        kinds(&fixture.verify_with(None, Some(shelf.as_ref())).await),
        [AuditFindingKind::MissingTail]
    );
    with(&|lines| drop(lines.drain(..2)));
    assert_eq!(
        kinds(&fixture.verify_with(None, Some(shelf.as_ref())).await),
        [AuditFindingKind::MissingHead]
    );
    with(&|_| {});
    shelf.0.lock().insert("one".to_owned(), None);
    let one_away = fixture.verify_with(None, Some(shelf.as_ref())).await;
    assert!(one_away.is_intact());
    assert_eq!((one_away.compared.len(), one_away.unread.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_and_log_are_found_out_and_replicas_keep_what_they_know() {
    let fixture = Fixture::new().await;
    let shelf = Shelf::of(&["one"]);
    let (keeper, log) = fixture.open().await;
    keeper.keep_at(Arc::<Shelf>::clone(&shelf));
    assert!(record(&log, 1));
    keeper.tend(2, true).await.unwrap();
    keeper.mirror().await.unwrap();
    log.flush();
    let older_log = std::fs::read(fixture.path()).unwrap();
    let select = "SELECT number, checkpoint, file_offset, keys FROM identity_audit_chains";
    let older: (i64, String, i64, Vec<u8>) = fixture
        .database
        .read(move |tx| {
            let row = tx.query_optional(select, &[])?.unwrap();
            Ok::<_, Error>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .await
        .unwrap();
    for round in 2..5 {
        assert!(record(&log, round));
        keeper.tend(3, true).await.unwrap();
        keeper.mirror().await.unwrap();
    }
    log.close();
    // Both are put back, and the server goes on with them.
    std::fs::write(fixture.path(), older_log).unwrap();
    let update = "UPDATE identity_audit_chains SET number = $1, checkpoint = $2, file_offset = $3, keys = $4";
    fixture
        .database
        .write(move |tx| {
            let (number, checkpoint, offset, keys) = &older;
            tx.execute(update, params![*number, checkpoint.as_str(), *offset, keys.as_slice()]).map(drop)
        })
        .await
        .unwrap();
    let report = fixture.verify_with(Some(&fixture.database), Some(shelf.as_ref())).await;
    assert_eq!(kinds(&report), [AuditFindingKind::RolledBack, AuditFindingKind::MissingTail], "{report:?}");
    assert!(fixture.verify().await.is_intact(), "the database alone cannot tell");
    let kept = shelf.0.lock().clone();
    let (keeper, log) = fixture.open().await;
    keeper.keep_at(Arc::<Shelf>::clone(&shelf));
    assert!(record(&log, 9));
    keeper.tend(4, true).await.unwrap();
    keeper.mirror().await.unwrap();
    assert!(keeper.problem().unwrap().contains("the database is an older one"), "{:?}", keeper.problem());
    assert_eq!(*shelf.0.lock(), kept, "what it knows stays");
    log.close();
    let report = fixture.verify_with(Some(&fixture.database), Some(shelf.as_ref())).await;
    assert!(kinds(&report).contains(&AuditFindingKind::RolledBack), "{report:?}");
}
