//! Data directories of every release open, newer ones are refused, and a restart disturbs nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_support::{Engine, Server, aws, eventually, eventually_within, run, sha256, try_run};

use super::running;

/// Every `tests/fixtures/data-VERSION.tar.gz`; `make-data.sh` beside them says how they are made.
fn fixtures() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "gz"))
        .collect()
}

fn copies(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("berth.db.before-")).collect()
}

#[test]
fn data_of_every_release_opens_and_serves_its_content() {
    assert!(!fixtures().is_empty());
    for fixture in fixtures() {
        let builder = Server::builder();
        run(Command::new("tar")
            .arg("-xzf")
            .arg(&fixture)
            .args(["--strip-components=1", "-C"])
            .arg(builder.data()));
        let mut server = builder.start();
        for _ in 0..2 {
            let alice =
                server.anonymous().basic("AKIAALICE0000000", "a-secret-of-alice-that-all-may-know-0001");
            let manifest = alice.get("/v2/team/pause/manifests/1");
            assert_eq!(manifest.status, 200, "{}: {manifest:?}", fixture.display());
            let parts = manifest.json();
            let layers = parts["layers"].as_array().unwrap().iter();
            for part in layers.chain([&parts["config"]]) {
                let digest = part["digest"].as_str().unwrap();
                let blob = alice.get(&format!("/v2/team/pause/blobs/{digest}"));
                assert_eq!(format!("sha256:{}", sha256(&blob.body)), digest);
            }
            let services = aws(&server, ["ecs", "describe-services", "--services", "pause"]).unwrap();
            assert_eq!(services["services"][0]["desiredCount"], 1);
            let definition =
                aws(&server, ["ecs", "describe-task-definition", "--task-definition", "pause"]).unwrap();
            let environment = &definition["taskDefinition"]["containerDefinitions"][0]["environment"];
            assert_eq!(environment[0]["name"], "FROM");
            assert!(copies(server.data()).len() <= 1, "one copy is kept: {:?}", copies(server.data()));
            server.stop();
            server.start_again();
        }
    }
}

#[test]
fn a_newer_schema_is_refused_naming_both_versions_and_nothing_is_changed() {
    let mut server = Server::start();
    server.stop();
    let path = server.data().join("berth.db");
    let newer = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(\"INSERT INTO schema_migrations \
                 VALUES ('registry', 4711, 'of tomorrow', 'SELECT 1')\"); db.commit(); db.close()";
    run(Command::new("python3").args(["-c", newer]).arg(&path));
    let before = std::fs::read(&path).unwrap();
    let error = try_run(&mut server.berth(["serve", "--listen", "127.0.0.1:0"])).unwrap_err();
    assert!(error.contains("schema version 4711 of `registry`") && error.contains("knows only"), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "the database was changed");
    let error = try_run(&mut server.berth(["admin", "reset"])).err();
    // Resetting touches the identities alone, which are of this release.
    assert!(error.is_none(), "{error:?}");
}

#[test]
fn a_restart_moves_no_task_and_fails_no_upload_that_goes_on() {
    let engine = Engine::start();
    let mut server = Server::builder().with_agent(&engine).start();
    let image = server.image("team/web:1");
    engine.build_busybox(&image, &[]);
    run(server.docker(&engine).args(["push", "--quiet", &image]));
    let definition = format!(r#"[{{"name":"web","image":"{image}","memory":32}}]"#);
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    let register = ["ecs", "register-task-definition", "--family", "web", "--execution-role-arn", role];
    aws(&server, register.into_iter().chain(["--container-definitions", &definition])).unwrap();
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
    let container = engine.containers("berth.agent-id").remove(0);
    let started = || engine.inspect(&container, "{{.State.StartedAt}} {{.State.Running}}");
    let (before, task) = (started(), aws(&server, ["ecs", "list-tasks"]).unwrap());

    let blob: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let begun = server.http().post("/v2/resume/blobs/uploads/", &[], b"");
    let mut location = begun.header("location").unwrap().to_owned();
    for chunk in blob.chunks(400_000) {
        let patched = eventually("the chunk is taken", || {
            let answer = server.http().try_send("PATCH", &location, &[], chunk).ok()?;
            (answer.status == 202).then_some(answer)
        });
        patched.header("location").unwrap().clone_into(&mut location);
        server.stop();
        server.start_again();
    }
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest=sha256:{}", sha256(&blob));
    assert_eq!(server.http().put(&target, &[], b"").status, 201);
    assert_eq!(server.http().get(&format!("/v2/resume/blobs/sha256:{}", sha256(&blob))).body, blob);
    eventually("the agent is back", || (running(&server, "web") == 1).then_some(()));
    assert_eq!(started(), before, "the container runs on");
    assert_eq!(aws(&server, ["ecs", "list-tasks"]).unwrap(), task);
}
