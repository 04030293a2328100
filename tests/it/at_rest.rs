//! What lies on the disk: nothing in clear, nothing served that was changed, nothing lost that was acknowledged.

use std::path::{Path, PathBuf};

use test_support::{Server, aws, sha256};

/// Every regular file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

fn objects(server: &Server) -> Vec<PathBuf> {
    let magic = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"BRF1"));
    files(server.data()).into_iter().filter(magic).collect()
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Fails if a secret lies in clear in any file of a server, its logs among them, but the one for it. A server that
/// was stopped has written everything.
pub(crate) fn lies_nowhere(server: &Server, secret: &[u8]) {
    for path in files(server.data()).iter().filter(|path| !path.ends_with("credentials")) {
        let bytes = match std::fs::read(path) {
            // A running server renames what it wrote.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            bytes => bytes.unwrap(),
        };
        let holds = contains(&bytes, secret);
        assert!(!holds, "{} holds {}", path.display(), String::from_utf8_lossy(secret));
    }
}

fn manifest(config: &[u8], annotation: &str) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[],"annotations":{{"canary":"{annotation}"}}}}"#,
        sha256(config),
        config.len()
    )
    .into_bytes()
}

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn no_canary_lies_in_clear() {
    let mut server = Server::start();
    let http = server.http();
    let blob = b"CANARY-in-a-blob-1f0c".repeat(3);
    http.push_blob("canary", &blob);
    let pushed = http.put(
        "/v2/canary/manifests/1",
        &[("content-type", OCI_MANIFEST)],
        &manifest(&blob, "CANARY-in-a-manifest-77aa"),
    );
    assert_eq!(pushed.status, 201, "{pushed:?}");
    let definition = r#"[{"name":"a","image":"a","memory":16,"environment":[{"name":"SECRET","value":"CANARY-in-the-environment-93bd"}]}]"#;
    aws(
        &server,
        ["ecs", "register-task-definition", "--family", "canary", "--container-definitions", definition],
    )
    .unwrap();
    // An upload that is left open keeps its last bytes sealed too.
    let open = http.post("/v2/canary/blobs/uploads/", &[], b"");
    let location = open.header("location").unwrap();
    assert_eq!(http.patch(location, &[], b"CANARY-in-an-upload-5e5e").status, 202);
    let canaries = [
        b"CANARY-in-a-blob-1f0c".to_vec(),
        b"CANARY-in-a-manifest-77aa".to_vec(),
        b"CANARY-in-the-environment-93bd".to_vec(),
        b"CANARY-in-an-upload-5e5e".to_vec(),
        server.secret().as_bytes().to_vec(),
    ];
    canaries.iter().for_each(|canary| lies_nowhere(&server, canary));
    server.stop();
    canaries.iter().for_each(|canary| lies_nowhere(&server, canary));
    server.start_again();
    assert_eq!(server.http().get(&format!("/v2/canary/blobs/sha256:{}", sha256(&blob))).body, blob);
}

#[test]
fn a_flipped_bit_is_never_served() {
    let mut server = Server::start();
    let blob: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    server.http().push_blob("flip", &blob);
    let body = manifest(&blob, "flip");
    assert_eq!(
        server.http().put("/v2/flip/manifests/1", &[("content-type", OCI_MANIFEST)], &body).status,
        201
    );
    let objects = objects(&server);
    assert_eq!(objects.len(), 2);
    for object in objects {
        let original = std::fs::read(&object).unwrap();
        // Caches would hide the disk: a restarted server has none.
        for at in [0, 40, 130, original.len() / 2, original.len() - 3] {
            server.stop();
            let mut bytes = original.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&object, &bytes).unwrap();
            server.start_again();
            let got_blob = server.http().try_get(&format!("/v2/flip/blobs/sha256:{}", sha256(&blob)));
            if let Some(answer) = got_blob.filter(|answer| answer.status == 200) {
                assert_eq!(answer.body, blob, "{} byte {at}", object.display());
            }
            let got_manifest = server.http().try_get("/v2/flip/manifests/1");
            if let Some(answer) = got_manifest.filter(|answer| answer.status == 200) {
                assert_eq!(answer.body, body, "{} byte {at}", object.display());
            }
        }
        server.stop();
        std::fs::write(&object, &original).unwrap();
        server.start_again();
    }
    assert_eq!(server.http().get(&format!("/v2/flip/blobs/sha256:{}", sha256(&blob))).body, blob);
}

#[test]
fn a_push_over_a_rotten_blob_heals_it() {
    let mut server = Server::start();
    let blob = vec![7u8; 300_000];
    let digest = server.http().push_blob("heal", &blob);
    let object = objects(&server).remove(0);
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[1000] ^= 1;
    server.stop();
    std::fs::write(&object, &bytes).unwrap();
    server.start_again();
    let path = format!("/v2/heal/blobs/{digest}");
    assert!(server.http().try_get(&path).is_none_or(|answer| answer.status != 200));
    server.http().push_blob("heal", &blob);
    assert_eq!(server.http().get(&path).body, blob);
}

#[test]
fn two_pushes_of_one_digest_at_once_both_succeed() {
    let server = Server::start();
    let blob = vec![9u8; 3_000_000];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| server.http().push_blob("twins", &blob));
        }
    });
    let path = format!("/v2/twins/blobs/sha256:{}", sha256(&blob));
    assert_eq!(server.http().get(&path).body, blob);
}

#[test]
fn acknowledged_pushes_survive_kill_9() {
    let mut server = Server::start();
    server.http().push_blob("kill", b"config");
    for round in 0..5 {
        let body = manifest(b"config", &format!("round {round}"));
        let put = server.http().put(
            &format!("/v2/kill/manifests/r{round}"),
            &[("content-type", OCI_MANIFEST)],
            &body,
        );
        assert_eq!(put.status, 201);
        server.kill();
        server.start_again();
        for earlier in 0..=round {
            let got = server.http().get(&format!("/v2/kill/manifests/r{earlier}"));
            assert_eq!(got.body, manifest(b"config", &format!("round {earlier}")));
        }
    }
}

#[test]
fn an_upload_goes_on_after_kill_9() {
    let mut server = Server::start();
    let blob: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let started = server.http().post("/v2/resume/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap().to_owned();
    let patched = server.http().patch(&location, &[], &blob[..150_001]);
    assert_eq!(patched.status, 202, "{patched:?}");
    let location = patched.header("location").unwrap().to_owned();
    server.kill();
    server.start_again();
    let status = server.http().get(&location);
    assert_eq!((status.status, status.header("range")), (204, Some("0-150000")), "{status:?}");
    // Nobody holds it any more, whatever the killed server did last.
    let digest = sha256(&blob);
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{separator}digest=sha256:{digest}");
    let finished = server.http().put(&path, &[], &blob[150_001..]);
    assert_eq!(finished.status, 201, "{finished:?}");
    assert_eq!(server.http().get(&format!("/v2/resume/blobs/sha256:{digest}")).body, blob);
}
