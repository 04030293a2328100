//! What must be refused, with the protocol's own error and nothing changed.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use http::{Method, StatusCode};
use registry_core::{Limits, RegistryConfig};
use serde_json::{Value, json};

use super::support::{OCI_INDEX, OCI_MANIFEST, World, descriptor, image_of, sha256};

#[tokio::test]
async fn malformed_manifests_are_refused() {
    let world = World::new().await;
    let good = world.image("app", b"layer").await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest.to_string()
    };
    let size = |size: Value| with(&move |m| m["layers"][0]["size"] = size.clone());
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let doubled = good.to_string().replacen('{', "{\"layers\":[],", 1);
    for (what, text) in [
        ("nothing", String::new()),
        ("no JSON", "not json".to_owned()),
        ("an array", "[]".to_owned()),
        ("deep nesting", deep),
        ("duplicate keys", doubled),
        ("image and index at once", with(&|m| m["manifests"] = json!([]))),
        ("schema 1", with(&|m| m["schemaVersion"] = json!(1))),
        ("another media type", with(&|m| m["mediaType"] = json!(OCI_INDEX))),
        ("no config", with(&|m| drop(m.as_object_mut().unwrap().remove("config")))),
        ("no layers", with(&|m| drop(m.as_object_mut().unwrap().remove("layers")))),
        ("negative size", size(json!(-1))),
        ("wrong size", size(json!(4))),
        ("fractional size", size(json!(5.0))),
        ("huge size", size(json!(u64::MAX))),
        ("size as text", size(json!("5"))),
        ("infinite size", good.to_string().replace("\"size\":5", "\"size\":1e400")),
        (
            "upper-case digest",
            with(&|m| m["layers"][0]["digest"] = json!(format!("sha256:{}", "A".repeat(64)))),
        ),
        ("md5", with(&|m| m["layers"][0]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e"))),
        ("traversal", with(&|m| m["layers"][0]["digest"] = json!("sha256:../../x"))),
    ] {
        let refused = world.put_bytes("app", "bad", OCI_MANIFEST, text.as_bytes()).await;
        assert_eq!(refused.error(), (400, "MANIFEST_INVALID".into()), "{what}");
    }
    assert_eq!(world.head("/v2/app/manifests/bad").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/v2/app/tags/list").await.json()["tags"], json!([]));
}

#[tokio::test]
async fn types_that_are_no_manifests_are_refused() {
    let world = World::new().await;
    let good = world.image("app", b"layer").await.to_string();
    for content_type in [
        "",
        "text/html",
        "application/json",
        OCI_INDEX,
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ] {
        let refused = world.put_bytes("app", "bad", content_type, good.as_bytes()).await;
        assert_eq!(refused.error(), (400, "MANIFEST_INVALID".into()), "{content_type}");
    }
    let refused = world.put("/v2/app/manifests/bad", good.as_bytes()).await;
    assert_eq!(refused.error(), (400, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn a_manifest_of_four_mebibytes_is_accepted_and_one_byte_more_is_not() {
    const LIMIT: usize = 4 << 20;
    let world = World::new().await;
    let mut manifest = world.image("app", b"layer").await;
    manifest["annotations"] = json!({ "padding": "" });
    let padding = "x".repeat(LIMIT - manifest.to_string().len());
    manifest["annotations"]["padding"] = json!(padding);
    let text = manifest.to_string();
    assert_eq!(text.len(), LIMIT);
    let accepted = world.put_bytes("app", "big", OCI_MANIFEST, text.as_bytes()).await;
    assert_eq!(accepted.status, StatusCode::CREATED, "{}", accepted.text());
    let more = format!("{text} ");
    let refused = world.put_bytes("app", "bigger", OCI_MANIFEST, more.as_bytes()).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_the_body_is_read() {
    let world = World::new().await;
    let unread =
        futures_util::stream::poll_fn(|_| -> std::task::Poll<Option<Result<&str, std::io::Error>>> {
            panic!("the body was read")
        });
    let headers = [("content-type", OCI_MANIFEST), ("content-length", "4194305"), ("expect", "100-continue")];
    let refused = world.send(Method::PUT, "/v2/app/manifests/v1", &headers, Body::from_stream(unread)).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_manifest_that_never_ends_is_cut_off_at_the_limit() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    const PIECE: usize = 16 << 10;
    let world = World::new().await;
    let endless = futures_util::stream::repeat_with(|| {
        TAKEN.fetch_add(PIECE, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; PIECE]))
    });
    let headers = [("content-type", OCI_MANIFEST)];
    let refused = world.send(Method::PUT, "/v2/app/manifests/v1", &headers, Body::from_stream(endless)).await;
    assert_eq!(refused.error(), (413, "SIZE_INVALID".into()));
    let taken = TAKEN.load(Ordering::Relaxed);
    assert!(taken <= (4 << 20) + 2 * PIECE, "{taken} bytes were taken");
}

#[tokio::test]
async fn parameters_that_are_no_text_are_refused_and_not_left_out() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    let digest = sha256(manifest.to_string().as_bytes());
    let path = format!("{digest}?tag=good&tag=%ff");
    assert_eq!(world.put_manifest("app", &path, &manifest).await.error(), (400, "TAG_INVALID".into()));
    assert_eq!(world.head("/v2/app/manifests/good").await.status, StatusCode::NOT_FOUND);
    world.put_manifest("app", "v1", &manifest).await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let refused = world.put(&format!("{location}?digest=%ff"), b"").await;
    assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
    let refused = world.get("/v2/app/tags/list?n=%ff").await;
    assert_eq!(refused.error(), (400, "PAGINATION_NUMBER_INVALID".into()));
    let listed = world.get(&format!("/v2/app/referrers/{digest}?artifactType=%ff")).await;
    assert_eq!(listed.header("oci-filters-applied"), "artifactType");
    // A source that nothing can be called is no wish for any source there is.
    let layer = sha256(b"layer");
    let mount = world.post(&format!("/v2/other/blobs/uploads/?mount={layer}&from=%ff")).await;
    assert_eq!(mount.status, StatusCode::ACCEPTED, "{}", mount.text());
}

#[tokio::test]
async fn too_many_descriptors_are_refused_quickly() {
    let world = World::new().await;
    let layer = descriptor("application/x.tar", &sha256(b"x"), 1);
    let manifest = image_of(&layer, &vec![layer.clone(); 10_000]);
    let begun = std::time::Instant::now();
    let refused = world.put_manifest("app", "many", &manifest).await;
    assert_eq!(refused.error(), (400, "MANIFEST_INVALID".into()));
    assert!(begun.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn malformed_paths_get_the_protocols_errors() {
    let world = World::new().await;
    let (zeros, long) = ("0".repeat(64), "a".repeat(256));
    for (path, status, code) in [
        ("/v2/App/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a/%2e%2e%2f/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a/%252e/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a%00/tags/list".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/{long}/tags/list"), 400, "NAME_INVALID"),
        (format!("/v2/a/manifests/{}", "x".repeat(129)), 400, "TAG_INVALID"),
        ("/v2/a/manifests/-x".to_owned(), 400, "TAG_INVALID"),
        ("/v2/a/blobs/sha256:../../etc".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/sha256:..%2F..%2Fetc".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/a/blobs/SHA256:{zeros}"), 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/sha256:x".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/a/nonsense".to_owned(), 404, "UNSUPPORTED"),
    ] {
        assert_eq!(world.get(&path).await.error(), (status, code.into()), "{path}");
    }
    world.push_blob("a", b"x").await;
    let traversal = world.get("/v2/a/blobs/uploads/..%2e").await;
    assert_eq!(traversal.error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(
        world.send(Method::OPTIONS, "/v2/", &[], Body::empty()).await.error(),
        (405, "UNSUPPORTED".into())
    );
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_by_its_head_or_before_the_excess_is_stored() {
    let limits = Limits { blob_bytes: 1000, ..Limits::default() };
    let world = World::with(RegistryConfig { limits, ..RegistryConfig::default() }).await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let declared = [("content-length", "1001")];
    let refused = world.send(Method::PATCH, &location, &declared, Body::empty()).await;
    assert_eq!(refused.error(), (413, "SIZE_INVALID".into()));
    let refused = world.send(Method::PATCH, &location, &[], Body::from(vec![1; 1001])).await;
    assert_eq!(refused.error(), (413, "SIZE_INVALID".into()));
    let digest = sha256(&[1; 1000]);
    let done = world.put(&format!("{location}?digest={digest}"), &[1; 1000]).await;
    assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
}

#[tokio::test]
async fn what_was_pushed_or_asked_is_never_a_page() {
    const PAGE: &str = "<html><script>alert(1)</script>";
    let world = World::new().await;
    let blob = world.push_blob("app", PAGE.as_bytes()).await;
    let mut manifest = world.image("app", b"layer").await;
    manifest["annotations"] = json!({ "title": PAGE });
    world.put_manifest("app", "v1", &manifest).await;
    let asked = "%3Chtml%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for (path, content_type) in [
        (format!("/v2/app/blobs/{blob}"), "application/octet-stream"),
        ("/v2/app/manifests/v1".to_owned(), OCI_MANIFEST),
        (format!("/v2/{asked}/tags/list"), "application/json"),
        (format!("/v2/app/manifests/{asked}"), "application/json"),
        (format!("/v2/app/tags/list?n={asked}"), "application/json"),
        (format!("/v2/app/tags/list?last={asked}"), "application/json"),
        (format!("/v2/app/referrers/{blob}?artifactType={asked}"), OCI_INDEX),
        ("/v2/_catalog".to_owned(), "application/json"),
    ] {
        let answer = world.send(Method::GET, &path, &[("accept", "text/html")], Body::empty()).await;
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        // Nor does a link lead out of its header.
        assert!(!answer.header("link").contains("<html"), "{path}");
    }
}
