//! Names, tags and digests, as they stand in paths.

use test_support::Server;

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
        ("/v2/app/blobs/uploads/..%2f..%2f..%2fetc%2fpasswd", &[400, 404]),
        ("/v2/app/manifests/..%2f..%2fx", &[400, 404]),
        ("/v2/app/manifests/%ff", &[400]),
        ("/v2/app/manifests/a%20b", &[400]),
        ("/v2//etc/tags/list", &[400, 404]),
        ("/v2/app/tags/list/", &[400, 404]),
        ("//v2/app/tags/list", &[400, 404]),
    ] {
        let answer = http.get(path);
        assert!(expected.contains(&answer.status), "{path}: {answer:?}");
    }
    assert_eq!(http.get(&long).oci_code(), "NAME_INVALID");
    assert_eq!(http.get("/v2/app/blobs/sha256:baddigeststring").oci_code(), "DIGEST_INVALID");
}

#[test]
fn what_another_server_would_redirect_is_refused() {
    let server = Server::start();
    let http = server.http();
    http.push_blob("app", b"{}");
    for path in
        ["/v2/app/../app/tags/list", "/v2/./app/tags/list", "/v2/app//tags/list", "/v2/app/tags//list"]
    {
        let answer = super::raw(
            &server,
            format!(
                "GET {path} HTTP/1.1\r\nHost: b\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
                super::authorization(&server)
            )
            .as_bytes(),
            std::time::Duration::from_secs(5),
        );
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(["400", "404"].contains(&status.as_str()), "{path}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("\nlocation:"), "{path}: {answer}");
    }
}
