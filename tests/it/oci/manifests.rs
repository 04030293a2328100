//! Manifests: exact bytes, negotiation, tags and their limits, deletes (items 24 to 31).

use serde_json::json;

use super::{ABSENT, INDEX, MANIFEST, digest_of, image, push, server, tag, text};

#[test]
fn bytes_and_type_come_back_exactly_whatever_is_accepted() {
    let (_server, http) = server();
    let manifest = image(&http, "app", b"{}", json!({"unknown": {"a": [1]}}));
    // Members in an order of their own, and room at the end.
    let bytes = format!("{}\n\n  ", serde_json::to_string_pretty(&manifest).unwrap());
    let content_type = format!("{MANIFEST}; charset=utf-8");
    let put = http.put("/v2/app/manifests/v1", &[("content-type", &content_type)], bytes.as_bytes());
    assert_eq!(put.status, 201, "{put:?}");
    let digest = digest_of(bytes.as_bytes());
    assert_eq!(put.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(http.get(put.header("location").unwrap()).body, bytes.as_bytes());
    for accept in ["", "*/*", INDEX, "text/html;q=0.1, application/*", MANIFEST] {
        for reference in ["v1", &digest] {
            let path = format!("/v2/app/manifests/{reference}");
            let read = http.send("GET", &path, &[("accept", accept), ("accept-encoding", "gzip")], b"");
            assert_eq!((read.status, read.body.as_slice()), (200, bytes.as_bytes()), "{accept}");
            assert_eq!(read.header("content-type"), Some(MANIFEST));
            let head = http.send("HEAD", &path, &[("accept", accept)], b"");
            let length = bytes.len().to_string();
            assert_eq!((head.status, head.header("content-length")), (200, Some(length.as_str())));
            assert_eq!(head.header("docker-content-digest"), Some(digest.as_str()));
        }
    }
    let several = [("accept", INDEX), ("accept", "text/html;q=0.1"), ("accept", MANIFEST)];
    assert_eq!(http.send("GET", "/v2/app/manifests/v1", &several, b"").body, bytes.as_bytes());
    // What a tag points at may change at any moment, what a digest names never.
    assert_eq!(http.get("/v2/app/manifests/v1").header("cache-control"), None);
    let by_digest = http.get(&format!("/v2/app/manifests/{digest}"));
    assert_eq!(by_digest.header("cache-control"), Some("private, max-age=31536000, immutable"));
    let unchanged = [("if-none-match", digest.as_str())];
    assert_eq!(http.send("GET", "/v2/app/manifests/v1", &unchanged, b"").status, 304);
}

#[test]
fn large_manifests_pass_and_larger_ones_are_413_before_they_are_sent() {
    let (_server, http) = server();
    let of_size = |bytes: usize| image(&http, "app", b"{}", json!({"annotations": {"a": "x".repeat(bytes)}}));
    tag(&http, "app", "large", &of_size(3_900_000));
    let larger = of_size(5 << 20).to_string();
    let answer = http.put("/v2/app/manifests/larger", &[("content-type", MANIFEST)], larger.as_bytes());
    assert_eq!((answer.status, answer.oci_code().as_str()), (413, "SIZE_INVALID"));
    assert_eq!(http.get("/v2/app/manifests/larger").status, 404);
}

#[test]
fn a_missing_blob_is_named_and_those_of_other_hosts_may_be_missing() {
    let (_server, http) = server();
    let layer = |byte: char, media_type: &str| json!({"mediaType": media_type, "digest": format!("sha256:{}", byte.to_string().repeat(64)), "size": 1});
    let gone = image(
        &http,
        "app",
        b"{}",
        json!({"layers": [layer('1', "a/b"), layer('2', "a/b"), layer('1', "a/b")]}),
    );
    let refused = http.put("/v2/app/manifests/x", &[("content-type", MANIFEST)], gone.to_string().as_bytes());
    assert_eq!(refused.status, 400);
    let errors = refused.json()["errors"].as_array().unwrap().clone();
    assert_eq!(errors.len(), 2, "one for each digest: {errors:?}");
    assert!(errors.iter().all(|error| error["code"] == "MANIFEST_BLOB_UNKNOWN"));
    for foreign in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let mut layer = layer('3', foreign);
        layer["urls"] = json!(["https://elsewhere.invalid/layer"]);
        tag(&http, "app", "foreign", &image(&http, "app", b"{}", json!({"layers": [layer]})));
    }
    let subject = json!({"mediaType": MANIFEST, "digest": ABSENT, "size": 7});
    tag(&http, "app", "subject", &image(&http, "app", b"{}", json!({"subject": subject})));
}

