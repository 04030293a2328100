//! Manifests as they are pushed, read and deleted.

use axum::body::Body;
use http::{Method, StatusCode};
use registry_core::{RegistryConfig, TagMutability};
use registry_types::Digest;
use serde_json::json;

use super::support::{OCI_INDEX, OCI_MANIFEST, World, descriptor, image_of, index_of, sha256, sha512};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[tokio::test]
async fn bytes_come_back_exactly() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    let bytes = format!("{}\n  ", serde_json::to_string_pretty(&manifest).unwrap());
    let pushed = world.put_bytes("app", "v1", OCI_MANIFEST, bytes.as_bytes()).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    let digest = sha256(bytes.as_bytes());
    assert_eq!(pushed.header("docker-content-digest"), digest.as_str());
    assert_eq!(pushed.location(), format!("/v2/app/manifests/{digest}"));
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/app/manifests/{reference}");
        let (get, head) = (world.get(&path).await, world.head(&path).await);
        assert_eq!(get.body, bytes.as_bytes());
        assert!(head.body.is_empty());
        for answer in [get, head] {
            assert_eq!(answer.header("content-type"), OCI_MANIFEST);
            assert_eq!(answer.header("content-length"), bytes.len().to_string());
            assert_eq!(answer.header("docker-content-digest"), digest.as_str());
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            assert_eq!(!answer.header("cache-control").is_empty(), reference != "v1");
        }
        let headers = [("if-none-match", digest.as_str())];
        let unchanged = world.send(Method::GET, &path, &headers, Body::empty()).await;
        assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test]
async fn dockers_types_are_at_home() {
    let world = World::new().await;
    let config = world.push_blob("app", b"{}").await;
    let layer = world.push_blob("app", b"layer").await;
    let image = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &config, 2),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer, 5)],
    });
    let pushed = world.put_manifest("app", "v1", &image).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    let digest: Digest = pushed.header("docker-content-digest").parse().unwrap();
    let size = image.to_string().len();
    let list = json!({
        "schemaVersion": 2, "mediaType": DOCKER_LIST,
        "manifests": [descriptor(DOCKER_MANIFEST, &digest, size)],
    });
    // A tag may move from an image to an index.
    assert_eq!(world.put_manifest("app", "v1", &list).await.status, StatusCode::CREATED);
    assert_eq!(world.get("/v2/app/manifests/v1").await.header("content-type"), DOCKER_LIST);
}

#[tokio::test]
async fn what_others_trip_over_is_accepted() {
    let world = World::new().await;
    let config = world.push_blob("app", b"{}").await;
    let empty = world.push_blob("app", b"").await;
    let config = descriptor("application/vnd.oci.empty.v1+json", &config, 2);
    let mut with_data = config.clone();
    with_data["data"] = json!("e30=");
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "size": 5,
        "digest": sha256(b"absent"), "urls": ["http://169.254.169.254/", "file:///etc/passwd"],
    });
    let index = index_of(&[]);
    let index_digest = sha256(index.to_string().as_bytes());
    let mut artifact = image_of(&config, &[]);
    artifact["artifactType"] = json!("application/x.anything");
    artifact["unknown"] = json!({ "member": [1, 2] });
    for (tag, manifest) in [
        ("no-layers", image_of(&config, &[])),
        ("empty-layer", image_of(&config, &[descriptor("application/x.tar", &empty, 0)])),
        ("foreign", image_of(&config, &[foreign])),
        ("data", image_of(&with_data, &[])),
        ("artifact", artifact),
        ("empty-index", index.clone()),
        ("index-of-index", index_of(&[descriptor(OCI_INDEX, &index_digest, index.to_string().len())])),
        ("null-list", json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": null })),
    ] {
        let pushed = world.put_manifest("app", tag, &manifest).await;
        assert_eq!(pushed.status, StatusCode::CREATED, "{tag}: {}", pushed.text());
        assert_eq!(world.get(&format!("/v2/app/manifests/{tag}")).await.body, manifest.to_string());
    }
}

#[tokio::test]
async fn the_type_may_carry_parameters_and_the_body_may_leave_it_out() {
    let world = World::new().await;
    let mut manifest = world.image("app", b"layer").await;
    manifest.as_object_mut().unwrap().remove("mediaType");
    let content_type = format!("{OCI_MANIFEST}; charset=utf-8");
    let pushed = world.put_bytes("app", "v1", &content_type, manifest.to_string().as_bytes()).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    assert_eq!(world.get("/v2/app/manifests/v1").await.header("content-type"), OCI_MANIFEST);
}

