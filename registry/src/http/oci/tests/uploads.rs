//! Uploads in every form that clients send them.

use axum::body::Body;
use http::{Method, StatusCode};
use registry_core::RegistryConfig;

use super::support::{World, sha256, sha512};

const UUID_LENGTH: usize = 36;

#[tokio::test]
async fn post_then_put_makes_a_blob() {
    let world = World::new().await;
    let begun = world.post("/v2/app/blobs/uploads/").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    assert_eq!(begun.header("range"), "0-0");
    assert_eq!(begun.header("content-length"), "0");
    assert_eq!(begun.header("docker-upload-uuid").len(), UUID_LENGTH);
    let location = begun.location();
    assert!(
        location.starts_with("/v2/app/blobs/uploads/")
            && location.ends_with(begun.header("docker-upload-uuid"))
    );

    let content = b"some layer".as_slice();
    let digest = sha256(content);
    let escaped = digest.to_string().replace(':', "%3A");
    let done = world.put(&format!("{location}?digest={escaped}"), content).await;
    assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
    assert_eq!(done.header("docker-content-digest"), digest.as_str());
    assert_eq!(world.get(&done.location()).await.body, content);
    assert_eq!(world.get(&location).await.error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
}

#[tokio::test]
async fn one_post_makes_a_blob() {
    let world = World::new().await;
    for content in [b"whole".as_slice(), b""] {
        let digest = sha256(content);
        let path = format!("/v2/app/blobs/uploads?digest={digest}");
        let done = world.send(Method::POST, &path, &[], Body::from(content.to_vec())).await;
        assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
        assert_eq!(world.get(&done.location()).await.body, content);
    }
}

#[tokio::test]
async fn streamed_patches_append() {
    let world = World::new().await;
    let content: Vec<u8> = (0..300_000u32).map(|i| (i * 31 % 251) as u8).collect();
    let mut location = world.post("/v2/app/blobs/uploads/").await.location();
    let mut sent = 0;
    for piece in content.chunks(70_001) {
        let patched = world.send(Method::PATCH, &location, &[], Body::from(piece.to_vec())).await;
        sent += piece.len();
        assert_eq!(patched.status, StatusCode::ACCEPTED, "{}", patched.text());
        assert_eq!(patched.header("range"), format!("0-{}", sent - 1));
        location = patched.location();
    }
    let digest = sha256(&content);
    let done = world.put(&format!("{location}?digest={digest}"), b"").await;
    assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
    assert_eq!(world.get(&done.location()).await.body, content);
}

#[tokio::test]
async fn chunks_must_fit_where_the_upload_stands() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let patch = |range: &'static str, bytes: &'static [u8]| {
        let (world, location) = (&world, &location);
        async move { world.send(Method::PATCH, location, &[("content-range", range)], Body::from(bytes)).await }
    };
    assert_eq!(patch("0-4", b"01234").await.status, StatusCode::ACCEPTED);
    for (range, bytes) in [("0-4", b"01234".as_slice()), ("6-9", b"6789"), ("3-9", b"3456789"), ("9-5", b"")]
    {
        let refused = patch(range, bytes).await;
        assert_eq!(refused.error(), (416, "BLOB_UPLOAD_INVALID".into()), "{range}");
        assert_eq!(refused.header("range"), "0-4");
        assert_eq!(refused.location(), location);
    }
    assert_eq!(patch("5-9", b"567").await.error(), (400, "SIZE_INVALID".into()));
    assert_eq!(patch("bytes 5-9", b"56789").await.error(), (400, "BLOB_UPLOAD_INVALID".into()));

    let status = world.get(&location).await;
    assert_eq!(status.status, StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), "0-4");
    assert_eq!(world.head(&location).await.header("range"), "0-4");

    let digest = sha256(b"0123456789");
    let late = [("content-range", "7-9")];
    let path = format!("{location}?digest={digest}");
    let refused = world.send(Method::PUT, &path, &late, Body::from("789")).await;
    assert_eq!(refused.error(), (416, "BLOB_UPLOAD_INVALID".into()));
    let fitting = [("content-range", "5-9")];
    let done = world.send(Method::PUT, &path, &fitting, Body::from("56789")).await;
    assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
}

