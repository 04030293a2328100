//! Blobs as they are read.

use axum::body::Body;
use http::{Method, StatusCode};

use super::support::{World, sha256};

fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn head_and_get_tell_the_same_of_a_blob() {
    let world = World::new().await;
    let content = numbered(200_000);
    let digest = world.push_blob("app", &content).await;
    let path = format!("/v2/app/blobs/{digest}");
    let (head, get) = (world.head(&path).await, world.get(&path).await);
    assert!(head.body.is_empty());
    assert_eq!(get.body, content);
    for answer in [&head, &get] {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-length"), "200000");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("docker-content-digest"), digest.as_str());
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
}

#[tokio::test]
async fn content_is_never_encoded() {
    let world = World::new().await;
    let digest = world.push_blob("app", &[b'a'; 10_000]).await;
    let path = format!("/v2/app/blobs/{digest}");
    let answer = world.send(Method::GET, &path, &[("accept-encoding", "gzip, br")], Body::empty()).await;
    assert_eq!(answer.header("content-encoding"), "");
    assert_eq!(answer.header("content-length"), "10000");
}

#[tokio::test]
async fn ranges_are_served() {
    let world = World::new().await;
    let content = numbered(150_000);
    let digest = world.push_blob("app", &content).await;
    let path = format!("/v2/app/blobs/{digest}");
    for (range, from, to) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=65530-131080", 65_530, 131_081),
        ("bytes=149000-", 149_000, 150_000),
        ("bytes=-10", 149_990, 150_000),
        ("bytes=149990-999999", 149_990, 150_000),
    ] {
        let answer = world.send(Method::GET, &path, &[("range", range)], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.body, content[from..to], "{range}");
        assert_eq!(answer.header("content-length"), (to - from).to_string());
        assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/150000", to - 1));
    }
    for range in ["bytes=150000-", "bytes=500000-1000000", "bytes=500-0", "bytes=-0"] {
        let answer = world.send(Method::GET, &path, &[("range", range)], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(answer.header("content-range"), "bytes */150000");
    }
    for range in ["lines=1-2", "bytes=0-1,4-5", "bytes=x"] {
        let answer = world.send(Method::GET, &path, &[("range", range)], Body::empty()).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 150_000), "{range}");
    }
}

#[tokio::test]
async fn a_client_that_holds_the_content_is_told_so() {
    let world = World::new().await;
    let digest = world.push_blob("app", b"content").await;
    let path = format!("/v2/app/blobs/{digest}");
    for tag in [format!("\"{digest}\""), digest.to_string(), format!("\"x\", W/\"{digest}\"")] {
        let headers = [("if-none-match", tag.as_str())];
        for method in [Method::GET, Method::HEAD] {
            let answer = world.send(method, &path, &headers, Body::empty()).await;
            assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{tag}");
        }
    }
    let absent = format!("/v2/app/blobs/{}", sha256(b"absent"));
    let any = [("if-none-match", "*")];
    assert_eq!(world.send(Method::GET, &absent, &any, Body::empty()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_blob_of_another_repository_does_not_exist_here() {
    let world = World::new().await;
    let digest = world.push_blob("one", b"secret").await;
    world.push_blob("two", b"other").await;
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        let answer = world.send(method, &format!("/v2/two/blobs/{digest}"), &[], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.get(&format!("/v2/three/blobs/{digest}")).await.error(), (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_alone() {
    let world = World::new().await;
    let digest = world.push_blob("one", b"shared").await;
    world.push_blob("two", b"shared").await;
    let path = format!("/v2/one/blobs/{digest}");
    assert_eq!(world.delete(&path).await.status, StatusCode::ACCEPTED);
    assert_eq!(world.get(&path).await.error(), (404, "BLOB_UNKNOWN".into()));
    assert_eq!(world.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get(&format!("/v2/two/blobs/{digest}")).await.body, b"shared".as_slice());
}

#[tokio::test]
async fn a_head_that_finds_nothing_has_no_body() {
    let world = World::new().await;
    world.push_blob("app", b"x").await;
    let answer = world.head(&format!("/v2/app/blobs/{}", sha256(b"absent"))).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.body.is_empty());
}
