//! Uploads, tags and deletions across servers.

use serde_json::json;
use test_support::{Engine, Layer, run, sha256, static_image};

use super::installation::{ACCESS_KEY_ID, Installation, RoundRobin, admin, keep_credentials};
use crate::bucket::Bucket;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn docker_pushes_and_pulls_with_every_request_on_another_server() {
    let installation = Installation::new();
    let servers = installation.start(3);
    let balancer = RoundRobin::before(&servers);
    let engine = Engine::shared();
    let image = format!("{}/team/app:1", balancer.authority());
    engine.build_busybox(&image, &[("/marker", b"scale-out"), ("/noise", &[7; 3 << 20])]);
    let before = engine.inspect(&image, "{{.Id}}");
    let folder = tempfile::tempdir().unwrap();
    let docker = || balancer.docker(engine, folder.path());

    run(docker().args(["push", &image]));
    run(engine.docker().args(["rmi", &image]));
    run(docker().args(["pull", &image]));

    assert_eq!(engine.inspect(&image, "{{.Id}}"), before);
    assert!(balancer.requests() > 10, "every request came to the balancer");
    run(engine.docker().args(["rmi", &image]));
    for server in &servers {
        let digest = admin(server).head("/v2/team/app/manifests/1");
        assert_eq!(digest.status, 200);
    }
}

#[test]
fn an_upload_begun_on_one_server_goes_on_at_another_and_survives_a_kill() {
    let installation = Installation::new();
    let mut servers = installation.start(3);
    let pieces: Vec<Vec<u8>> = (0..3_u8).map(|n| vec![n; 300_000 + usize::from(n)]).collect();
    let digest = format!("sha256:{}", sha256(&pieces.concat()));
    let started = admin(&servers[0]).post("/v2/team/pieces/blobs/uploads/", &[], b"");
    assert_eq!(started.status, 202, "{started:?}");
    // Relative, as a balancer needs it: the path alone.
    let mut location = path_of(started.header("location").unwrap());
    let mut sent = 0;
    for (piece, server) in pieces.iter().zip([1, 2, 1]) {
        let range = format!("{}-{}", sent, sent + piece.len() - 1);
        let headers = [("content-range", range.as_str()), ("content-type", "application/octet-stream")];
        let patched = admin(&servers[server]).patch(&location, &headers, piece);
        assert_eq!(patched.status, 202, "{patched:?}");
        location = path_of(patched.header("location").unwrap());
        sent += piece.len();
    }
    servers[1].kill();
    let status = admin(&servers[0]).get(&location);
    assert_eq!(status.status, 204, "{status:?}");
    assert_eq!(status.header("range").unwrap(), format!("0-{}", sent - 1));
    let separator = if location.contains('?') { '&' } else { '?' };
    let closed = admin(&servers[2]).put(&format!("{location}{separator}digest={digest}"), &[], b"");
    assert_eq!(closed.status, 201, "{closed:?}");
    let read = admin(&servers[0]).get(&format!("/v2/team/pieces/blobs/{digest}"));
    assert_eq!((read.status, sha256(&read.body)), (200, sha256(&pieces.concat())));
}

#[test]
fn over_a_bucket_each_request_of_a_push_goes_to_another_server() {
    let bucket = Bucket::start();
    let installation = Installation::over(&bucket);
    let servers = installation.start(3);
    let [one, other, third] = [0, 1, 2].map(|at| admin(&servers[at]));
    // Parts of a bucket's upload have 8 MiB: the first piece leaves a whole one and a rest.
    let pieces: [Vec<u8>; 3] = [(9 << 20) + 17, 300_000, 0].map(|len| (0..len).map(|at| at as u8).collect());
    let digest = format!("sha256:{}", sha256(&pieces.concat()));
    let mut location = path_of(one.post("/v2/team/far/blobs/uploads/", &[], b"").header("location").unwrap());
    for (http, piece) in [(&other, &pieces[0]), (&third, &pieces[1])] {
        let patched = http.patch(&location, &[("content-type", "application/octet-stream")], piece);
        assert_eq!(patched.status, 202, "{patched:?}");
        location = path_of(patched.header("location").unwrap());
    }
    let separator = if location.contains('?') { '&' } else { '?' };
    let closed = one.put(&format!("{location}{separator}digest={digest}"), &[], &pieces[2]);
    assert_eq!(closed.status, 201, "{closed:?}");
    for http in [&one, &other, &third] {
        let read = http.get(&format!("/v2/team/far/blobs/{digest}"));
        assert_eq!((read.status, sha256(&read.body)), (200, digest["sha256:".len()..].to_owned()));
    }
    let (config, layer, manifest) = static_image("amd64", &[Layer { path: "n", bytes: b"far" }]);
    for (http, blob) in [(&one, &config), (&other, &layer)] {
        http.push_blob("team/far", blob);
    }
    let put = third.put("/v2/team/far/manifests/1", &[("content-type", MANIFEST)], &manifest);
    assert_eq!(put.status, 201, "{put:?}");
    for http in [&one, &other] {
        assert_eq!(http.get("/v2/team/far/manifests/1").body, manifest);
    }
    keep_credentials(&servers[2]);
    let status = run(&mut servers[2].berth(["store", "status"]));
    assert!(status.contains("s3://bucket") && status.contains("write quorum   1"), "{status}");
    let status = run(&mut servers[2].berth(["status"]));
    assert!(status.contains("replicas   1 of 1 usable"), "{status}");
}

