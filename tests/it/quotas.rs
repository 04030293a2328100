//! Quotas: bounds on bytes and images of a prefix, for both protocols, under pushes at the same time.

use serde_json::{Value, json};
use test_support::{Http, Server, aws, run, sha256, try_run};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What `berth quota list` tells of a prefix.
fn quota(server: &Server, prefix: &str) -> Value {
    let listed: Value =
        serde_json::from_str(&run(&mut server.berth(["quota", "list", "--output", "json"]))).unwrap();
    let all = listed["quotas"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["prefix"] == prefix).unwrap_or_else(|| panic!("{listed}"))
}

fn upload(http: &Http, repository: &str, bytes: &[u8]) -> test_support::Response {
    http.post(&format!("/v2/{repository}/blobs/uploads/?digest=sha256:{}", sha256(bytes)), &[], bytes)
}

#[test]
fn what_would_exceed_a_quota_is_denied_and_leaves_nothing() {
    let server = Server::start();
    let http = server.http();
    run(&mut server.berth(["quota", "set", "team", "--bytes", "10KiB"]));
    assert_eq!(upload(&http, "team/app", &[1; 6000]).status, 201);
    assert_eq!(upload(&http, "teams", &[2; 20_000]).status, 201, "another prefix is not bounded");
    let refused = upload(&http, "team/other", &[3; 6000]);
    assert_eq!((refused.status, refused.oci_code().as_str()), (403, "DENIED"), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.body)
            .contains("the quota of the repositories of team allows 10240 bytes")
    );
    assert_eq!(http.head(&format!("/v2/team/other/blobs/sha256:{}", sha256(&[3; 6000]))).status, 404);
    // Nor by a mount, nor without a declared length.
    let digest = http.push_blob("teams", &[4; 5000]);
    let mount = http.post(&format!("/v2/team/app/blobs/uploads/?mount={digest}&from=teams"), &[], b"");
    assert_eq!((mount.status, mount.oci_code().as_str()), (403, "DENIED"), "{mount:?}");
    let begun = http.post("/v2/team/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").unwrap();
    assert_eq!(http.patch(location, &[], &[5; 4000]).status, 202);
    let beyond = http.patch(location, &[], &[5; 1000]);
    assert_eq!((beyond.status, beyond.oci_code().as_str()), (403, "DENIED"), "{beyond:?}");
    assert_eq!(http.get(location).status, 404, "what was refused takes up nothing");
    assert_eq!(quota(&server, "team")["bytes"], 6000);
    // Two that fit, but not together.
    let sessions = [6, 7].map(|byte| {
        let begun = http.post("/v2/team/app/blobs/uploads/", &[], b"");
        let location = begun.header("location").unwrap().to_owned();
        assert_eq!(http.patch(&location, &[], &[byte; 4000]).status, 202);
        (location, sha256(&[byte; 4000]))
    });
    let [first, second] = sessions
        .each_ref()
        .map(|(location, digest)| http.put(&format!("{location}?digest=sha256:{digest}"), &[], b""));
    assert_eq!((first.status, second.status, second.oci_code().as_str()), (201, 403, "DENIED"), "{second:?}");
    assert_eq!(http.get(&sessions[1].0).status, 404);
    assert_eq!(http.delete(&format!("/v2/team/app/blobs/sha256:{}", sessions[0].1)).status, 202);
    // The same content again adds nothing; what is deleted makes room.
    assert_eq!(http.delete(&format!("/v2/team/app/blobs/sha256:{}", sha256(&[1; 6000]))).status, 202);
    assert_eq!(quota(&server, "team")["bytes"], 0);
    assert_eq!(upload(&http, "team/other", &[3; 6000]).status, 201);
    let removed = run(&mut server.berth(["quota", "remove", "team", "--output", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&removed).unwrap(), json!({ "prefix": "team" }));
    assert_eq!(upload(&http, "team/app", &[1; 6000]).status, 201);
    assert!(try_run(&mut server.berth(["quota", "remove", "team"])).unwrap_err().contains("no quota"));
}

#[test]
fn images_are_counted_and_a_nearly_full_quota_warns() {
    let server = Server::start();
    let http = server.http();
    let config = http.push_blob("app", b"{}");
    run(&mut server.berth(["quota", "set", "", "--images", "2"]));
    let put = |tag: &str| {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"n": tag},
            "config": {"mediaType": "a/b", "digest": config, "size": 2},
        });
        http.put(
            &format!("/v2/app/manifests/{tag}"),
            &[("content-type", MANIFEST)],
            manifest.to_string().as_bytes(),
        )
    };
    let first = put("1");
    assert_eq!((first.status, first.header("warning")), (201, None));
    let second = put("2");
    let warning = "299 - \"the quota of the registry is 100 percent full\"";
    assert_eq!((second.status, second.header("warning")), (201, Some(warning)));
    let third = put("3");
    assert_eq!((third.status, third.oci_code().as_str()), (403, "DENIED"), "{third:?}");
    assert_eq!(http.get("/v2/app/manifests/3").status, 404);
    let again = put("2");
    assert_eq!((again.status, again.header("warning")), (201, Some(warning)), "what is there is not refused");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "a/b", "digest": config, "size": 2}});
    let through_ecr = aws(
        &server,
        [
            "ecr",
            "put-image",
            "--repository-name",
            "app",
            "--image-tag",
            "4",
            "--image-manifest",
            &manifest.to_string(),
        ],
    );
    assert!(through_ecr.unwrap_err().contains("LimitExceededException"));
    assert_eq!(
        http.delete(&format!("/v2/app/manifests/{}", first.header("docker-content-digest").unwrap())).status,
        202
    );
    assert_eq!(put("3").status, 201);
    assert_eq!(quota(&server, "")["images"], 2);
}

#[test]
fn pushes_at_the_same_time_never_pass_a_bound_together() {
    let server = Server::start();
    run(&mut server.berth(["quota", "set", "app", "--bytes", "10000"]));
    let accepted = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..16u8)
            .map(|n| {
                let http = server.http();
                scope.spawn(move || upload(&http, "app", &[n; 1500]).status)
            })
            .collect();
        let statuses: Vec<u16> = pushes.into_iter().map(|push| push.join().unwrap()).collect();
        assert!(statuses.iter().all(|status| [201, 403].contains(status)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 201).count()
    });
    assert_eq!(accepted, 6);
    assert_eq!(quota(&server, "app")["bytes"], 9000);
}

#[test]
fn only_well_formed_quotas_are_set() {
    let server = Server::start();
    for args in [["Team", "--bytes", "1"], ["../x", "--images", "1"], ["a", "--bytes", "9223372036854775808"]]
    {
        let error = try_run(server.berth(["quota", "set"]).args(args)).unwrap_err();
        assert!(error.contains("InvalidParameterException"), "{args:?}: {error}");
    }
    assert!(try_run(&mut server.berth(["quota", "set", "a"])).unwrap_err().contains("--bytes"));
}
