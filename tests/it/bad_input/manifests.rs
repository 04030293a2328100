//! Manifests: what is malformed, ambiguous, lying or endless.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{Http, Response, Server, sha256};

use super::{MISSING, OCI_INDEX, OCI_MANIFEST};

fn put(http: &Http, content_type: &str, body: &str) -> Response {
    http.put("/v2/app/manifests/bad", &[("content-type", content_type)], body.as_bytes())
}

#[test]
fn manifests_are_checked_before_anything_is_stored() {
    let server = Server::start();
    let http = server.http();
    http.push_blob("app", b"{}");
    let config = format!(
        r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":2}}"#,
        sha256(b"{}")
    );
    let whole = |members: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",{members}}}"#);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let missing = "0".repeat(64);
    let cases = [
        ("not JSON", "{".to_owned()),
        ("duplicate keys", whole(&format!(r#""config":{config},"config":{config},"layers":[]"#))),
        ("manifests and layers", whole(&format!(r#""config":{config},"layers":[],"manifests":[]"#))),
        (
            "negative size",
            whole(&format!(
                r#""config":{config},"layers":[{{"mediaType":"a/b","digest":"sha256:{missing}","size":-1}}]"#
            )),
        ),
        (
            "huge size",
            whole(&format!(
                r#""config":{config},"layers":[{{"mediaType":"a/b","digest":"sha256:{missing}","size":9223372036854775808}}]"#
            )),
        ),
        ("wrong size", whole(&format!(r#""config":{},"layers":[]"#, config.replace(":2}", ":3}")))),
        ("deep", whole(&format!(r#""config":{config},"layers":{deep}"#))),
        (
            "upper-case digest",
            whole(&format!(
                r#""config":{config},"layers":[{{"mediaType":"a/b","digest":"sha256:{}","size":1}}]"#,
                "A".repeat(64)
            )),
        ),
        (
            "media type of an index",
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#),
        ),
    ];
    for (name, body) in &cases {
        let answer = http.put("/v2/app/manifests/bad", &[("content-type", OCI_MANIFEST)], body.as_bytes());
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert!(!answer.oci_code().is_empty(), "{name}");
    }
    let absent = whole(&format!(
        r#""config":{config},"layers":[{{"mediaType":"a/b","digest":"sha256:{missing}","size":1}}]"#
    ));
    let answer = http.put("/v2/app/manifests/bad", &[("content-type", OCI_MANIFEST)], absent.as_bytes());
    assert_eq!((answer.status, answer.oci_code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"), "{answer:?}");
    let large =
        whole(&format!(r#""config":{config},"layers":[],"annotations":{{"a":"{}"}}"#, "x".repeat(5 << 20)));
    assert_eq!(
        http.put("/v2/app/manifests/bad", &[("content-type", OCI_MANIFEST)], large.as_bytes()).status,
        413
    );
    let good = whole(&format!(r#""config":{config},"layers":[]"#));
    let html = http.put("/v2/app/manifests/bad", &[("content-type", "text/html")], good.as_bytes());
    assert_eq!(html.status, 400, "{html:?}");
    assert_eq!(http.get("/v2/app/manifests/bad").status, 404);
    let tags = http.get("/v2/app/tags/list");
    assert!(tags.json()["tags"].as_array().unwrap().is_empty(), "{tags:?}");
}

#[test]
fn sizes_are_whole_numbers_and_types_agree() {
    let server = Server::start();
    let http = server.http();
    let config = http.push_blob("app", b"{}");
    let with_size = |size: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"a/b","digest":"{config}","size":{size}}},"layers":[]}}"#
        )
    };
    for size in
        ["2.0", "1e400", "2e0", "\"2\"", "null", "-0.0", "18446744073709551616", "99999999999999999999999"]
    {
        let answer = put(&http, OCI_MANIFEST, &with_size(size));
        assert_eq!(
            (answer.status, answer.oci_code().as_str()),
            (400, "MANIFEST_INVALID"),
            "{size}: {answer:?}"
        );
    }
    let good = with_size("2");
    let no_type = http.put("/v2/app/manifests/bad", &[], good.as_bytes());
    assert_eq!(no_type.status, 400, "{no_type:?}");
    for other in [OCI_INDEX, "application/vnd.docker.distribution.manifest.v2+json", "application/json"] {
        assert_eq!(put(&http, other, &good).status, 400, "{other}");
    }
    let index = good.replace("config", "config_").replace(OCI_MANIFEST, OCI_INDEX);
    assert_eq!(put(&http, OCI_INDEX, &index).status, 400);
    assert_eq!(http.get("/v2/app/manifests/bad").status, 404);
    assert_eq!(put(&http, OCI_MANIFEST, &good).status, 201);
}

#[test]
fn endless_lists_are_refused_at_once() {
    let server = Server::start();
    let http = server.http();
    let config = http.push_blob("app", b"{}");
    let descriptor = json!({"mediaType": "a/b", "digest": MISSING, "size": 1});
    let config = json!({"mediaType": "a/b", "digest": config, "size": 2});
    let layers = json!({"schemaVersion": 2, "config": config, "layers": vec![&descriptor; 10_000]});
    let children = json!({"schemaVersion": 2, "manifests": vec![&descriptor; 30_000]});
    let keys: serde_json::Map<_, _> = (0..100_000).map(|n| (format!("k{n}"), json!("v"))).collect();
    let annotations = json!({"schemaVersion": 2, "config": config, "layers": [], "annotations": keys});
    for (what, content_type, body) in [
        ("layers", OCI_MANIFEST, layers),
        ("children", OCI_INDEX, children),
        ("annotations", OCI_MANIFEST, annotations),
    ] {
        let body = body.to_string();
        assert!(body.len() < 4 << 20, "{what}: {}", body.len());
        let begin = Instant::now();
        let answer = put(&http, content_type, &body);
        assert_eq!((answer.status, answer.oci_code().as_str()), (400, "MANIFEST_INVALID"), "{what}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{what} took {:?}", begin.elapsed());
    }
}

#[test]
fn chains_of_subjects_and_of_indexes_are_never_walked() {
    let server = Server::start();
    let http = server.http();
    let config = http.push_blob("app", b"{}");
    let config = json!({"mediaType": "application/vnd.example+json", "digest": config, "size": 2});
    let push = |content_type: &str, body: &serde_json::Value| {
        let body = body.to_string();
        let digest = format!("sha256:{}", sha256(body.as_bytes()));
        let answer = http.put(
            &format!("/v2/app/manifests/{digest}"),
            &[("content-type", content_type)],
            body.as_bytes(),
        );
        assert_eq!(answer.status, 201, "{answer:?}");
        json!({"mediaType": content_type, "digest": digest, "size": body.len()})
    };
    let first = push(OCI_MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": []}));
    let (mut subject, mut index) = (first.clone(), first.clone());
    for _ in 0..60 {
        subject = push(
            OCI_MANIFEST,
            &json!({"schemaVersion": 2, "config": config, "layers": [], "subject": subject}),
        );
        // An index that holds its own subject is as near to a cycle as digests allow.
        index = push(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": [index], "subject": index}));
    }
    let begin = Instant::now();
    let referrers = http.get(&format!("/v2/app/referrers/{}", first["digest"].as_str().unwrap()));
    assert_eq!(referrers.json()["manifests"].as_array().unwrap().len(), 2, "{referrers:?}");
    for last in [&subject, &index] {
        let digest = last["digest"].as_str().unwrap();
        assert_eq!(http.get(&format!("/v2/app/manifests/{digest}")).status, 200);
        assert_eq!(http.get(&format!("/v2/app/referrers/{digest}")).json()["manifests"], json!([]));
        assert_eq!(http.delete(&format!("/v2/app/manifests/{digest}")).status, 202);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn what_a_manifest_says_of_other_places_is_never_fetched() {
    let server = Server::start();
    let http = server.http();
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let url = format!("http://{}/layer", trap.local_addr().unwrap());
    let (config, layer) = (http.push_blob("app", b"{}"), http.push_blob("app", b"layer"));
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let urls = [url.as_str(), "file:///etc/passwd", "http://169.254.169.254/latest/meta-data/"];
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2, "urls": urls},
        "layers": [{"mediaType": foreign, "digest": layer, "size": 5, "urls": urls}],
    });
    let text = manifest.to_string();
    assert_eq!(put(&http, OCI_MANIFEST, &text).status, 201);
    let back = http.get("/v2/app/manifests/bad");
    assert_eq!(back.body, text.as_bytes());
    assert_eq!(http.get(&format!("/v2/app/blobs/{layer}")).body, b"layer");
    assert_eq!(http.get(&format!("/v2/app/blobs/{MISSING}")).status, 404);
    assert!(trap.accept().is_err(), "somebody fetched what a manifest named");
}
