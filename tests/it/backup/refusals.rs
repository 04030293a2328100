//! A backup that is damaged, cut, foreign or not for this directory: one message, and nothing changed.

use std::path::Path;
use std::process::Command;

use test_support::{Server, run, try_run};

use super::{berth, recovery_key};

#[test]
fn a_bad_backup_is_refused_in_one_sentence_and_changes_nothing() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    for n in 0..20_u8 {
        server.http().push_blob("some/where", &vec![n; 100_000]);
    }
    let key = recovery_key(&server, elsewhere.path());
    let backup = elsewhere.path().join("backup");
    run(server.berth(["backup"]).arg("--output").arg(&backup));
    let whole = std::fs::read(&backup).unwrap();
    let target = elsewhere.path().join("target");
    let refused = |bytes: &[u8], key: &Path| {
        let file = elsewhere.path().join("changed");
        std::fs::write(&file, bytes).unwrap();
        let mut command = berth(&server, ["restore"]);
        command.arg("--from").arg(&file).arg("--data").arg(&target).arg("--recovery-key").arg(key);
        let error = try_run(&mut command).unwrap_err();
        assert!(!target.exists(), "{error}");
        assert_eq!(error.trim().lines().filter(|line| line.contains("error:")).count(), 1, "{error}");
        error
    };
    for at in [70, 100, 1000, whole.len() / 3, whole.len() / 2, whole.len() - 400_000, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        let error = refused(&flipped, &key);
        assert!(error.contains("damaged or was cut off"), "byte {at}: {error}");
    }
    for len in [97, 5000, whole.len() / 2, whole.len() - 1] {
        let error = refused(&whole[..len], &key);
        assert!(error.contains("damaged or was cut off"), "cut to {len}: {error}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(refused(&longer, &key).contains("damaged or was cut off"));
    assert!(refused(b"nonsense", &key).contains("is not a backup of Berth"));
    let mut newer = whole.clone();
    newer[4] = 2;
    let error = refused(&newer, &key);
    assert!(error.contains("format 2") && error.contains("only 1"), "{error}");

    let other = Server::start();
    let other_dir = tempfile::tempdir().unwrap();
    let foreign = recovery_key(&other, other_dir.path());
    let error = refused(&whole, &foreign);
    assert!(error.contains("belongs to installation"), "{error}");
    let error = refused(&whole, &backup);
    assert!(error.contains("is no recovery key"), "{error}");
    let mut mistyped = std::fs::read_to_string(&key).unwrap();
    let at = mistyped.rfind('=').unwrap() - 4;
    let wrong = if mistyped.as_bytes()[at] == b'0' { "1" } else { "0" };
    mistyped.replace_range(at..=at, wrong);
    let mistyped_key = elsewhere.path().join("mistyped");
    std::fs::write(&mistyped_key, mistyped).unwrap();
    let error = refused(&whole, &mistyped_key);
    assert!(error.contains("line "), "{error}");

    // A directory in use, and the keys of somebody else in the key directory.
    let mut onto = berth(&server, ["restore"]);
    onto.arg("--from").arg(&backup).arg("--data").arg(other.data()).arg("--recovery-key").arg(&key);
    let error = try_run(&mut onto).unwrap_err();
    assert!(error.contains("is in use by a server"), "{error}");
    let mut onto = berth(&server, ["restore"]);
    onto.arg("--from").arg(&backup).arg("--data").arg(elsewhere.path()).arg("--recovery-key").arg(&key);
    let error = try_run(&mut onto).unwrap_err();
    assert!(error.contains("is not empty"), "{error}");
    let with_keys = elsewhere.path().join("with-keys");
    std::fs::create_dir(&with_keys).unwrap();
    run(std::process::Command::new("cp").arg("-a").arg(other.data().join("keys")).arg(&with_keys));
    let mut onto = berth(&server, ["restore"]);
    onto.arg("--from").arg(&backup).arg("--data").arg(&with_keys).arg("--recovery-key").arg(&key);
    let error = try_run(&mut onto).unwrap_err();
    assert!(error.contains("keys of another installation"), "{error}");
    assert_eq!(std::fs::read_dir(&with_keys).unwrap().count(), 1);
}

#[test]
fn who_restores_into_anothers_folder_is_told_to_hand_it_over() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    let key = recovery_key(&server, elsewhere.path());
    let backup = elsewhere.path().join("backup");
    run(server.berth(["backup"]).arg("--output").arg(&backup));
    let target = elsewhere.path().join("target");
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::chown(&target, Some(4711), Some(4712)).expect("these tests run as root");
    let mut restore = berth(&server, ["restore"]);
    restore.arg("--from").arg(&backup).arg("--data").arg(&target).arg("--recovery-key").arg(&key);
    let restored = restore.output().unwrap();
    let warned = String::from_utf8(restored.stderr).unwrap();
    assert!(restored.status.success(), "{warned}");
    assert!(warned.contains(&format!("chown -R 4711:4712 {}", target.display())), "{warned}");
}

#[test]
fn a_backup_holds_nothing_in_clear() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    let digest = server.http().push_blob("canary/repository", b"CANARY-in-a-blob-1f0c");
    let backup = elsewhere.path().join("backup");
    run(server.berth(["backup"]).arg("--output").arg(&backup));
    let bytes = std::fs::read(&backup).unwrap();
    let system = std::fs::read_to_string(server.data().join("keys/system-1.key")).unwrap();
    for canary in ["canary/repository", "CANARY-in-a-blob-1f0c", &digest[7..], server.secret(), system.trim()]
    {
        assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()), "{canary}");
    }
    assert!(!server.data().join(".backup").exists(), "the copy of the database is gone");
}

#[test]
fn a_database_of_a_newer_release_is_not_backed_up() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    let of_tomorrow = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=30); db.execute(\"INSERT INTO \
                       schema_migrations VALUES ('registry', 4711, 'of tomorrow', 'SELECT 1')\"); db.commit()";
    run(Command::new("python3").args(["-c", of_tomorrow]).arg(server.data().join("berth.db")));
    let backup = elsewhere.path().join("backup");
    let error = try_run(server.berth(["backup"]).arg("--output").arg(&backup)).unwrap_err();
    assert!(error.contains("schema version 4711 of `registry`") && error.contains("knows only"), "{error}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{error}");
}
