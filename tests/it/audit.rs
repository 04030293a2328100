//! The audit log of the real binary: a record for every change that was acknowledged, and nothing altered unnoticed.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use test_support::{Server, aws, eventually, eventually_within, run, sha256, try_run};

use crate::bucket::Bucket;

/// What `berth audit verify` prints, if it ends well.
fn verify(server: &Server) -> Result<String, String> {
    let mut command = Command::new(server.berth([]).get_program());
    try_run(command.args(["audit", "verify", "--data"]).arg(server.data()))
}

/// The same with the server's configuration, which names the replicas.
fn verify_with_replicas(server: &Server) -> Result<String, String> {
    let mut command = Command::new(server.berth([]).get_program());
    command.args(["audit", "verify", "--data"]).arg(server.data());
    try_run(command.arg("--config").arg(server.data().join("test.toml")))
}

fn log(server: &Server) -> String {
    std::fs::read_to_string(server.data().join("audit.log")).unwrap()
}

#[test]
fn kill_9_loses_no_record_of_an_acknowledged_change() {
    let mut server = Server::start();
    let created = Mutex::new(Vec::new());
    for round in 0..3 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let (http, stop, created) = (server.http(), &stop, &created);
                    scope.spawn(move || {
                        for at in 0.. {
                            if stop.load(Ordering::SeqCst) {
                                return;
                            }
                            let name = format!("r{round}/c{client}/n{at}");
                            let path = format!("/v2/{name}/blobs/uploads/");
                            let sent = std::panic::catch_unwind(AssertUnwindSafe(|| {
                                http.post(&path, &[], b"").status
                            }));
                            if sent.is_ok_and(|status| status == 202) {
                                created.lock().push(name);
                            }
                        }
                    })
                })
                .collect();
            let before = created.lock().len();
            eventually("changes are acknowledged", || (created.lock().len() > before + 20).then_some(()));
            server.kill();
            stop.store(true, Ordering::SeqCst);
            clients.into_iter().for_each(|client| client.join().unwrap());
        });
        server.start_again();
    }
    let log = log(&server);
    let created = created.into_inner();
    for name in &created {
        assert!(log.contains(&format!("repository/{name}\"")), "{name} was created and is not in the log");
    }
    let printed = verify(&server).unwrap();
    assert!(printed.contains("nothing was changed"), "{printed}");
}

#[test]
fn what_is_changed_in_the_log_is_found_and_its_place_named() {
    let mut server = Server::start();
    for at in 0..5 {
        assert_eq!(server.http().get(&format!("/v2/absent/manifests/{at}")).status, 404);
    }
    aws(&server, ["ecr", "create-repository", "--repository-name", "team/app"]).unwrap();
    verify(&server).unwrap();
    server.stop();
    let path = server.data().join("audit.log");
    let good = log(&server);
    let number = good.lines().position(|line| line.contains("CreateRepository")).unwrap() + 1;
    std::fs::write(&path, good.replacen("\"CreateRepository\"", "\"DescribeRepositories\"", 1)).unwrap();
    let found = verify(&server).unwrap_err();
    assert!(found.contains(&format!("audit.log:{number}: ")), "{found}");
    let short: String = good.lines().take(4).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, short).unwrap();
    let found = verify(&server).unwrap_err();
    assert!(found.contains("the log went on at least to line"), "{found}");
    std::fs::write(&path, &good).unwrap();
    verify(&server).unwrap();
}

