//! Reading blobs: headers, validators, encodings (items 3, 12, 14, 18 to 23).

use super::{ABSENT, server};

#[test]
fn a_blob_is_told_and_read_with_everything_that_clients_cache_by() {
    let (_server, http) = server();
    let digest = http.push_blob("app", b"content");
    let escaped = digest.replace(':', "%3A");
    for method in ["GET", "HEAD"] {
        let answer =
            http.send(method, &format!("/v2/app/blobs/{escaped}"), &[("accept-encoding", "gzip, br")], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        for (name, value) in [
            ("content-length", "7"),
            ("content-type", "application/octet-stream"),
            ("docker-content-digest", digest.as_str()),
            ("etag", &format!("\"{digest}\"")),
            ("accept-ranges", "bytes"),
            ("cache-control", "private, max-age=31536000, immutable"),
            ("docker-distribution-api-version", "registry/2.0"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {name}");
        }
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("location"), None, "whoever sees this server sees its blobs");
        assert_eq!(answer.body, if method == "GET" { b"content".as_slice() } else { b"" });
    }
    for tag in [format!("\"{digest}\""), digest.clone(), format!("\"x\", \"{digest}\""), "*".to_owned()] {
        let answer = http.send("GET", &format!("/v2/app/blobs/{digest}"), &[("if-none-match", &tag)], b"");
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tag}");
    }
    let other = http.send("GET", &format!("/v2/app/blobs/{digest}"), &[("if-none-match", "\"x\"")], b"");
    assert_eq!(other.status, 200);
}

#[test]
fn what_is_absent_is_404_and_malformed_400_with_no_body_on_head() {
    let (_server, http) = server();
    http.push_blob("app", b"content");
    let absent = http.get(&format!("/v2/app/blobs/{ABSENT}"));
    assert_eq!((absent.status, absent.oci_code().as_str()), (404, "BLOB_UNKNOWN"));
    assert_eq!(absent.header("content-type"), Some("application/json"));
    let head = http.head(&format!("/v2/app/blobs/{ABSENT}"));
    assert_eq!((head.status, head.body.len()), (404, 0));
    for malformed in ["sha256:baddigeststring", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let answer = http.get(&format!("/v2/app/blobs/{malformed}"));
        assert_eq!((answer.status, answer.oci_code().as_str()), (400, "DIGEST_INVALID"), "{malformed}");
    }
    let nowhere = http.get(&format!("/v2/absent/blobs/{ABSENT}"));
    assert_eq!((nowhere.status, nowhere.oci_code().as_str()), (404, "NAME_UNKNOWN"));
}