#[tokio::test]
async fn each_missing_blob_is_named_once() {
    let world = World::new().await;
    world.push_blob("app", b"unrelated").await;
    let (config, layer) = (sha256(b"config"), sha256(b"layer"));
    let layer = descriptor("application/x.tar", &layer, 5);
    let manifest = image_of(&descriptor("application/x.json", &config, 6), &[layer.clone(), layer]);
    let refused = world.put_manifest("app", "v1", &manifest).await;
    assert_eq!(refused.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    assert_eq!(refused.json()["errors"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/v2/app/manifests/v1").await.error(), (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn a_registry_of_sparse_manifests_takes_them_and_shows_nothing_more_for_it() {
    let config = RegistryConfig { require_contents: false, ..RegistryConfig::default() };
    let world = World::with(config).await;
    let elsewhere = world.push_blob("elsewhere", b"layer").await;
    let absent = sha256(b"absent");
    let image = image_of(
        &descriptor("application/x.json", &absent, 6),
        &[descriptor("application/x.tar", &elsewhere, 5)],
    );
    let index = index_of(&[descriptor(OCI_MANIFEST, &absent, 6)]);
    for (tag, manifest) in [("image", &image), ("index", &index)] {
        let pushed = world.put_manifest("app", tag, manifest).await;
        assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
        assert_eq!(world.get(&pushed.location()).await.body, manifest.to_string());
    }
    for blob in [&absent, &elsewhere] {
        assert_eq!(world.head(&format!("/v2/app/blobs/{blob}")).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(
        world.head(&format!("/v2/app/manifests/{absent}")).await.status,
        StatusCode::NOT_FOUND,
        "what an index names is not there for it"
    );
}

#[tokio::test]
async fn a_push_by_digest_must_have_it_and_may_be_sha512() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    let bytes = manifest.to_string();
    let refused = world.put_manifest("app", sha256(b"other").as_str(), &manifest).await;
    assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
    let digest = sha512(bytes.as_bytes());
    let pushed = world.put_manifest("app", digest.as_str(), &manifest).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    assert_eq!(pushed.header("docker-content-digest"), digest.as_str());
    assert_eq!(world.get(&pushed.location()).await.body, bytes);
}

#[tokio::test]
async fn content_is_there_under_the_digest_that_it_was_pushed_by_alone() {
    let world = World::new().await;
    let content = b"some layer".as_slice();
    let (short, long) = (sha256(content), sha512(content));
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let done = world.put(&format!("{location}?digest={long}"), content).await;
    assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
    assert_eq!(world.get(&format!("/v2/app/blobs/{long}")).await.body, content);
    assert_eq!(world.get(&format!("/v2/app/blobs/{short}")).await.error(), (404, "BLOB_UNKNOWN".into()));
    // The hash of one algorithm under the name of the other, whole and cut to its length.
    let cut = format!("sha256:{}", &long.hex()[..64]);
    for (confused, status, code) in [
        (format!("sha256:{}", long.hex()), 400, "DIGEST_INVALID"),
        (format!("sha512:{}", short.hex()), 400, "DIGEST_INVALID"),
        (cut.clone(), 404, "BLOB_UNKNOWN"),
    ] {
        let answer = world.get(&format!("/v2/app/blobs/{confused}")).await;
        assert_eq!(answer.error(), (status, code.into()), "{confused}");
    }
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let refused = world.put(&format!("{location}?digest={cut}"), content).await;
    assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
    // What a manifest names by the other digest is not there, nor is the manifest itself.
    let named = |digest: &Digest| image_of(&descriptor("application/x.config", digest, content.len()), &[]);
    let refused = world.put_manifest("app", "v1", &named(&short)).await;
    assert_eq!(refused.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let manifest = named(&long);
    let bytes = manifest.to_string();
    let (short, long) = (sha256(bytes.as_bytes()), sha512(bytes.as_bytes()));
    let pushed = world.put_manifest("app", &format!("{long}?tag=v1"), &manifest).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    assert_eq!(world.head("/v2/app/manifests/v1").await.header("docker-content-digest"), long.as_str());
    let other = world.get(&format!("/v2/app/manifests/{short}")).await;
    assert_eq!(other.error(), (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn one_push_by_digest_may_set_many_tags() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    let digest = sha512(manifest.to_string().as_bytes());
    let tags: Vec<String> = (0..10).map(|i| format!("t{i}")).collect();
    let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
    let pushed = world.put_manifest("app", &format!("{digest}?{query}"), &manifest).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    assert_eq!(pushed.header("oci-tag"), tags.join(", "));
    for tag in &tags {
        let path = format!("/v2/app/manifests/{tag}");
        assert_eq!(world.head(&path).await.header("docker-content-digest"), digest.as_str());
    }
    let many: Vec<String> = (0..101).map(|i| format!("tag=m{i}")).collect();
    let refused = world.put_manifest("app", &format!("{digest}?{}", many.join("&")), &manifest).await;
    assert_eq!(refused.status, StatusCode::URI_TOO_LONG);
    let refused = world.put_manifest("app", &format!("{digest}?tag=good&tag=-bad"), &manifest).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.head("/v2/app/manifests/good").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_immutable_tag_stays_where_it_is() {
    let world = World::new().await;
    let first = world.push_image("app", "v1", b"first").await;
    let repository = world.registry.repository(&"app".parse().unwrap()).await.unwrap().unwrap();
    world.registry.set_tag_mutability(&repository.uid, TagMutability::Immutable).await.unwrap();
    let second = world.image("app", b"second").await;
    let refused = world.put_manifest("app", "v1", &second).await;
    assert_eq!(refused.error(), (409, "DENIED".into()));
    let digest = sha256(second.to_string().as_bytes());
    // All or none: a free tag beside a held one is not set either.
    let refused = world.put_manifest("app", &format!("{digest}?tag=free&tag=v1"), &second).await;
    assert_eq!(refused.error(), (409, "DENIED".into()));
    assert_eq!(world.head("/v2/app/manifests/free").await.status, StatusCode::NOT_FOUND);
    let again = world.image("app", b"first").await;
    assert_eq!(world.put_manifest("app", "v1", &again).await.status, StatusCode::CREATED);
    assert_eq!(world.head("/v2/app/manifests/v1").await.header("docker-content-digest"), first.as_str());
}

#[tokio::test]
async fn deleting_a_tag_keeps_the_manifest_and_deleting_the_manifest_takes_its_tags() {
    let world = World::new().await;
    let digest = world.push_image("app", "v1", b"layer").await;
    world.push_image("app", "v2", b"layer").await;
    assert_eq!(world.delete("/v2/app/manifests/v1").await.status, StatusCode::ACCEPTED);
    assert_eq!(world.get("/v2/app/manifests/v1").await.error(), (404, "MANIFEST_UNKNOWN".into()));
    let path = format!("/v2/app/manifests/{digest}");
    assert_eq!(world.get(&path).await.status, StatusCode::OK);
    assert_eq!(world.delete(&path).await.status, StatusCode::ACCEPTED);
    for reference in ["v2", digest.as_str()] {
        let gone = world.get(&format!("/v2/app/manifests/{reference}")).await;
        assert_eq!(gone.error(), (404, "MANIFEST_UNKNOWN".into()));
    }
    assert_eq!(world.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/v2/app/tags/list").await.json()["tags"], json!([]));
}

#[tokio::test]
async fn a_part_of_an_index_is_deleted_after_it() {
    let world = World::new().await;
    let child = world.push_image("app", "child", b"layer").await;
    let size = world.get("/v2/app/manifests/child").await.body.len();
    let index = index_of(&[descriptor(OCI_MANIFEST, &child, size)]);
    let pushed = world.put_manifest("app", "all", &index).await;
    let child_path = format!("/v2/app/manifests/{child}");
    assert_eq!(world.delete(&child_path).await.error(), (409, "DENIED".into()));
    assert_eq!(world.delete(&pushed.location()).await.status, StatusCode::ACCEPTED);
    assert_eq!(world.delete(&child_path).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_new_push_heals_a_rotten_manifest_and_a_rotten_blob() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    world.put_manifest("app", "v1", &manifest).await;
    let blob = format!("/v2/app/blobs/{}", sha256(b"layer"));
    for file_id in world.objects().await {
        world.store.tamper(file_id, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    assert_eq!(world.get(&blob).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    world.push_blob("app", b"layer").await;
    assert_eq!(world.get(&blob).await.body, b"layer".as_slice());
    world.push_blob("app", b"{}").await;
    assert_eq!(world.put_manifest("app", "v1", &manifest).await.status, StatusCode::CREATED);
    let fresh = world.reopened().await;
    assert_eq!(fresh.get("/v2/app/manifests/v1").await.body, manifest.to_string());
}