#[test]
fn a_tag_that_moved_on_one_server_is_seen_at_once_on_all() {
    let installation = Installation::new();
    let servers = installation.start(2);
    let (one, other) = (admin(&servers[0]), admin(&servers[1]));
    let manifests: Vec<Vec<u8>> = (0..4_u8)
        .map(|n| {
            let (config, layer, manifest) = static_image("amd64", &[Layer { path: "n", bytes: &[n] }]);
            one.push_blob("moving", &config);
            one.push_blob("moving", &layer);
            manifest
        })
        .collect();
    for round in 0..40 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let manifest = &manifests[round % manifests.len()];
        let put = writer.put("/v2/moving/manifests/latest", &[("content-type", MANIFEST)], manifest);
        assert_eq!(put.status, 201, "{put:?}");
        // Both servers have all of these manifests in their caches by now: the tag decides.
        let read = reader.get("/v2/moving/manifests/latest");
        assert_eq!((read.status, sha256(&read.body)), (200, sha256(manifest)), "round {round}");
    }
    let digest = format!("sha256:{}", sha256(&manifests[3]));
    let by_digest = format!("/v2/moving/manifests/{digest}");
    assert_eq!(other.get(&by_digest).status, 200);
    assert_eq!(one.delete(&by_digest).status, 202);
    assert_eq!(other.get(&by_digest).status, 404, "what is deleted is in no cache");
    assert_eq!(other.get("/v2/moving/manifests/latest").status, 404);
    // Nor is a blob that lost its link, though its object is there and was read a moment ago.
    let blob = format!("/v2/moving/blobs/{}", one.push_blob("moving", b"linked and unlinked"));
    for (deletes, reads) in [(&one, &other), (&other, &one)] {
        assert_eq!(reads.get(&blob).body, b"linked and unlinked");
        assert_eq!(deletes.delete(&blob).status, 202);
        assert_eq!((reads.get(&blob).status, reads.head(&blob).status), (404, 404));
        deletes.push_blob("moving", b"linked and unlinked");
    }
}

#[test]
fn of_concurrent_pushes_to_one_immutable_tag_one_wins() {
    let installation = Installation::new();
    let servers = installation.start(2);
    let http = admin(&servers[0]);
    let manifests: Vec<Vec<u8>> = (0..8_u8)
        .map(|n| {
            let (config, layer, manifest) = static_image("amd64", &[Layer { path: "n", bytes: &[n] }]);
            http.push_blob("fixed", &config);
            http.push_blob("fixed", &layer);
            manifest
        })
        .collect();
    let set = super::installation::aws(
        &servers[0],
        &[
            "ecr",
            "put-image-tag-mutability",
            "--repository-name",
            "fixed",
            "--image-tag-mutability",
            "IMMUTABLE",
        ],
    );
    assert_eq!(set.unwrap()["imageTagMutability"], json!("IMMUTABLE"));
    let putting: Vec<_> = manifests
        .into_iter()
        .enumerate()
        .map(|(index, manifest)| {
            let http = admin(&servers[index % 2]);
            std::thread::spawn(move || {
                http.put("/v2/fixed/manifests/1", &[("content-type", MANIFEST)], &manifest).status
            })
        })
        .collect();
    let mut statuses: Vec<u16> = putting.into_iter().map(|put| put.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|status| (400..500).contains(status)), "{statuses:?}");
}

#[test]
fn every_server_collects_and_expires_and_nothing_that_is_named_is_lost() {
    let installation = Installation::new();
    let servers = installation.start(2);
    let balancer = RoundRobin::before(&servers);
    let http = balancer.http();
    let (config, layer, manifest) =
        static_image("amd64", &[Layer { path: "n", bytes: ACCESS_KEY_ID.as_bytes() }]);
    for round in 0..10 {
        let repository = format!("churn/{}", round % 2);
        http.push_blob(&repository, &config);
        http.push_blob(&repository, &layer);
        let put = http.put(
            &format!("/v2/{repository}/manifests/v{round}"),
            &[("content-type", MANIFEST)],
            &manifest,
        );
        assert_eq!(put.status, 201, "{put:?}");
    }
    for server in &servers {
        for round in 0..10 {
            let read = admin(server).get(&format!("/v2/churn/{}/manifests/v{round}", round % 2));
            assert_eq!((read.status, read.body.as_slice()), (200, manifest.as_slice()));
        }
    }
}

/// The path and query of a Location.
fn path_of(location: &str) -> String {
    assert!(location.starts_with('/'), "{location} is relative");
    location.to_owned()
}
