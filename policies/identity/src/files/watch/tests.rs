use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use registry_runtime::Shutdown;

use super::{EVERY, FilesStatus, PolicyWatch, STILL, Seen, Watcher};
use crate::files::tests::{directory, write};
use crate::testing::{Fixture, repository};

const OPEN: &str = r#"{"Statement": {"Effect": "Allow", "Action": "ecr:BatchGetImage", "Principal": "*"}}"#;

/// Looks so much later than the look before.
fn seen_after(watcher: &mut Watcher, gap: Duration) -> &'static str {
    match watcher.look(watcher.looked + gap) {
        Seen::Nothing => "nothing",
        Seen::Restless => "restless",
        Seen::GitAtWork => "git",
        Seen::Settled(_) => "settled",
        Seen::Wrong(_) => "wrong",
    }
}

/// Looks when all that moved before has come to rest, if nothing has moved since.
fn seen(watcher: &mut Watcher) -> &'static str {
    seen_after(watcher, STILL)
}

#[test]
fn an_edit_counts_within_half_a_second_of_its_making() {
    let folder = directory(&[("repositories/a.json", OPEN)]);
    let mut watcher = Watcher::new(folder.path().to_owned());
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["restless", "settled"]);
    write(folder.path(), "repositories/b.json", OPEN);
    // At worst the last look was just before the edit: then it is seen one interval later.
    let mut passed = EVERY;
    let first = seen_after(&mut watcher, EVERY);
    assert_eq!(first, "restless");
    while seen_after(&mut watcher, EVERY) != "settled" {
        passed += EVERY;
    }
    passed += EVERY;
    assert_eq!(passed, Duration::from_millis(450));
    assert_eq!((watcher.looked - watcher.first_seen, watcher.late), (STILL, Duration::ZERO));
}

#[test]
fn what_moves_between_looks_does_not_count_until_it_rests() {
    let folder = directory(&[]);
    let mut watcher = Watcher::new(folder.path().to_owned());
    for number in 0..10 {
        write(folder.path(), &format!("repositories/r{number}.json"), OPEN);
        assert_eq!(seen_after(&mut watcher, EVERY), "restless");
        assert_eq!(seen_after(&mut watcher, EVERY), "restless");
    }
    assert_eq!(seen_after(&mut watcher, EVERY + STILL), "settled");
    assert_eq!(watcher.late, STILL, "a look that came late is told");
}

#[test]
fn edits_count_when_looks_agree() {
    let folder = directory(&[("repositories/a.json", OPEN)]);
    let mut watcher = Watcher::new(folder.path().to_owned());
    assert_eq!(
        [seen(&mut watcher), seen(&mut watcher), seen(&mut watcher)],
        ["restless", "settled", "nothing"]
    );
    write(folder.path(), "repositories/b.json", OPEN);
    assert_eq!(seen(&mut watcher), "restless");
    write(folder.path(), "repositories/c.json", OPEN);
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["restless", "settled"]);
    write(folder.path(), "repositories/c.json", "{");
    assert_eq!(
        [seen(&mut watcher), seen(&mut watcher), seen(&mut watcher)],
        ["restless", "wrong", "nothing"]
    );
}

#[test]
fn a_directory_that_goes_away_is_wrong_once() {
    let folder = directory(&[]);
    let mut watcher = Watcher::new(folder.path().join("set"));
    assert_eq!(
        [seen(&mut watcher), seen(&mut watcher), seen(&mut watcher)],
        ["restless", "wrong", "nothing"]
    );
    write(folder.path(), "set/berth-policies.json", r#"{"format": 1, "account": "000000000000"}"#);
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["restless", "settled"]);
    fs::remove_file(folder.path().join("set/berth-policies.json")).unwrap();
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["restless", "wrong"]);
}

#[test]
fn nothing_counts_while_git_is_at_work() {
    let folder = directory(&[]);
    let work_tree = folder.path().join("policies");
    write(&work_tree, "berth-policies.json", r#"{"format": 1, "account": "000000000000"}"#);
    write(folder.path(), ".git/index.lock", "");
    let mut watcher = Watcher::new(work_tree.clone());
    assert_eq!([seen(&mut watcher), seen(&mut watcher), seen(&mut watcher)], ["restless", "git", "git"]);
    fs::remove_file(folder.path().join(".git/index.lock")).unwrap();
    assert_eq!(seen(&mut watcher), "settled");

    // A linked work tree has its lock elsewhere.
    write(&work_tree, ".git", "gitdir: ../.git/worktrees/one\n");
    write(folder.path(), ".git/worktrees/one/index.lock", "");
    write(&work_tree, "users/a.json", "{}");
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["restless", "git"]);
}

