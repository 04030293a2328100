//! Blobs: digests that lie, ranges, and content of other repositories.

use test_support::{Server, sha256};

#[test]
fn a_wrong_digest_leaves_nothing_behind() {
    let server = Server::start();
    let http = server.http();
    let other = sha256(b"other");
    let single = http.post(&format!("/v2/app/blobs/uploads/?digest=sha256:{other}"), &[], b"content");
    assert_eq!((single.status, single.oci_code().as_str()), (400, "DIGEST_INVALID"), "{single:?}");
    let started = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap();
    let finished = http.put(&format!("{location}?digest=sha256:{other}"), &[], b"content");
    assert_eq!((finished.status, finished.oci_code().as_str()), (400, "DIGEST_INVALID"), "{finished:?}");
    for content in [b"content".as_slice(), b"other"] {
        assert_eq!(http.head(&format!("/v2/app/blobs/sha256:{}", sha256(content))).status, 404);
    }
}

#[test]
fn blobs_of_other_repositories_are_absent() {
    let server = Server::start();
    let http = server.http();
    let digest = http.push_blob("mine", b"private");
    http.push_blob("yours", b"public");
    assert_eq!(http.get(&format!("/v2/yours/blobs/{digest}")).status, 404);
    assert_eq!(http.head(&format!("/v2/yours/blobs/{digest}")).status, 404);
    let mounted = http.post(&format!("/v2/yours/blobs/uploads/?mount={digest}&from=mine"), &[], b"");
    assert_eq!(mounted.status, 201, "{mounted:?}");
    assert_eq!(http.get(&format!("/v2/yours/blobs/{digest}")).body, b"private");
    let unknown = http.post(&format!("/v2/yours/blobs/uploads/?mount={digest}&from=nowhere"), &[], b"");
    assert_eq!(unknown.status, 202, "{unknown:?}");
}

#[test]
fn a_blob_is_gone_from_the_repository_that_lost_it_and_from_no_other() {
    let server = Server::start();
    let http = server.http();
    let digest = http.push_blob("one", b"shared");
    http.push_blob("two", b"shared");
    let path = |repository: &str| format!("/v2/{repository}/blobs/{digest}");
    assert_eq!((http.get(&path("one")).status, http.get(&path("two")).status), (200, 200));
    assert_eq!(http.delete(&path("one")).status, 202);
    assert_eq!((http.get(&path("one")).status, http.head(&path("one")).status), (404, 404));
    assert_eq!(http.get(&path("two")).body, b"shared");
}

#[test]
fn ranges_are_answered_one_at_a_time() {
    let server = Server::start();
    let http = server.http();
    let content: Vec<u8> = (0..2048u32).map(|byte| byte as u8).collect();
    let path = format!("/v2/app/blobs/{}", http.push_blob("app", &content));
    let range = |value: &str| http.send("GET", &path, &[("range", value)], b"");
    let part = range("bytes=500-1499");
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 500-1499/2048")));
    assert_eq!(part.body, &content[500..1500]);
    assert_eq!(range("bytes=2000-").body, &content[2000..]);
    assert_eq!(range("bytes=-48").body, &content[2000..]);
    assert_eq!(range("bytes=2000-9999").body, &content[2000..]);
    assert_eq!(range("bytes=5000-10000").status, 416);
    assert_eq!(range("bytes=500-0").status, 416);
    assert_eq!(range("bytes=0-1,4-5").status, 200);
    assert_eq!(range("lines=0-1").status, 200);
    assert_eq!(range("bytes=-0").status, 416);
    assert_eq!(range("bytes=18446744073709551616-").status, 416);
    assert_eq!(range("bytes=-18446744073709551616").body, content);
    let many: Vec<String> = (0..2000).map(|n| format!("{n}-{n}")).collect();
    let all = range(&format!("bytes={}", many.join(",")));
    assert_eq!((all.status, all.body.len()), (200, 2048), "two thousand ranges are one answer");
    assert_eq!(range("bytes=0-5,3-9").status, 200);
    for nonsense in ["bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=0x1-2", "bytes=1--2"] {
        assert!([200, 416].contains(&range(nonsense).status), "{nonsense}");
    }
    assert_eq!(range("bytes=0-99999999999999999999999").status, 206);
}
