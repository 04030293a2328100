//! What concerns layers, the registry as a whole, and when images were pulled.

use serde_json::json;
use test_support::{Http, Server, aws, eventually, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn layers_go_up_and_come_down_through_the_api_alone() {
    let server = Server::start();
    let ecr = |args: &[&str]| aws(&server, ["ecr"].iter().chain(args));
    ecr(&["create-repository", "--repository-name", "app"]).unwrap();
    let upload = ecr(&["initiate-layer-upload", "--repository-name", "app"]).unwrap();
    let upload = upload["uploadId"].as_str().unwrap();
    let part = server.data().join("part");
    std::fs::write(&part, b"a layer").unwrap();
    let blob = format!("fileb://{}", part.display());
    let of = ["--repository-name", "app", "--upload-id", upload];
    let range = ["--part-first-byte", "0", "--part-last-byte", "6", "--layer-part-blob", &blob];
    ecr(&[&["upload-layer-part"][..], &of, &range].concat()).unwrap();
    let digest = format!("sha256:{}", sha256(b"a layer"));
    ecr(&[&["complete-layer-upload"][..], &of, &["--layer-digests", &digest]].concat()).unwrap();
    let layers = ["--repository-name", "app", "--layer-digests", &digest];
    let there = ecr(&[&["batch-check-layer-availability"][..], &layers].concat()).unwrap();
    assert_eq!(there["layers"][0]["layerAvailability"], "AVAILABLE");

    let got =
        ecr(&["get-download-url-for-layer", "--repository-name", "app", "--layer-digest", &digest]).unwrap();
    let url = got["downloadUrl"].as_str().unwrap();
    let (_, ticket) = url.split_once('?').unwrap();
    let anybody = Http::new(server.endpoint());
    assert_eq!(anybody.get(url).body, b"a layer");
    assert_eq!(anybody.send("HEAD", url, &[], b"").status, 200);
    // It fetches this layer and nothing else.
    let other = server.http().push_blob("app", b"another");
    server.http().push_blob("other", b"a layer");
    for path in [
        format!("/v2/app/blobs/{other}"),
        format!("/v2/other/blobs/{digest}"),
        "/v2/app/tags/list".to_owned(),
        "/v2/".to_owned(),
    ] {
        assert_eq!(anybody.get(&format!("{path}?{ticket}")).status, 401, "{path}");
    }
    assert_eq!(anybody.delete(url).status, 401);
    let bearer = anybody.bearer(ticket.split_once('=').unwrap().1);
    assert_eq!(bearer.get(&format!("/v2/app/blobs/{other}")).status, 401);
    // Access lines gather for a while.
    let log = eventually("the lines of the six that were refused", || {
        let log = server.log();
        (log.matches("\"code\":401").count() >= 6).then_some(log)
    });
    assert!(!log.contains(ticket) && !log.contains("ticket="));
    let absent = format!("sha256:{}", "0".repeat(64));
    let error = ecr(&["get-download-url-for-layer", "--repository-name", "app", "--layer-digest", &absent]);
    assert!(error.unwrap_err().contains("LayersNotFoundException"));
}

#[test]
fn a_registry_policy_holds_for_every_repository_at_once() {
    let server = Server::start();
    let http = server.http();
    let blob = |name: &str| format!("/v2/{name}/blobs/{}", http.push_blob(name, b"content"));
    let (open, closed) = (blob("open/app"), blob("closed"));
    let token = |name: &str| {
        let answer = server.anonymous().get(&format!("/token?scope=repository:{name}:pull"));
        server.anonymous().bearer(answer.json()["token"].as_str().unwrap())
    };
    let none = aws(&server, ["ecr", "get-registry-policy"]).unwrap_err();
    assert!(none.contains("RegistryPolicyNotFoundException"), "{none}");
    assert_eq!(token("open/app").get(&open).status, 401);
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "read", "Effect": "Allow", "Principal": "*", "Action": "ecr:GetDownloadUrlForLayer",
         "Resource": "arn:aws:ecr:*:*:repository/open/*"},
        {"Sid": "frozen", "Effect": "Deny", "Principal": "*", "Action": "ecr:InitiateLayerUpload",
         "Resource": "arn:aws:ecr:*:*:repository/closed"},
    ]})
    .to_string();
    aws(&server, ["ecr", "put-registry-policy", "--policy-text", &policy]).unwrap();
    assert_eq!(token("open/app").get(&open).body, b"content");
    assert_eq!(token("closed").get(&closed).status, 401);
    let denied = http.post("/v2/closed/blobs/uploads/", &[], b"");
    assert_eq!((denied.status, denied.oci_code().as_str()), (403, "DENIED"), "not even the administrator");
    let shown = aws(&server, ["ecr", "get-registry-policy"]).unwrap();
    assert_eq!(shown["policyText"], policy);
    let bad = aws(&server, ["ecr", "put-registry-policy", "--policy-text", "{\"Version\":\"2012-10-17\"}"]);
    assert!(bad.unwrap_err().contains("InvalidParameterException"));
    aws(&server, ["ecr", "delete-registry-policy"]).unwrap();
    assert_eq!(token("open/app").get(&open).status, 401);
    assert_eq!(http.post("/v2/closed/blobs/uploads/", &[], b"").status, 202);
    assert_eq!(aws(&server, ["ecr", "describe-registry"]).unwrap()["registryId"], "000000000000");
}

