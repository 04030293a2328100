//! Malformed and hostile requests get the protocol's own error, and change nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use test_support::{Server, sha256};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Sends bytes as they are and reads what comes back until the server closes or `wait` is over.
fn raw(server: &Server, request: &[u8], wait: Duration) -> String {
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.set_read_timeout(Some(wait)).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn authorization(server: &Server) -> String {
    server.http().authorization().unwrap().to_owned()
}

#[test]
fn names_tags_and_digests_are_checked_at_the_door() {
    let server = Server::start();
    let http = server.http();
    let long = format!("/v2/{}/tags/list", "a".repeat(300));
    let tag = format!("/v2/app/manifests/{}", "x".repeat(129));
    for (path, expected) in [
        ("/v2/../etc/manifests/x", &[400, 404][..]),
        ("/v2/%2e%2e%2fetc/manifests/x", &[400, 404]),
        ("/v2/a%252e%252e/manifests/x", &[400, 404]),
        ("/v2/App/tags/list", &[400]),
        ("/v2/a%00b/tags/list", &[400, 404]),
        ("/v2/a%0d%0ab/tags/list", &[400, 404]),
        (long.as_str(), &[400]),
        (tag.as_str(), &[400, 404]),
        ("/v2/app/manifests/-x", &[400, 404]),
        ("/v2/app/blobs/sha256:../../x", &[400, 404]),
        ("/v2/app/blobs/sha256:baddigeststring", &[400, 404]),
        ("/v2/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", &[400, 404]),
        ("/v2/app/blobs/uploads/../../../etc/passwd", &[400, 404]),
        ("/v2/app/tags/list?n=-1", &[400, 404]),
        ("/v2/_catalog?n=x", &[400]),
    ] {
        let answer = http.get(path);
        assert!(expected.contains(&answer.status), "{path}: {answer:?}");
    }
    assert!(http.get("/v2/_catalog?n=1000000000").status < 500);
    assert_eq!(server.anonymous().get("/v2/_catalog").status, 401);
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
fn requests_that_could_be_smuggled_are_refused() {
    let server = Server::start();
    let auth = authorization(&server);
    for (name, head) in [
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("length and chunked", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("a length that is no number", "Content-Length: +3\r\n"),
    ] {
        let head =
            format!("PUT /v2/app/manifests/x HTTP/1.1\r\nHost: b\r\nAuthorization: {auth}\r\n{head}\r\n");
        // With both, the chunked coding counts and the length is dropped (RFC 9112 6.3): no chunk follows here.
        if name != "length and chunked" {
            let answer = raw(&server, head.as_bytes(), Duration::from_secs(2));
            assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        }
        let request = format!("{head}abcGET /healthz HTTP/1.1\r\nHost: b\r\n\r\n");
        let answer = raw(&server, request.as_bytes(), Duration::from_secs(2));
        assert!(!answer.contains("200 OK"), "{name}: {answer}");
    }
    let header = format!("GET /v2/ HTTP/1.1\r\nHost: b\r\nX-Large: {}\r\n\r\n", "a".repeat(1 << 20));
    let answer = raw(&server, header.as_bytes(), Duration::from_secs(2));
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
}

#[test]
fn a_slow_header_is_cut() {
    let server = Server::start();
    let begin = Instant::now();
    let answer = raw(&server, b"GET /v2/ HTTP/1.1\r\nHost: b\r\nX-Slow:", Duration::from_secs(20));
    assert!(begin.elapsed() < Duration::from_secs(15), "held for {:?}: {answer}", begin.elapsed());
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
    assert_eq!(range("bytes=0-99999999999999999999999").status, 206);
}

#[test]
fn chunks_out_of_order_are_refused_and_the_upload_lives_on() {
    let server = Server::start();
    let http = server.http();
    let started = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap().to_owned();
    let first = http.patch(
        &location,
        &[("content-range", "0-4"), ("content-type", "application/octet-stream")],
        b"hello",
    );
    assert_eq!((first.status, first.header("range")), (202, Some("0-4")), "{first:?}");
    let location = first.header("location").unwrap().to_owned();
    let gap = http.patch(&location, &[("content-range", "9-13")], b"world");
    assert_eq!(gap.status, 416, "{gap:?}");
    let lie = http.patch(&location, &[("content-range", "5-100")], b"world");
    assert_eq!((lie.status, lie.oci_code().as_str()), (400, "SIZE_INVALID"), "{lie:?}");
    let status = http.get(&location);
    assert_eq!((status.status, status.header("range")), (204, Some("0-4")), "{status:?}");
    let digest = sha256(b"helloworld");
    let separator = if location.contains('?') { '&' } else { '?' };
    let last = http.put(
        &format!("{location}{separator}digest=sha256:{digest}"),
        &[("content-range", "5-9")],
        b"world",
    );
    assert_eq!(last.status, 201, "{last:?}");
    assert_eq!(http.get(&format!("/v2/app/blobs/sha256:{digest}")).body, b"helloworld");
}