/// The checkpoints that a replica holds.
fn checkpoints(root: &Path) -> Vec<String> {
    let notes = std::fs::read_dir(root.join("notes")).into_iter().flatten().flatten();
    let mut names: Vec<String> = notes.map(|note| note.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn replicas_know_how_far_the_log_went_when_the_database_is_gone_or_older() {
    let disks = tempfile::tempdir().unwrap();
    let (one, two) = (disks.path().join("one"), disks.path().join("two"));
    let replicas = format!("replicas = [{one:?}, {two:?}]\nwrite_quorum = 2");
    let mut server = Server::builder().config(&replicas).start();
    let verify = verify_with_replicas;
    eventually("both replicas have the first checkpoint", || {
        (checkpoints(&one).len() == 2 && checkpoints(&one) == checkpoints(&two)).then_some(())
    });
    let last = checkpoints(&one).into_iter().find(|name| name.ends_with(".last")).unwrap();
    let first = std::fs::read(one.join("notes").join(&last)).unwrap();
    aws(&server, ["ecr", "create-repository", "--repository-name", "team/app"]).unwrap();
    server.stop();
    let second = std::fs::read(one.join("notes").join(&last)).unwrap();
    assert_ne!(first, second, "the stop is signed, too");
    let printed = verify(&server).unwrap();
    assert!(printed.contains("nothing was changed") && printed.contains("metadata"), "{printed}");

    // The database of now, and the one of then: a copy that somebody puts back, with the log.
    let database = server.data().join("berth.db");
    let log_path = server.data().join("audit.log");
    let older = disks.path().join("older");
    std::fs::create_dir(&older).unwrap();
    let databases = ["berth.db", "berth.db-wal", "berth.db-shm"];
    for name in databases {
        let _ = std::fs::copy(server.data().join(name), older.join(name));
    }
    let older_log = std::fs::read(&log_path).unwrap();
    server.start_again();
    aws(&server, ["ecr", "create-repository", "--repository-name", "team/late"]).unwrap();
    server.stop();
    let good = log(&server);
    verify(&server).unwrap();

    let away = disks.path().join("away");
    std::fs::rename(&database, &away).unwrap();
    let printed = verify(&server).unwrap();
    assert!(printed.contains("nothing was changed") && printed.contains("compared with"), "{printed}");
    for (change, told) in [
        (good.replacen("\"CreateRepository\"", "\"DescribeRepositories\"", 1), "is not what was written"),
        (good.lines().take(3).map(|line| format!("{line}\n")).collect(), "the log went on at least to line"),
        (good.lines().skip(2).map(|line| format!("{line}\n")).collect(), "what is before it is missing"),
    ] {
        std::fs::write(&log_path, change).unwrap();
        let found = verify(&server).unwrap_err();
        assert!(found.contains(told), "{told}: {found}");
    }

    std::fs::write(&log_path, older_log).unwrap();
    for name in databases {
        let _ = std::fs::remove_file(server.data().join(name));
        let _ = std::fs::copy(older.join(name), server.data().join(name));
    }
    let found = verify(&server).unwrap_err();
    assert!(found.contains("the database is an older one"), "{found}");
}

#[test]
fn a_bucket_knows_how_far_the_log_went_when_the_database_is_gone() {
    let mut bucket = Bucket::start();
    let config = format!("replicas = [\"s3://bucket/berth\"]\n{}", bucket.config());
    let mut server = Server::builder().config(&config).start();
    let root = bucket.folder.path().join("bucket/berth");
    eventually("the bucket has the first checkpoint", || (checkpoints(&root).len() == 2).then_some(()));
    let kept = |kind: &str| {
        let name = checkpoints(&root).into_iter().find(|name| name.ends_with(kind)).unwrap();
        std::fs::read(root.join("notes").join(name)).unwrap()
    };
    let (anchor, first) = (kept(".0"), kept(".last"));
    for at in 0..5 {
        assert_eq!(server.http().get(&format!("/v2/absent/manifests/{at}")).status, 404);
    }
    aws(&server, ["ecr", "create-repository", "--repository-name", "team/app"]).unwrap();
    server.stop();
    assert_ne!(kept(".last"), first, "the stop is signed, too");
    assert_eq!(kept(".0"), anchor, "what vouches for the first line stays");
    let good = log(&server);
    let database = server.data().join("berth.db");
    std::fs::rename(&database, server.data().join("away")).unwrap();
    // Nothing but the bucket knows any more.
    let printed = verify_with_replicas(&server).unwrap();
    assert!(printed.contains("nothing was changed"), "{printed}");
    assert!(printed.contains("compared with s3://bucket/berth"), "{printed}");
    for (change, told) in [
        (good.replacen("\"CreateRepository\"", "\"DescribeRepositories\"", 1), "is not what was written"),
        (good.lines().take(3).map(|line| format!("{line}\n")).collect(), "the log went on at least to line"),
        (good.lines().skip(2).map(|line| format!("{line}\n")).collect(), "what is before it is missing"),
    ] {
        std::fs::write(server.data().join("audit.log"), change).unwrap();
        let found = verify_with_replicas(&server).unwrap_err();
        assert!(found.contains(told), "{told}: {found}");
    }
    // A bucket that does not answer is named, and what it would say is not made up.
    std::fs::write(server.data().join("audit.log"), &good).unwrap();
    std::fs::rename(server.data().join("away"), &database).unwrap();
    bucket.stop();
    let printed = verify_with_replicas(&server).unwrap();
    assert!(printed.contains("not compared with s3://bucket/berth"), "{printed}");
    assert!(printed.contains("compared with metadata"), "{printed}");
}

/// Lays a device that is always full over the file.
struct Full<'a>(&'a Path);

impl<'a> Full<'a> {
    fn over(path: &'a Path) -> Self {
        run(Command::new("mount").args(["--bind", "/dev/full"]).arg(path));
        Self(path)
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        // The server has it open.
        run(Command::new("umount").arg("--lazy").arg(self.0));
    }
}

#[test]
fn while_the_log_cannot_be_written_changes_are_refused_and_reads_go_on() {
    let mut server = Server::start();
    let http = server.http();
    http.push_blob("team/app", b"content");
    let blob = format!("/v2/team/app/blobs/sha256:{}", sha256(b"content"));
    let path = server.data().join("audit.log");
    let full = Full::over(&path);
    let post = |name: &str| http.post(&format!("/v2/{name}/blobs/uploads/"), &[], b"").status;
    eventually("a change is refused", || (post("team/app") == 503).then_some(()));
    assert_eq!(post("team/other"), 503);
    assert_eq!(http.get(&blob).status, 200);
    let refused = aws(&server, ["ecr", "create-repository", "--repository-name", "late"]).unwrap_err();
    assert!(refused.contains("ServiceUnavailable"), "{refused}");
    drop(full);
    eventually_within(Duration::from_secs(10), "changes are taken again", || {
        (post("team/app") == 202).then_some(())
    });
    eventually("every line is in the log again", || log(&server).contains("team/other").then_some(()));
    verify(&server).unwrap();
    // A stop waits for no disk.
    let full = Full::over(&path);
    eventually("a change is refused again", || (post("team/app") == 503).then_some(()));
    server.stop();
    drop(full);
    server.start_again();
    let printed = verify(&server).unwrap();
    assert!(printed.contains("nothing was changed"), "{printed}");
}
