//! A backup under load, and everything back on an empty directory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use test_support::{Engine, Server, aws, eventually_within, run, try_run};

use super::{berth, manifest, problems, put, recovery_key, running};

const SECRET: &str = "a-secret-of-alice-that-all-may-know-0001";

/// A user by policy file, who may pull.
fn add_alice(data: &std::path::Path, secret_file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(secret_file, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let alice = format!(
        r#"{{"policies": ["BerthPullOnly"], "accessKeys": [{{"accessKeyId": "AKIAALICE0000000", "secretFile": "{}"}}]}}"#,
        secret_file.display()
    );
    std::fs::create_dir_all(data.join("policies/users")).unwrap();
    std::fs::write(data.join("policies/users/alice.json"), alice).unwrap();
}

fn alice_may_pull(server: &Server, repository: &str, tag: &str) {
    eventually_within(Duration::from_secs(30), "alice may pull", || {
        let alice = server.anonymous().basic("AKIAALICE0000000", SECRET);
        let path = format!("/v2/{repository}/manifests/{tag}");
        alice.try_get(&path).filter(|answer| answer.status == 200).map(drop)
    });
}

#[test]
fn a_backup_under_load_brings_everything_back_and_the_service_runs_again() {
    let engine = Engine::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::builder().with_agent(&engine).config("instance_lease = 5").start();
    let missing = problems(&server);
    assert!(missing.iter().any(|problem| problem.contains("berth key export")), "{missing:?}");
    let recovery = recovery_key(&server, elsewhere.path());
    assert!(!problems(&server).iter().any(|problem| problem.contains("berth key export")));

    add_alice(server.data(), &elsewhere.path().join("alice.secret"));
    let image = server.image("team/web:1");
    engine.build_busybox(&image, &[]);
    run(server.docker(&engine).args(["push", "--quiet", &image]));
    alice_may_pull(&server, "team/web", "1");
    let definition =
        r#"[{"name":"web","image":"000000000000.dkr.ecr.us-east-1.amazonaws.com/team/web:1","memory":32}]"#;
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    let register = ["ecs", "register-task-definition", "--family", "web", "--execution-role-arn", role];
    aws(&server, register.into_iter().chain(["--container-definitions", definition])).unwrap();
    let create = [
        "ecs",
        "create-service",
        "--service-name",
        "web",
        "--task-definition",
        "web",
        "--desired-count",
        "1",
    ];
    aws(&server, create).unwrap();
    eventually_within(Duration::from_secs(30), "the service runs", || {
        (running(&server, "web") == 1).then_some(())
    });

    // Pushes go on before, while and after the backup is taken.
    let http = server.http();
    http.push_blob("load/a", b"{}");
    let (acknowledged, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let backup = elsewhere.path().join("backup.berth");
    let before = std::thread::scope(|scope| {
        for worker in 0..3 {
            let (http, acknowledged, stop) = (http.clone(), &acknowledged, &stop);
            scope.spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (tag, blob) = (format!("w{worker}-{n}"), vec![worker as u8; 20_000 + n]);
                    let digest = http.push_blob("load/a", &blob);
                    assert!(put(&http, "load/a", &tag, &manifest(&tag)));
                    acknowledged.lock().push((tag, digest, blob));
                    n += 1;
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let before = acknowledged.lock().len();
        let written = try_run(server.berth(["backup", "--json"]).arg("--output").arg(&backup));
        stop.store(true, Ordering::Relaxed);
        let report: serde_json::Value = serde_json::from_str(&written.unwrap()).unwrap();
        assert_eq!(report["damaged"], serde_json::json!([]), "{report}");
        before
    });
    assert!(before > 0 && before < acknowledged.lock().len(), "the load went on");
    drop(server);
    for id in engine.containers("berth.agent-id") {
        run(engine.docker().args(["rm", "--force", &id]));
    }

    let builder = Server::builder().with_agent(&engine).config("instance_lease = 5");
    let mut restore = std::process::Command::new(test_support::binary());
    restore.args(["restore", "--json"]).arg("--from").arg(&backup).arg("--data").arg(builder.data());
    let printed = run(restore.arg("--recovery-key").arg(&recovery));
    assert!(printed.contains("\"missingObjects\": 0"), "{printed}");
    let server = builder.start();
    let http = server.http();
    for (tag, digest, blob) in &acknowledged.lock()[..before] {
        assert_eq!(http.get(&format!("/v2/load/a/manifests/{tag}")).body, manifest(tag), "{tag}");
        assert_eq!(http.get(&format!("/v2/load/a/blobs/{digest}")).body, *blob, "{tag}");
    }
    alice_may_pull(&server, "team/web", "1");
    let image = server.image("team/web:1");
    run(server.docker(&engine).args(["pull", "--quiet", &image]));
    eventually_within(Duration::from_secs(60), "the service runs again", || {
        (running(&server, "web") == 1 && engine.containers("berth.agent-id").len() == 1).then_some(())
    });

    let waiting = eventually_within(Duration::from_secs(30), "the restore is reported", || {
        problems(&server).into_iter().find(|problem| problem.contains("berth store adopt"))
    });
    assert!(waiting.contains("backup.berth"), "{waiting}");
    assert_eq!(run(&mut server.berth(["store", "adopt"])), "what was restored is adopted");
    assert_eq!(run(&mut server.berth(["store", "adopt"])), "nothing waited to be adopted");
    eventually_within(Duration::from_secs(30), "nothing is reported any more", || {
        (!problems(&server).iter().any(|problem| problem.contains("adopt"))).then_some(())
    });
}

#[test]
fn a_recovery_key_under_a_passphrase_restores_and_the_key_directory_alone_does_too() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::start();
    server.http().push_blob("kept", b"content that comes back");
    let digest = test_support::sha256(b"content that comes back");
    let passphrase = elsewhere.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse\n").unwrap();
    let (key, backup) = (elsewhere.path().join("key"), elsewhere.path().join("backup"));
    let mut export = server.berth(["key", "export"]);
    run(export.arg("--passphrase-file").arg(&passphrase).arg("--output").arg(&key));
    let printed = run(&mut server.berth(["key", "export", "--output", "-"]));
    assert!(printed.starts_with("berth-recovery-key 1\n"), "{printed}");
    assert!(!std::fs::read_to_string(&key).unwrap().contains(printed.lines().last().unwrap()));
    run(server.berth(["backup"]).arg("--output").arg(&backup));
    let again = try_run(server.berth(["backup"]).arg("--output").arg(&backup)).unwrap_err();
    assert!(again.contains("exists already"), "{again}");

    let target = elsewhere.path().join("restored");
    let restore = || {
        let mut command = berth(&server, ["restore"]);
        command.arg("--from").arg(&backup).arg("--data").arg(&target);
        command
    };
    let error = try_run(restore().arg("--recovery-key").arg(&key)).unwrap_err();
    assert!(error.contains("passphrase"), "{error}");
    assert!(!target.exists());
    run(restore().arg("--recovery-key").arg(&key).arg("--passphrase-file").arg(&passphrase));
    let error = try_run(restore().arg("--recovery-key").arg(&key).arg("--passphrase-file").arg(&passphrase));
    assert!(error.unwrap_err().contains("is not empty"));

    // On the machine itself the keys are still there, though everything else is lost.
    let second = elsewhere.path().join("second");
    std::fs::create_dir(&second).unwrap();
    run(std::process::Command::new("cp").arg("-a").arg(server.data().join("keys")).arg(&second));
    let builder = Server::builder();
    run(std::process::Command::new("cp").arg("-a").arg(second.join("keys")).arg(builder.data()));
    run(berth(&server, ["restore"]).arg("--from").arg(&backup).arg("--data").arg(builder.data()));
    let restored = builder.start();
    let got = restored.http().get(&format!("/v2/kept/blobs/sha256:{digest}"));
    assert_eq!(got.body, b"content that comes back");
}