#[test]
fn mounting_can_be_switched_off_for_the_account() {
    let server = Server::start();
    let http = server.http();
    let digest = http.push_blob("source", b"shared");
    let setting = |args: &[&str]| aws(&server, ["ecr"].iter().chain(args));
    let mount =
        |to: &str| http.post(&format!("/v2/{to}/blobs/uploads/?mount={digest}&from=source"), &[], b"").status;
    assert_eq!(setting(&["get-account-setting", "--name", "BLOB_MOUNTING"]).unwrap()["value"], "ENABLED");
    assert_eq!(mount("a"), 201);
    setting(&["put-account-setting", "--name", "BLOB_MOUNTING", "--value", "DISABLED"]).unwrap();
    assert_eq!(setting(&["get-account-setting", "--name", "BLOB_MOUNTING"]).unwrap()["value"], "DISABLED");
    assert_eq!(mount("b"), 202);
    setting(&["put-account-setting", "--name", "BLOB_MOUNTING", "--value", "ENABLED"]).unwrap();
    assert_eq!(mount("b"), 201);
    let unknown = setting(&["put-account-setting", "--name", "REGISTRY_POLICY_SCOPE", "--value", "V1"]);
    assert!(unknown.is_err(), "what is not in effect is not stored");
}

#[test]
fn the_time_of_a_pull_is_recorded_and_immutability_knows_exceptions() {
    let server = Server::start();
    let http = server.http();
    aws(
        &server,
        [
            "ecr",
            "create-repository",
            "--repository-name",
            "app",
            "--image-tag-mutability",
            "IMMUTABLE_WITH_EXCLUSION",
            "--image-tag-mutability-exclusion-filters",
            "filterType=WILDCARD,filter=dev-*",
        ],
    )
    .unwrap();
    let config = http.push_blob("app", b"{}");
    let put = |tag: &str, note: &str| {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"n": note},
            "config": {"mediaType": "a/b", "digest": config, "size": 2}});
        http.put(
            &format!("/v2/app/manifests/{tag}"),
            &[("content-type", MANIFEST)],
            manifest.to_string().as_bytes(),
        )
    };
    assert_eq!((put("v1", "1").status, put("v1", "1").status, put("dev-1", "1").status), (201, 201, 201));
    let held = put("v1", "2");
    assert_eq!((held.status, held.oci_code().as_str()), (409, "DENIED"), "{held:?}");
    assert_eq!(put("dev-1", "2").status, 201);
    let describe = || {
        let ids = ["ecr", "describe-images", "--repository-name", "app", "--image-ids", "imageTag=v1"];
        aws(&server, ids).unwrap()["imageDetails"][0].clone()
    };
    assert!(describe().get("lastRecordedPullTime").is_none(), "{}", describe());
    assert_eq!(http.head("/v2/app/manifests/v1").status, 200);
    assert!(describe().get("lastRecordedPullTime").is_none(), "a look is no pull");
    assert_eq!(http.get("/v2/app/manifests/v1").status, 200);
    eventually("the pull is recorded", || describe().get("lastRecordedPullTime").cloned());
}
