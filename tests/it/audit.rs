//! The audit log of the real binary: a record for every change that was acknowledged, and nothing altered unnoticed.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use test_support::{Server, aws, eventually, eventually_within, run, sha256, try_run};

/// What `berth audit verify` prints, if it ends well.
fn verify(server: &Server) -> Result<String, String> {
    let mut command = Command::new(server.berth([]).get_program());
    try_run(command.args(["audit", "verify", "--data"]).arg(server.data()))
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
    let server = Server::start();
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
}
