//! Backups and restores that ended in their midst, or whose keys are not there: told, and simply tried again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Server, eventually_within, run, try_run};

use super::{berth, recovery_key};
use crate::policy_files::Files;

fn backup(server: &Server, path: &Path) -> PathBuf {
    run(server.berth(["backup"]).arg("--output").arg(path));
    path.to_owned()
}

/// `berth restore --json`.
fn restore(server: &Server, from: &Path, data: &Path, key: &Path) -> Command {
    let mut command = berth(server, ["restore", "--json"]);
    command.arg("--from").arg(from).arg("--data").arg(data).arg("--recovery-key").arg(key);
    command
}

#[test]
fn a_restore_that_was_killed_is_no_installation_and_can_be_done_again() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    let digest = server.http().push_blob("app", &vec![7; 3_000_000]);
    let (key, whole) = (recovery_key(&server, elsewhere.path()), elsewhere.path().join("backup"));
    backup(&server, &whole);

    // It waits in its midst for the rest of the backup.
    let builder = Server::builder();
    let (pipe, target) = (elsewhere.path().join("pipe"), builder.data().to_owned());
    run(Command::new("mkfifo").arg(&pipe));
    let mut restoring = restore(&server, &pipe, &target, &key);
    let mut restoring = restoring.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let mut rest = File::options().write(true).open(&pipe).unwrap();
    rest.write_all(&bytes[..bytes.len() / 2]).unwrap();
    eventually_within(Duration::from_secs(30), "it has begun", || {
        target.join("content/.restore").exists().then_some(())
    });
    let start = || {
        let mut command = berth(&server, ["serve", "--listen", "127.0.0.1:0"]);
        try_run(command.arg("--data").arg(&target)).unwrap_err()
    };
    assert!(start().contains("or restores it"));
    let second = try_run(&mut restore(&server, &whole, &target, &key)).unwrap_err();
    assert!(second.contains("is in use by a server, or another backup or restore"), "{second}");
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    drop(rest);
    assert!(start().contains("run berth restore again"));

    run(&mut restore(&server, &whole, &target, &key));
    assert!(!target.join(".restore").exists() && !target.join("content/.restore").exists());
    let restored = builder.start();
    assert_eq!(restored.http().get(&format!("/v2/app/blobs/{digest}")).body, vec![7; 3_000_000]);
}

#[test]
fn a_restore_that_was_killed_at_any_rename_is_brought_to_its_end() {
    let elsewhere = tempfile::tempdir().unwrap();
    let source = Server::builder();
    let policies = source.data().join("policies");
    let files = Files::new(&policies);
    files.user("robot", "AKIAROBOT0000000", &json!([]));
    let server = source.start();
    let digest = server.http().push_blob("app", b"content");
    let (key, whole) = (recovery_key(&server, elsewhere.path()), elsewhere.path().join("backup"));
    backup(&server, &whole);
    let mut went_on = 0;
    for number in 1.. {
        let builder = Server::builder();
        let target = builder.data();
        let plain = restore(&server, &whole, target, &key);
        let mut killed = Command::new("strace");
        killed.args([
            "--follow-forks",
            "--quiet=all",
            "--trace=rename,renameat,renameat2",
            "--output=/dev/null",
        ]);
        killed.arg(format!("--inject=rename,renameat,renameat2:signal=KILL:when={number}"));
        killed.arg(plain.get_program()).args(plain.get_args());
        if killed.output().unwrap().status.success() {
            break;
        }
        let is_whole = target.join("berth.db").exists();
        if !is_whole {
            let mut serve = berth(&server, ["serve", "--listen", "127.0.0.1:0", "--data"]);
            let refused = try_run(serve.arg(target)).unwrap_err();
            assert!(refused.contains("run berth restore again"), "rename {number}: {refused}");
            let told = run(&mut restore(&server, &whole, target, &key));
            let told: Value = serde_json::from_str(&told[told.find('{').unwrap()..]).unwrap();
            went_on += usize::from(told["wentOn"] == true);
        }
        let restored = builder.start();
        let http = restored.anonymous().basic(server.access_key_id(), server.secret());
        assert_eq!(http.get(&format!("/v2/app/blobs/{digest}")).body, b"content", "rename {number}");
        let names = |folder: &Path| {
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&restored.data().join("policies")), names(&policies), "rename {number}");
    }
    assert!(went_on > 2, "{went_on} while it gave names");
}

#[test]
fn what_a_killed_backup_left_is_in_nobodys_way() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    server.http().push_blob("app", b"content");
    let (whole, left) = (elsewhere.path().join("backup"), elsewhere.path().join(".backup.unfinished"));
    std::fs::write(&left, b"half").unwrap();
    std::fs::create_dir_all(server.data().join(".backup")).unwrap();
    std::fs::write(server.data().join(".backup/berth.db"), b"half").unwrap();
    let held = File::open(&left).unwrap();
    held.lock().unwrap();
    let refused = try_run(server.berth(["backup"]).arg("--output").arg(&whole)).unwrap_err();
    assert!(refused.contains(".backup.unfinished is in use by"), "{refused}");
    drop(held);
    backup(&server, &whole);
    assert!(!left.exists() && !server.data().join(".backup").exists());
    let target = elsewhere.path().join("target");
    run(&mut restore(&server, &whole, &target, &recovery_key(&server, elsewhere.path())));
}

#[test]
fn a_restore_tells_which_keys_are_missing_and_none_is_made_in_their_place() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    run(&mut server.berth(["key", "create", "blue"]));
    server.http().push_blob("app", b"content");
    let before = recovery_key(&server, elsewhere.path());
    let whole = backup(&server, &elsewhere.path().join("backup"));
    let export = |name: &str| {
        let path = elsewhere.path().join(name);
        run(server.berth(["key", "export"]).arg("--output").arg(&path));
        path
    };

    run(&mut server.berth(["key", "roll", "--yes", "--domain", "blue"]));
    let target = elsewhere.path().join("without-blue");
    let told = run(&mut restore(&server, &whole, &target, &export("later")));
    let told: Value = serde_json::from_str(&told[told.find('{').unwrap()..]).unwrap();
    assert_eq!(told["missingKeys"], json!(["blue/1"]), "{told}");

    run(&mut server.berth(["key", "roll", "--yes"]));
    let target = elsewhere.path().join("without-default");
    let refused = try_run(&mut restore(&server, &whole, &target, &export("last"))).unwrap_err();
    assert!(refused.contains("has the key of epoch 1"), "{refused}");
    assert!(!target.exists(), "nothing is left");
    run(&mut restore(&server, &whole, &target, &before));
}