#[test]
fn a_link_counts_at_once_and_edits_behind_it_do_not() {
    let folder = tempfile::tempdir().unwrap();
    for release in ["one", "two"] {
        let marker = format!("{release}/berth-policies.json");
        write(folder.path(), &marker, r#"{"format": 1, "account": "000000000000"}"#);
    }
    let current = folder.path().join("current");
    symlink("one", &current).unwrap();
    let mut watcher = Watcher::new(folder.path().to_owned());
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["settled", "nothing"]);
    write(folder.path(), "one/users/a.json", "{}");
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["nothing", "nothing"]);
    fs::remove_file(&current).unwrap();
    symlink("two", &current).unwrap();
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["settled", "nothing"]);
    fs::remove_file(&current).unwrap();
    symlink("gone", &current).unwrap();
    assert_eq!([seen(&mut watcher), seen(&mut watcher)], ["restless", "wrong"]);
}

async fn until(watch: &PolicyWatch, what: &str, condition: impl Fn(&FilesStatus) -> bool) -> Duration {
    let start = Instant::now();
    while !condition(&watch.status()) {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", watch.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

fn open_to_strangers(fixture: &Fixture, name: &str) -> bool {
    fixture.allowed(&fixture.identity.anonymous(), "ecr:BatchGetImage", &repository(name))
}

fn number(status: &FilesStatus) -> i64 {
    status.published.map_or(0, |generation| generation.number)
}

async fn watched(directory: &Path) -> (Fixture, PolicyWatch, Shutdown) {
    let fixture = Fixture::new().await;
    let shutdown = Shutdown::new();
    let watch = PolicyWatch::start(fixture.identity.clone(), directory.to_owned(), &shutdown);
    (fixture, watch, shutdown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_take_back_what_was_published_by_hand() {
    let folder = directory(&[("repositories/a.json", OPEN)]);
    let (fixture, watch, shutdown) = watched(folder.path()).await;
    until(&watch, "first", |status| number(status) == 1).await;
    shutdown.begin();
    let by_hand = directory(&[("repositories/b.json", OPEN)]);
    let files = std::sync::Arc::new(crate::files::check(by_hand.path()).unwrap());
    fixture.identity.publish(files, "arn:aws:iam::000000000000:user/administrator").await.unwrap();

    let shutdown = Shutdown::new();
    let watch = PolicyWatch::start(fixture.identity.clone(), folder.path().to_owned(), &shutdown);
    until(&watch, "looked", |status| number(status) == 2).await;
    assert!(open_to_strangers(&fixture, "b") && !open_to_strangers(&fixture, "a"));
    write(folder.path(), "repositories/c.json", OPEN);
    until(&watch, "edited", |status| number(status) == 3).await;
    assert!(open_to_strangers(&fixture, "a") && !open_to_strangers(&fixture, "b"));
    shutdown.begin();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_live_and_a_broken_one_leaves_the_last_good_set() {
    let folder = directory(&[("repositories/a.json", OPEN)]);
    let (fixture, watch, shutdown) = watched(folder.path()).await;
    until(&watch, "first", |status| number(status) == 1).await;
    assert!(open_to_strangers(&fixture, "a") && !open_to_strangers(&fixture, "b"));

    write(folder.path(), "repositories/b.json", OPEN);
    until(&watch, "second", |status| number(status) == 2).await;
    assert!(open_to_strangers(&fixture, "b"));

    write(folder.path(), "repositories/b.json", "{");
    until(&watch, "broken", |status| !status.problems.is_empty()).await;
    let problem = watch.status().problems[0].to_string();
    assert_eq!(problem, "repositories/b.json:1:2: error: expected a key in double quotes");
    assert!(open_to_strangers(&fixture, "a") && open_to_strangers(&fixture, "b"));

    fs::remove_dir_all(folder.path().join("repositories")).unwrap();
    fs::remove_file(folder.path().join("berth-policies.json")).unwrap();
    until(&watch, "gone", |status| {
        status.problems.iter().any(|found| found.to_string().contains("is missing"))
    })
    .await;
    assert!(open_to_strangers(&fixture, "a"));

    write(folder.path(), "berth-policies.json", r#"{"format": 1, "account": "000000000000"}"#);
    until(&watch, "mended", |status| status.problems.is_empty() && number(status) == 3).await;
    assert!(!open_to_strangers(&fixture, "a"));
    shutdown.begin();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_the_tables_stand_against_gets_another_try_when_they_change() {
    let folder = directory(&[("users/bob.json", "{}"), ("repositories/a.json", OPEN)]);
    let fixture = Fixture::new().await;
    let key = fixture.user("bob", &crate::testing::policy("Allow", "ecr:*", "*")).await;
    let uid = fixture.caller(&key).await.principal_uid().to_owned();
    let shutdown = Shutdown::new();
    let watch = PolicyWatch::start(fixture.identity.clone(), folder.path().to_owned(), &shutdown);
    until(&watch, "taken", |status| {
        status.problems.iter().any(|found| found.to_string().contains("delete it there first"))
    })
    .await;
    fixture.write(move |tx| crate::store::principals::delete_user(tx, &uid)).await;
    until(&watch, "free", |status| status.problems.is_empty() && number(status) == 1).await;
    assert!(open_to_strangers(&fixture, "a"));
    shutdown.begin();
}
