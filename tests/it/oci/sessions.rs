//! Uploads: sessions, chunks, and what is left of them after an error (items 4 to 17 and 44).

use std::process::Command;

use test_support::run_with_input;

use super::{ABSENT, digest_of, server};

#[test]
fn a_session_begins_with_and_without_the_slash_and_says_where_it_stands() {
    let (_server, http) = server();
    for path in ["/v2/app/blobs/uploads/", "/v2/app/blobs/uploads"] {
        let begun = http.post(path, &[], b"");
        assert_eq!((begun.status, begun.body.as_slice()), (202, &b""[..]), "{begun:?}");
        assert_eq!((begun.header("range"), begun.header("content-length")), (Some("0-0"), Some("0")));
        assert_eq!(begun.header("oci-chunk-min-length"), None, "a chunk may have any length");
        let (location, uuid) =
            (begun.header("location").unwrap(), begun.header("docker-upload-uuid").unwrap());
        assert_eq!((location, uuid.len()), (format!("/v2/app/blobs/uploads/{uuid}").as_str(), 36));
        for method in ["GET", "HEAD"] {
            let status = http.send(method, location, &[], b"");
            assert_eq!((status.status, status.header("range")), (204, Some("0-0")), "{status:?}");
            assert_eq!(status.header("location"), Some(location));
        }
        assert_eq!(http.delete(location).status, 204);
        let gone = http.get(location);
        assert_eq!((gone.status, gone.oci_code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
    }
}

#[test]
fn chunks_follow_each_other_and_a_wrong_one_leaves_the_session_as_it_was() {
    let (_server, http) = server();
    let content = b"0123456789abcdef";
    let begun = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").unwrap();
    let chunk = |range: &str, bytes: &[u8]| http.patch(location, &[("content-range", range)], bytes);
    let first = chunk("0-0", &content[..1]);
    assert_eq!((first.status, first.header("range")), (202, Some("0-0")), "one byte reads as none");
    let second = chunk("1-7", &content[1..8]);
    assert_eq!((second.status, second.header("range")), (202, Some("0-7")));
    for (range, status, code) in [
        ("1-7", 416, "BLOB_UPLOAD_INVALID"),
        ("9-15", 416, "BLOB_UPLOAD_INVALID"),
        ("8-7", 416, "BLOB_UPLOAD_INVALID"),
        ("8-14", 400, "SIZE_INVALID"),
        ("bytes 8-14", 400, "BLOB_UPLOAD_INVALID"),
        ("8-14/16", 400, "BLOB_UPLOAD_INVALID"),
    ] {
        let refused = chunk(range, if range == "8-14" { &content[8..] } else { &content[8..15] });
        assert_eq!((refused.status, refused.oci_code().as_str()), (status, code), "{range}: {refused:?}");
        if status == 416 {
            assert_eq!((refused.header("range"), refused.header("location")), (Some("0-7"), Some(location)));
        }
        let stands = http.get(location);
        assert_eq!((stands.status, stands.header("range")), (204, Some("0-7")), "{range}");
    }
    // The closing PUT obeys the same rules, and may carry the last chunk.
    let put = format!("{location}?digest={}", digest_of(content).replace(':', "%3A"));
    let misplaced = http.put(&put, &[("content-range", "9-15")], &content[9..]);
    assert_eq!((misplaced.status, misplaced.header("range")), (416, Some("0-7")), "{misplaced:?}");
    let missing = http.put(location, &[], b"");
    assert_eq!((missing.status, missing.oci_code().as_str()), (400, "DIGEST_INVALID"));
    let closed = http.put(&put, &[("content-range", "8-15"), ("content-type", "odd/type")], &content[8..]);
    assert_eq!(
        (closed.status, closed.header("docker-content-digest")),
        (201, Some(digest_of(content).as_str()))
    );
    assert_eq!(http.get(closed.header("location").unwrap()).body, content);
    assert_eq!(http.get(location).status, 404, "the session has ended");
}

#[test]
fn a_wrong_digest_shows_nothing_however_the_bytes_came() {
    let (_server, http) = server();
    let content = b"0123456789abcdef";
    let wrong = format!("?digest={}", digest_of(b"other"));
    let chunks: [&[(&str, &[u8])]; 4] =
        [&[], &[("0-15", content)], &[("0-0", b"0"), ("1-15", &content[1..])], &[("", content)]];
    for chunks in chunks {
        let begun = http.post("/v2/app/blobs/uploads/", &[], b"");
        let location = begun.header("location").unwrap();
        for (range, bytes) in chunks {
            let headers = [("content-range", *range)];
            let headers = if range.is_empty() { &headers[1..] } else { &headers[..] };
            assert_eq!(http.patch(location, headers, bytes).status, 202);
        }
        let last: &[u8] = if chunks.is_empty() { content } else { b"" };
        let closed = http.put(&format!("{location}{wrong}"), &[], last);
        assert_eq!((closed.status, closed.oci_code().as_str()), (400, "DIGEST_INVALID"), "{chunks:?}");
    }
    for bytes in [content.as_slice(), b"other"] {
        assert_eq!(http.head(&format!("/v2/app/blobs/{}", digest_of(bytes))).status, 404);
    }
}

#[test]
fn any_algorithm_may_be_hinted_and_another_one_close() {
    let (_server, http) = server();
    let sha512 = test_support::sha512(b"content");
    for hint in ["", "?digest-algorithm=sha256", "?digest-algorithm=sha512"] {
        for digest in [digest_of(b"content"), format!("sha512:{sha512}")] {
            let begun = http.post(&format!("/v2/app/blobs/uploads/{hint}"), &[], b"");
            let location = begun.header("location").unwrap();
            assert_eq!(http.patch(location, &[], b"con").status, 202);
            let closed = http.put(&format!("{location}?digest={digest}"), &[], b"tent");
            assert_eq!(closed.status, 201, "{hint} {digest}: {closed:?}");
            assert_eq!(closed.header("docker-content-digest"), Some(digest.as_str()));
            let read = http.get(&format!("/v2/app/blobs/{digest}"));
            assert_eq!((read.status, read.body.as_slice()), (200, &b"content"[..]));
            assert_eq!(read.header("docker-content-digest"), Some(digest.as_str()));
        }
    }
    let refused = http.post("/v2/app/blobs/uploads/?digest-algorithm=md5", &[], b"");
    assert_eq!((refused.status, refused.oci_code().as_str()), (400, "DIGEST_INVALID"), "{refused:?}");
}

#[test]
fn one_post_is_enough_and_nothing_at_all_is_a_blob() {
    let (_server, http) = server();
    for content in [b"whole".as_slice(), b""] {
        let digest = digest_of(content);
        let pushed = http.post(&format!("/v2/app/blobs/uploads/?digest={digest}"), &[], content);
        assert_eq!(pushed.status, 201, "{pushed:?}");
        let read = http.get(pushed.header("location").unwrap());
        assert_eq!((read.status, read.body.as_slice()), (200, content));
    }
    let wrong = http.post(&format!("/v2/app/blobs/uploads/?digest={ABSENT}"), &[], b"other");
    assert_eq!((wrong.status, wrong.oci_code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(http.head(&format!("/v2/app/blobs/{ABSENT}")).status, 404);
}

#[test]
fn mounts_take_what_may_be_read_and_otherwise_begin_an_upload() {
    let (_server, http) = server();
    let digest = http.push_blob("source", b"shared");
    for (query, status) in [
        (format!("mount={digest}&from=source"), 201),
        (format!("mount={digest}"), 201),
        (format!("mount={digest}&from=absent"), 202),
        (format!("mount={digest}&from=../x"), 202),
        (format!("mount={ABSENT}&from=source"), 202),
        (format!("mount={ABSENT}"), 202),
        ("mount=sha256:bad&from=source".to_owned(), 202),
    ] {
        let answer = http.post(&format!("/v2/target/blobs/uploads/?{query}"), &[], b"");
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        if status == 201 {
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(http.get(answer.header("location").unwrap()).body, b"shared");
        } else {
            assert_eq!(http.get(answer.header("location").unwrap()).status, 204, "{query}");
        }
    }
}

#[test]
fn a_stream_without_a_length_is_appended_by_either_version_of_http() {
    let (server, http) = server();
    let content: Vec<u8> = (0..3_000_001_u32).map(|at| (at * 31 % 251) as u8).collect();
    let user = format!("{}:{}", server.access_key_id(), server.secret());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let begun = http.post("/v2/app/blobs/uploads/", &[], b"");
        let location = begun.header("location").unwrap();
        let mut curl = Command::new("curl");
        // From a pipe, whose length nobody knows: chunks, or frames of a stream.
        curl.args(["-s", version, "-u", &user, "-X", "PATCH", "-T", "-", "-w", "%{http_code}"]);
        curl.arg(format!("{}{location}", server.endpoint()));
        assert_eq!(run_with_input(&mut curl, &content).trim(), "202", "{version}");
        assert_eq!(http.get(location).header("range"), Some("0-3000000"), "{version}");
        let closed = http.put(&format!("{location}?digest={}", digest_of(&content)), &[], b"");
        assert_eq!(closed.status, 201, "{version}: {closed:?}");
        assert!(http.get(closed.header("location").unwrap()).body == content, "{version}");
    }
}