#[test]
fn docker_types_are_equal_and_schema_one_is_refused() {
    let (_server, http) = server();
    let config = http.push_blob("app", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": config, "size": 2}],
    });
    let child = tag(&http, "app", "v1", &manifest);
    let list = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [child],
    });
    tag(&http, "app", "v1", &list);
    let read = http.get("/v2/app/manifests/v1");
    assert_eq!(read.header("content-type"), list["mediaType"].as_str(), "a tag moves from image to list");
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let refused = http.put("/v2/app/manifests/v0", &[("content-type", old)], b"{\"schemaVersion\":1}");
    assert_eq!((refused.status, refused.oci_code().as_str()), (400, "MANIFEST_INVALID"));
}

#[test]
fn several_tags_go_with_one_push_and_too_many_are_414() {
    let (_server, http) = server();
    let manifest = image(&http, "app", b"{}", json!({})).to_string();
    let sha512 = format!("sha512:{}", test_support::sha512(manifest.as_bytes()));
    for digest in [digest_of(manifest.as_bytes()), sha512] {
        let names: Vec<String> = (0..10).map(|n| format!("t{n}-{}", &digest[..6])).collect();
        let query: Vec<String> = names.iter().map(|name| format!("tag={name}")).collect();
        let path = format!("/v2/app/manifests/{digest}?{}", query.join("&"));
        let put = http.put(&path, &[("content-type", MANIFEST)], manifest.as_bytes());
        assert_eq!((put.status, put.header("oci-tag")), (201, Some(names.join(", ").as_str())), "{put:?}");
        for name in &names {
            let read = http.get(&format!("/v2/app/manifests/{name}"));
            assert_eq!(read.header("docker-content-digest"), Some(digest.as_str()));
        }
    }
    let many: Vec<String> = (0..101).map(|n| format!("tag=m{n}")).collect();
    let path = format!("/v2/app/manifests/{}?{}", digest_of(manifest.as_bytes()), many.join("&"));
    let refused = http.put(&path, &[("content-type", MANIFEST)], manifest.as_bytes());
    assert_eq!(refused.status, 414, "{refused:?}");
    assert_eq!(http.get("/v2/app/manifests/m0").status, 404);
}

#[test]
fn deletes_take_a_tag_alone_or_a_manifest_with_all_its_tags() {
    let (_server, http) = server();
    let manifest = image(&http, "app", b"{}", json!({}));
    let pushed = tag(&http, "app", "a", &manifest);
    tag(&http, "app", "b", &manifest);
    assert_eq!(http.delete("/v2/app/manifests/a").status, 202);
    assert_eq!((http.get("/v2/app/manifests/a").status, http.get("/v2/app/manifests/b").status), (404, 200));
    assert_eq!(http.delete("/v2/app/manifests/a").oci_code(), "MANIFEST_UNKNOWN");
    let path = format!("/v2/app/manifests/{}", text(&pushed, "digest"));
    let index = push(&http, "app", &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [pushed]}));
    let held = http.delete(&path);
    assert!([405, 409].contains(&held.status), "an index holds it: {held:?}");
    assert_eq!(http.delete(&format!("/v2/app/manifests/{}", text(&index, "digest"))).status, 202);
    assert_eq!(http.delete(&path).status, 202);
    assert_eq!((http.get(&path).status, http.get("/v2/app/manifests/b").status), (404, 404));
    assert_eq!(http.delete(&path).status, 404);
}
