//! Three local replicas, and the disk of the database is lost: nothing acknowledged is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use test_support::{Server, eventually_within, run, sha256, try_run};

use super::{berth, manifest, problems, put, recovery_key};
use crate::bucket::Bucket;

fn roots(dir: &Path) -> Vec<PathBuf> {
    (0..3).map(|n| dir.join(format!("disk{n}"))).collect()
}

fn config(dir: &Path) -> String {
    format!("replicas = {:?}", roots(dir))
}

/// Loses everything in the data directory but the configuration of the test and, if wanted, the keys.
fn lose(server: &Server, keep_keys: bool) {
    for entry in std::fs::read_dir(server.data()).unwrap() {
        let path = entry.unwrap().path();
        if keep_keys && path.ends_with("keys") {
            continue;
        }
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// What a worker was told is so: a tag and the note of its manifest, or that it is gone.
type Told = BTreeMap<String, Option<String>>;

/// Pushes, moves and deletes tags of its own until a request fails.
fn load(http: &test_support::Http, worker: usize, stop: &AtomicBool, told: &Mutex<Told>) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (tag, note) = (format!("w{worker}-{}", n % 7), format!("{worker} {n}"));
        if !put(http, "load/canary-repository", &tag, &manifest(&note)) {
            return;
        }
        told.lock().insert(tag, Some(note));
        if n % 5 == 4 {
            let tag = format!("w{worker}-{}", (n + 3) % 7);
            let path = format!("/v2/load/canary-repository/manifests/{tag}");
            // Until the answer comes, nobody was told whether it is there.
            let before = told.lock().remove(&tag);
            match http.try_send("DELETE", &path, &[], b"") {
                Ok(answer) if answer.status == 202 => drop(told.lock().insert(tag, None)),
                Ok(answer) if answer.status == 404 => {
                    drop(before.map(|before| told.lock().insert(tag, before)))
                }
                _ => return,
            }
        }
    }
}

#[test]
fn replicas_that_take_the_place_of_lost_ones_keep_the_changes_too() {
    let disks = tempfile::tempdir().unwrap();
    let first = roots(disks.path());
    let mut server = Server::builder().config(&config(disks.path())).start();
    let (id, secret) = (server.access_key_id().to_owned(), server.secret().to_owned());
    let http = server.http();
    http.push_blob("some/where", b"{}");
    assert!(put(&http, "some/where", "before", &manifest("before")));
    // Two disks are lost, one after the other, and replaced; the server runs on.
    for (number, lost) in [(3, 1), (4, 2)] {
        eventually_within(
            Duration::from_secs(30),
            "the disk is gone, whatever is being written there",
            || std::fs::remove_dir_all(&first[lost]).ok(),
        );
        let new = disks.path().join(format!("disk{number}"));
        run(server.berth(["store", "replica", "add"]).arg(new));
        run(&mut server.berth(["store", "replica", "remove", &format!("replica{lost}"), "--force"]));
        eventually_within(Duration::from_secs(60), "three replicas hold every change", || {
            let log = &status(&server)["changeLog"];
            (log["replicas"] == 3 && log["inSync"] == 3 && log["quorum"] == 2).then_some(())
        });
        assert!(put(&http, "some/where", &format!("after{lost}"), &manifest("after")));
    }
    server.kill();
    // The database's disk, and the last one of the first replicas.
    lose(&server, true);
    std::fs::remove_dir_all(&first[0]).unwrap();
    let mut restore = server.berth(["restore", "--json"]);
    let printed = run(restore.arg("--from-replica").arg(disks.path().join("disk4")));
    assert!(printed.contains("\"certain\": true"), "{printed}");
    server.start_again();
    assert!(!first[1].exists() && !first[2].exists(), "who was removed stays out");
    let http = server.anonymous().basic(&id, &secret);
    for (tag, note) in [("before", "before"), ("after1", "after"), ("after2", "after")] {
        let got = http.get(&format!("/v2/some/where/manifests/{tag}"));
        assert_eq!((got.status, got.body), (200, manifest(note)), "{tag}");
    }
}