#[tokio::test]
async fn a_streamed_chunk_of_another_length_than_declared_changes_nothing() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    for body in ["too short", "much longer than was declared"] {
        // A stream has no length in its head, so the lie shows only at its end.
        let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(body)]);
        let headers = [("content-range", "0-15")];
        let refused = world.send(Method::PATCH, &location, &headers, Body::from_stream(stream)).await;
        assert_eq!(refused.error(), (400, "SIZE_INVALID".into()));
    }
    let digest = sha256(b"right");
    assert_eq!(world.put(&format!("{location}?digest={digest}"), b"right").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn content_with_another_digest_is_refused_and_gone() {
    let world = World::new().await;
    let wrong = sha256(b"other");
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let refused = world.put(&format!("{location}?digest={wrong}"), b"content").await;
    assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(world.get(&location).await.status, StatusCode::NOT_FOUND);

    let path = format!("/v2/app/blobs/uploads/?digest={wrong}");
    let refused = world.send(Method::POST, &path, &[], Body::from("content")).await;
    assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
    for digest in [wrong, sha256(b"content")] {
        assert_eq!(world.head(&format!("/v2/app/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_closing_put_needs_a_digest_that_parses() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    for query in
        ["", "?digest=", "?digest=sha256:baddigeststring", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"]
    {
        let refused = world.put(&format!("{location}{query}"), b"x").await;
        assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()), "{query}");
    }
    let refused = world.post("/v2/app/blobs/uploads/?digest-algorithm=md5").await;
    assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn sha512_is_kept_as_the_client_names_it_hinted_or_not() {
    let world = World::new().await;
    let content: Vec<u8> = vec![7; 200_000];
    let digest = sha512(&content);
    for start in ["/v2/a/blobs/uploads/", "/v2/b/blobs/uploads/?digest-algorithm=sha512"] {
        let location = world.post(start).await.location();
        world.send(Method::PATCH, &location, &[], Body::from(content.clone())).await;
        let done = world.put(&format!("{location}?digest={digest}"), b"").await;
        assert_eq!(done.status, StatusCode::CREATED, "{}", done.text());
        assert_eq!(done.header("docker-content-digest"), digest.as_str());
        assert_eq!(world.get(&done.location()).await.body, content);
    }
}

#[tokio::test]
async fn a_cancelled_session_is_unknown() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    world.send(Method::PATCH, &location, &[], Body::from("x")).await;
    assert_eq!(world.delete(&location).await.status, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let answer = world.send(method, &location, &[], Body::empty()).await;
        assert_eq!(answer.error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    }
}

#[tokio::test]
async fn the_second_writer_of_a_session_is_turned_away() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let (holds, held) = tokio::sync::oneshot::channel::<()>();
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let slow = futures_util::stream::once(async move {
        // The body is read once the session is this request's.
        holds.send(()).unwrap();
        let _ = receiver.await;
        Ok::<_, std::io::Error>("slow")
    });
    let first = world.send(Method::PATCH, &location, &[], Body::from_stream(slow));
    let second = async {
        held.await.unwrap();
        let answer = world.send(Method::PATCH, &location, &[], Body::empty()).await;
        assert_eq!(answer.error(), (409, "BLOB_UPLOAD_INVALID".into()));
        assert_eq!(world.delete(&location).await.status, StatusCode::CONFLICT);
        sender.send(()).unwrap();
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.text());
    assert_eq!(world.get(&location).await.header("range"), "0-3");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_session_as_it_was() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    world.send(Method::PATCH, &location, &[], Body::from("begin ")).await;
    let broken = futures_util::stream::iter([Ok("lost"), Err(std::io::Error::other("the client went away"))]);
    let refused = world.send(Method::PATCH, &location, &[], Body::from_stream(broken)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.get(&location).await.header("range"), "0-5");
    let digest = sha256(b"begin end");
    assert_eq!(world.put(&format!("{location}?digest={digest}"), b"end").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_client_that_stops_sending_is_cut_off() {
    let config = RegistryConfig { body_idle_ms: 50, ..RegistryConfig::default() };
    let world = World::with(config).await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let silent = futures_util::stream::pending::<Result<&str, std::io::Error>>();
    let cut = world.send(Method::PATCH, &location, &[], Body::from_stream(silent)).await;
    assert_eq!(cut.status, StatusCode::BAD_REQUEST);
    // A byte now and then is no progress.
    let drip = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        Some((Ok::<_, std::io::Error>("x"), ()))
    });
    let cut = world.send(Method::PATCH, &location, &[], Body::from_stream(drip)).await;
    assert_eq!(cut.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn content_codings_are_refused() {
    let world = World::new().await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let refused =
        world.send(Method::PATCH, &location, &[("content-encoding", "gzip")], Body::from("x")).await;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn mounting_links_a_blob_without_sending_it() {
    let world = World::new().await;
    let digest = world.push_blob("from/here", b"shared").await;
    let mounted = world.post(&format!("/v2/to/blobs/uploads/?mount={digest}&from=from/here")).await;
    assert_eq!(mounted.status, StatusCode::CREATED, "{}", mounted.text());
    assert_eq!(mounted.header("docker-content-digest"), digest.as_str());
    assert_eq!(world.get(&mounted.location()).await.body, b"shared".as_slice());
}

#[tokio::test]
async fn a_mount_without_a_source_finds_one() {
    let world = World::new().await;
    let digest = world.push_blob("from/here", b"shared").await;
    let mounted = world.post(&format!("/v2/to/blobs/uploads/?mount={digest}")).await;
    assert_eq!(mounted.status, StatusCode::CREATED, "{}", mounted.text());
    assert_eq!(world.get(&mounted.location()).await.body, b"shared".as_slice());
    // What the target holds already is mounted from there.
    assert_eq!(
        world.post(&format!("/v2/to/blobs/uploads/?mount={digest}")).await.status,
        StatusCode::CREATED
    );
    let absent = sha256(b"absent");
    let upload = world.post(&format!("/v2/to/blobs/uploads/?mount={absent}")).await;
    assert_eq!(upload.status, StatusCode::ACCEPTED, "{}", upload.text());
}

#[tokio::test]
async fn what_cannot_be_mounted_becomes_an_upload() {
    let world = World::new().await;
    let digest = world.push_blob("from", b"shared").await;
    let absent = sha256(b"absent");
    for query in [
        format!("mount={absent}&from=from"),
        format!("mount={digest}&from=nowhere"),
        format!("mount={digest}&from=../etc"),
        "mount=sha256:bad&from=from".to_owned(),
    ] {
        let answer = world.post(&format!("/v2/to/blobs/uploads/?{query}")).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{query}: {}", answer.text());
        assert!(answer.location().starts_with("/v2/to/blobs/uploads/"));
    }
}

#[tokio::test]
async fn two_pushes_of_one_digest_both_succeed() {
    let world = World::new().await;
    let content = vec![3u8; 100_000];
    let digest = sha256(&content);
    let first = world.post("/v2/app/blobs/uploads/").await.location();
    let second = world.post("/v2/app/blobs/uploads/").await.location();
    let (first, second) = (format!("{first}?digest={digest}"), format!("{second}?digest={digest}"));
    let (first, second) = tokio::join!(world.put(&first, &content), world.put(&second, &content));
    assert_eq!((first.status, second.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(world.get(&first.location()).await.body, content);
}
