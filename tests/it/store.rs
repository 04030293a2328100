//! The content store as operators meet it: replicas that rot, vanish and hang, buckets, and keys that roll.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::{Http, Server, aws, eventually, eventually_within, run, sha256, try_run};

use crate::bucket::Bucket;

/// The objects below a replica's root with their bytes.
fn objects(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.join("objects")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn object_path(root: &Path, name: &str) -> PathBuf {
    root.join("objects").join(&name[..1]).join(&name[1..2]).join(name)
}

fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31).wrapping_add(seed * 7919) >> 3) as u8).collect()
}

/// Pushes blobs and gives their digests with their bytes.
fn push(http: &Http, seeds: std::ops::Range<usize>, len: usize) -> Vec<(String, Vec<u8>)> {
    seeds
        .map(|seed| {
            let bytes = content(seed, len + seed);
            http.push_blob("app", &bytes);
            (sha256(&bytes), bytes)
        })
        .collect()
}

fn pull(http: &Http, blobs: &[(String, Vec<u8>)]) {
    for (digest, bytes) in blobs {
        let answer = http.get(&format!("/v2/app/blobs/sha256:{digest}"));
        assert!(answer.status == 200 && answer.body == *bytes, "{digest}: {}", answer.status);
    }
}

/// `berth ARGS --output json`.
fn berth(server: &Server, args: &[&str]) -> Value {
    let mut command = server.berth(args.iter().copied());
    serde_json::from_str(&run(command.args(["--output", "json"]))).unwrap()
}

/// Three folders and a quorum of two.
fn three_folders() -> (tempfile::TempDir, Vec<PathBuf>, Server) {
    let folder = tempfile::tempdir().unwrap();
    let roots: Vec<PathBuf> = (0..3).map(|number| folder.path().join(format!("disk{number}"))).collect();
    let server = Server::builder().config(&format!("replicas = {roots:?}\nwrite_quorum = 2")).start();
    (folder, roots, server)
}

#[test]
fn a_rotten_copy_is_never_served_and_is_repaired() {
    let (_folder, roots, server) = three_folders();
    let blobs = push(&server.http(), 0..4, 200_000);
    let original = objects(&roots[0]);
    assert_eq!(original.len(), 4);
    for (at, name) in original.keys().enumerate() {
        let path = object_path(&roots[0], name);
        let mut bytes = original[name].clone();
        bytes[at * 50_001 + 5] ^= 0x20;
        std::fs::write(path, bytes).unwrap();
    }
    let scrub = &berth(&server, &["store", "scrub", "--wait"])["scrub"];
    assert_eq!((&scrub["state"], &scrub["objects"]), (&"finished".into(), &4.into()), "{scrub}");
    pull(&server.http(), &blobs);
    berth(&server, &["store", "repair", "--wait"]);
    assert!(objects(&roots[0]) == original);
    let status = run(&mut server.berth(["store", "status"]));
    assert!(status.contains("open findings  0 damaged, 0 missing, 0 unknown"), "{status}");
    let findings = berth(&server, &["store", "findings"]);
    assert_eq!(findings["findings"].as_array().unwrap().len(), 4, "{findings}");

    std::fs::write(object_path(&roots[1], &"0".repeat(32)), b"stray").unwrap();
    assert_eq!(berth(&server, &["store", "scrub", "--wait"])["scrub"]["unknown"], 1);
    assert!(run(&mut server.berth(["store", "purge"])).contains("1 objects, 5 bytes would be deleted"));
    assert_eq!(berth(&server, &["store", "purge", "--yes"])["objects"], 1);
    assert!(!object_path(&roots[1], &"0".repeat(32)).exists());
    pull(&server.http(), &blobs);
}