#[test]
fn the_loss_of_the_databases_disk_loses_nothing_acknowledged() {
    let disks = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut server = Server::builder().config(&config(disks.path())).start();
    let (id, secret) = (server.access_key_id().to_owned(), server.secret().to_owned());
    let key = recovery_key(&server, elsewhere.path());
    server.http().push_blob("load/canary-repository", b"{}");
    for round in 0..2 {
        let http = server.anonymous().basic(&id, &secret);
        let told = Mutex::new(Told::new());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (http, stop, told) = (http.clone(), &stop, &told);
                scope.spawn(move || load(&http, worker, stop, told));
            }
            std::thread::sleep(Duration::from_millis(1500));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        let told = told.into_inner();
        assert!(told.len() > 10, "{told:?}");
        lose(&server, round == 0);

        let error = try_run(
            server
                .berth(["serve", "--listen", "127.0.0.1:0"])
                .env("BERTH_REPLICAS", format!("{:?}", roots(disks.path()))),
        );
        assert!(error.unwrap_err().contains("berth restore --from-replica"));
        lose(&server, round == 0);
        let mut restore = server.berth(["restore", "--json"]);
        restore.arg("--from-replica").arg(&roots(disks.path())[round]);
        if round == 1 {
            restore.arg("--recovery-key").arg(&key);
        }
        let printed = run(&mut restore);
        assert!(printed.contains("\"certain\": true"), "{printed}");
        server.start_again();
        let http = server.anonymous().basic(&id, &secret);
        for (tag, note) in &told {
            let got = http.get(&format!("/v2/load/canary-repository/manifests/{tag}"));
            match note {
                // A request whose answer was lost may have come after the last that was acknowledged.
                Some(note) if got.status == 200 && got.body != manifest(note) => {
                    let (worker, n) = note.split_once(' ').unwrap();
                    let next = format!("{worker} {}", n.parse::<u32>().unwrap() + 7);
                    assert_eq!(got.body, manifest(&next), "{tag} was {note}");
                }
                Some(note) => assert_eq!((got.status, got.body), (200, manifest(note)), "{tag} was {note}"),
                None => assert!(
                    got.status == 404
                        || got.status == 200
                            && !told.values().flatten().any(|note| got.body == manifest(note)),
                    "{tag} was deleted"
                ),
            }
        }
        assert!(problems(&server).iter().any(|problem| problem.contains("adopt")), "{:?}", problems(&server));
        run(server
            .berth(["store", "adopt"])
            .env("AWS_ACCESS_KEY_ID", &id)
            .env("AWS_SECRET_ACCESS_KEY", &secret));
    }

    // Nothing of names, tags and digests lies on the replicas in clear.
    let digest = sha256(b"{}");
    for path in roots(disks.path()).iter().flat_map(|root| files(root)) {
        let bytes = std::fs::read(&path).unwrap();
        for canary in ["canary-repository", &digest, &secret] {
            assert!(
                !bytes.windows(canary.len()).any(|window| window == canary.as_bytes()),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_replica_that_was_away_catches_up_and_is_reported_meanwhile() {
    let disks = tempfile::tempdir().unwrap();
    let mut server = Server::builder().config(&config(disks.path())).start();
    server.http().push_blob("some/where", b"{}");
    server.stop();
    let (here, away) = (disks.path().join("disk2"), disks.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    server.start_again();
    assert!(put(&server.http(), "some/where", "1", &manifest("while away")));
    eventually_within(Duration::from_secs(30), "the replica is missed", || {
        problems(&server)
            .into_iter()
            .find(|problem| problem.contains("changes of the database are not on replica2"))
    });
    let target = disks.path().join("target");
    std::fs::rename(&away, &here).unwrap();
    eventually_within(Duration::from_secs(30), "the replica has caught up", || {
        (!problems(&server).iter().any(|problem| problem.contains("replica2"))).then_some(())
    });
    server.kill();
    // This replica alone, the others gone: what it holds is all, but nobody can know.
    for n in [0, 1] {
        std::fs::remove_dir_all(disks.path().join(format!("disk{n}"))).unwrap();
    }
    let mut alone = berth(&server, ["restore", "--json"]);
    alone.arg("--from-replica").arg(&here).arg("--data").arg(&target);
    alone.env("BERTH_KEY_DIR", server.data().join("keys"));
    let error = try_run(&mut alone).unwrap_err();
    assert!(error.contains("1 replicas can be read and 2 are needed"), "{error}");
    assert!(!target.exists());
    let printed = run(alone.arg("--accept-older"));
    assert!(printed.contains("\"certain\": false"), "{printed}");
}

/// `berth status` of a server as JSON.
fn status(server: &Server) -> serde_json::Value {
    serde_json::from_str(&run(&mut server.berth(["status", "--output", "json"]))).unwrap()
}

#[test]
fn a_lost_database_comes_back_from_a_bucket_but_for_its_last_second() {
    let bucket = Bucket::start();
    let disks = tempfile::tempdir().unwrap();
    let disk = disks.path().join("disk");
    let locations = [disk.to_str().unwrap(), "s3://bucket/one", "s3://bucket/two"];
    // Two of three lie elsewhere: no push waits for what they know of the database.
    let config = format!("replicas = {locations:?}\n{}", bucket.config());
    let file = disks.path().join("berth.toml");
    std::fs::write(&file, &config).unwrap();
    let mut server = Server::builder().config(&config).start();
    let (id, secret) = (server.access_key_id().to_owned(), server.secret().to_owned());
    let http = server.http();
    http.push_blob("some/where", b"{}");
    for n in 0..5 {
        assert!(put(&http, "some/where", &format!("v{n}"), &manifest(&n.to_string())));
    }
    let all = eventually_within(Duration::from_secs(60), "the buckets hold every change", || {
        let status = status(&server);
        let log = &status["changeLog"];
        (log["inSync"] == 3 && log["behindChanges"] == 0).then(|| status.clone())
    });
    assert!(all["changeLog"]["quorum"] == 0 && all["changeLog"]["lagChanges"] == 0, "{all}");
    let shown = run(&mut server.berth(["status"]));
    assert!(shown.contains("changes    3 of 3 replicas hold every one, no change waits"), "{shown}");
    // What one server leaves in order, the next goes on with.
    server.stop();
    server.start_again();
    let http = server.http();
    for n in 5..8 {
        assert!(put(&http, "some/where", &format!("v{n}"), &manifest(&n.to_string())));
    }
    eventually_within(Duration::from_secs(60), "the buckets hold what came since", || {
        let log = &status(&server)["changeLog"];
        (log["inSync"] == 3 && log["behindChanges"] == 0).then_some(())
    });
    server.kill();
    lose(&server, true);
    std::fs::remove_dir_all(&disk).unwrap();

    let mut again = server.berth(["serve", "--listen", "127.0.0.1:0"]);
    let refused = try_run(again.arg("--config").arg(&file)).unwrap_err();
    assert!(refused.contains("berth restore --from-replica s3://bucket/one"), "{refused}");
    lose(&server, true);
    let mut restore = server.berth(["restore", "--json", "--from-replica", "s3://bucket/two"]);
    restore.arg("--config").arg(&file);
    let careful = try_run(&mut restore).unwrap_err();
    assert!(careful.contains("so that nothing acknowledged is missing"), "{careful}");
    let printed = run(restore.arg("--accept-older"));
    assert!(printed.contains("\"from\": \"s3://bucket/two\""), "{printed}");
    server.start_again();
    let http = server.anonymous().basic(&id, &secret);
    for n in 0..8 {
        let got = http.get(&format!("/v2/some/where/manifests/v{n}"));
        assert_eq!((got.status, got.body), (200, manifest(&n.to_string())));
    }
}