#[test]
fn one_of_three_replicas_is_wiped_under_load_and_replaced_while_serving() {
    let (folder, roots, server) = three_folders();
    let blobs = Arc::new(push(&server.http(), 0..20, 30_000));
    let (over, pulled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (over, pulled, blobs, http) =
                (Arc::clone(&over), Arc::clone(&pulled), Arc::clone(&blobs), server.http());
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    pull(&http, &blobs);
                    pulled.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    // Out of the server's way first: it writes while the folder goes.
    let wiped = folder.path().join("wiped");
    std::fs::rename(&roots[0], &wiped).unwrap();
    std::fs::remove_dir_all(&wiped).unwrap();
    let more = push(&server.http(), 20..30, 30_000);
    let status = berth(&server, &["store", "status"]);
    assert!(status["replicas"][0]["problem"].is_string(), "{status}");
    run(&mut server.berth(["store", "replica", "remove", "replica0"]));
    let new = folder.path().join("new");
    run(&mut server.berth(["store", "replica", "add", new.to_str().unwrap()]));
    let latest = push(&server.http(), 30..33, 30_000);
    berth(&server, &["store", "repair", "--wait"]);
    assert!(objects(&new) == objects(&roots[1]) && objects(&new).len() == 33);
    let before = pulled.load(Ordering::SeqCst);
    eventually("every reader reads on", || (pulled.load(Ordering::SeqCst) > before + 3).then_some(()));
    over.store(true, Ordering::SeqCst);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let status = berth(&server, &["store", "status"]);
    let replicas = status["replicas"].as_array().unwrap();
    assert!(replicas.len() == 3 && replicas.iter().all(|one| one["problem"].is_null()), "{status}");
    pull(&server.http(), &more);
    pull(&server.http(), &latest);
    let refused = try_run(&mut server.berth(["store", "replica", "remove", "replica9"])).unwrap_err();
    assert!(refused.contains("There is no replica replica9"), "{refused}");
}

#[test]
fn a_bucket_holds_everything_and_tells_nothing() {
    let bucket = Bucket::start();
    let config = format!("replicas = [\"s3://bucket/some/prefix\"]\n{}", bucket.config());
    let mut server = Server::builder().config(&config).start();
    let mut blobs = push(&server.http(), 0..3, 100_000);
    blobs.extend(push(&server.http(), 5..6, 20_000_000));
    // An upload in several requests, over a restart.
    let whole = content(77, 9_000_000);
    let http = server.http();
    let location = http.post("/v2/app/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    let answer = http.patch(&location, &[], &whole[..8_500_000]);
    assert_eq!(answer.status, 202, "{answer:?}");
    let location = answer.header("location").unwrap().to_owned();
    server.kill();
    server.start_again();
    let http = server.http();
    assert_eq!(http.patch(&location, &[], &whole[8_500_000..]).status, 202);
    let joint = if location.contains('?') { '&' } else { '?' };
    let closed = http.put(&format!("{location}{joint}digest=sha256:{}", sha256(&whole)), &[], b"");
    assert_eq!(closed.status, 201, "{closed:?}");
    blobs.push((sha256(&whole), whole));
    pull(&http, &blobs);
    assert_eq!(berth(&server, &["store", "scrub", "--wait"])["scrub"]["copies"], 5);
    let part = http.send(
        "GET",
        &format!("/v2/app/blobs/sha256:{}", blobs[3].0),
        &[("range", "bytes=9000000-9000099")],
        b"",
    );
    assert!(part.status == 206 && part.body == blobs[3].1[9_000_000..9_000_100]);
    let root = bucket.folder.path().join("bucket/some/prefix");
    assert_eq!(objects(&root).len(), 5);
    assert!(objects(&root).values().all(|bytes| bytes.starts_with(b"BRF1")));
    assert!(!server.log().contains("CANARY-s3-secret-41"));
}

#[test]
fn a_bucket_whose_server_hangs_stalls_no_write_and_is_filled_later() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().unwrap();
    let roots: Vec<PathBuf> = (0..2).map(|number| folder.path().join(format!("disk{number}"))).collect();
    let replicas = format!("replicas = [{:?}, {:?}, \"s3://bucket\"]", roots[0], roots[1]);
    let server = Server::builder().config(&format!("{replicas}\n{}", bucket.config())).start();
    let mut blobs = push(&server.http(), 0..2, 100_000);
    bucket.signal("-STOP");
    let begun = Instant::now();
    blobs.extend(push(&server.http(), 2..3, 100_000));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    // From then on nobody waits for it.
    blobs.extend(push(&server.http(), 3..8, 100_000));
    pull(&server.http(), &blobs);
    bucket.signal("-CONT");
    let root = bucket.folder.path().join("bucket");
    eventually_within(Duration::from_secs(60), "the bucket holds what it missed", || {
        berth(&server, &["store", "repair"]);
        (objects(&root) == objects(&roots[0])).then_some(())
    });
    assert_eq!(objects(&root).len(), 8);
    // What the bucket holds is enough.
    for root in &roots {
        std::fs::rename(root, root.with_extension("gone")).unwrap();
    }
    eventually("the bucket serves alone", || {
        let path = |digest: &String| format!("/v2/app/blobs/sha256:{digest}");
        blobs.iter().all(|(digest, _)| server.http().get(&path(digest)).status == 200).then_some(())
    });
}

#[test]
fn wrong_mixes_of_replicas_are_refused_at_start() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let start = |config: &str| {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("berth.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(test_support::binary());
        command.arg("serve").arg("--data").arg(data.path()).arg("--config").arg(&file);
        try_run(command.args(["--listen", "127.0.0.1:0"])).unwrap_err()
    };
    let (one, two) = (path("a"), path("b"));
    for (config, message) in [
        (format!("replicas = [{one:?}, {two:?}]"), "the write quorum must be stated"),
        (format!("replicas = [{one:?}, {two:?}]\nwrite_quorum = 3"), "must be at least 1 and at most"),
        ("replicas = [\"relative/path\"]".to_owned(), "neither an absolute path nor an s3:// URL"),
        ("replicas = [\"http://x/y\"]".to_owned(), "no s3:// URL"),
        ("replicas = [\"s3://bucket\"]".to_owned(), "no credentials for s3://bucket"),
        (format!("replicas = [\"s3://nowhere\"]\n{}", bucket.config()), "NoSuchBucket"),
        ("replicas = [{ url = \"s3://b\", colour = \"red\" }]".to_owned(), "colour"),
        ("[s3]\naccess_key_id = \"a\"".to_owned(), "access_key_id and its secret go together"),
    ] {
        let error = start(&config);
        assert!(error.contains(message), "{config}: {error}");
    }
}

#[test]
fn a_repository_has_a_key_of_its_own() {
    let mut server = Server::start();
    let create = |name: &str| {
        let encryption = "encryptionType=KMS,kmsKey=blue";
        aws(
            &server,
            ["ecr", "create-repository", "--repository-name", name, "--encryption-configuration", encryption],
        )
    };
    assert!(create("app").unwrap_err().contains("KmsException"));
    assert_eq!(berth(&server, &["key", "create", "blue"])["epoch"], 1);
    let created = create("app").unwrap();
    let key = &created["repository"]["encryptionConfiguration"]["kmsKey"];
    assert_eq!(key, "arn:aws:kms:us-east-1:000000000000:key/blue");
    let blobs = push(&server.http(), 0..5, 10_000);
    assert_eq!(berth(&server, &["key", "roll", "--yes", "--domain", "blue"])["destroyedEpochs"][0], 1);
    server.stop();
    server.start_again();
    pull(&server.http(), &blobs);
    push(&server.http(), 5..8, 10_000);
    // What is sealed under it is lost with it.
    server.stop();
    std::fs::remove_file(server.data().join("keys/blue-2.key")).unwrap();
    server.start_again();
    let answer = server.http().get(&format!("/v2/app/blobs/sha256:{}", blobs[0].0));
    assert!(answer.status >= 500, "{}", answer.status);
    server.http().push_blob("other", b"not under that key");
}

#[test]
fn keys_roll_while_everything_goes_on_and_old_ones_are_destroyed() {
    let mut server = Server::start();
    let blobs = push(&server.http(), 0..5, 10_000);
    let key = |epoch: u32| format!("keys/default-{epoch}.key");
    assert!(try_run(&mut server.berth(["key", "shred", "--yes"])).unwrap_err().contains("never rotated"));
    assert_eq!(berth(&server, &["key", "rotate", "--wait"])["epoch"], 2);
    pull(&server.http(), &blobs);
    let more = push(&server.http(), 5..8, 10_000);
    assert!(try_run(&mut server.berth(["key", "shred"])).unwrap_err().contains("cannot be undone"));
    assert!(server.data().join(key(1)).exists());
    assert_eq!(berth(&server, &["key", "shred", "--yes"])["destroyedEpochs"][0], 1);
    assert!(!server.data().join(key(1)).exists() && server.data().join(key(2)).exists());
    assert_eq!(berth(&server, &["key", "roll", "--yes"])["destroyedEpochs"][0], 2);
    server.stop();
    server.start_again();
    pull(&server.http(), &blobs);
    pull(&server.http(), &more);
    let listed = run(&mut server.berth(["key", "list"]));
    assert!(listed.lines().any(|line| line.starts_with("default") && line.contains("active")), "{listed}");
    let states: Vec<Value> = berth(&server, &["key", "list"])["epochs"].as_array().unwrap().clone();
    let states: Vec<&str> = states.iter().map(|epoch| epoch["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["destroyed", "destroyed", "active"]);
}
