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
fn letters_that_mean_something_elsewhere_are_no_part_of_a_name_or_tag() {
    let server = Server::start();
    let http = server.http();
    http.push_blob("app", b"{}");
    for letter in [
        "%00",               // ends a string of C
        "%0a",               // ends a header
        "%0d%0aLocation%20", // and adds one
        "%2f",               // a slash, if it were decoded too late
        "%5c",               // the other slash
        "%c0%ae",            // a dot, in more bytes than it takes
        "%c0%af",            // a slash, in more bytes than it takes
        "%e0%80%af",         // in still more
        "%ed%a0%80",         // half of a pair
        "%ff",               // no letter
        "%c2%ad",            // one that is not seen
        "%e2%80%ae",         // turns what is behind it around
        "%ef%bc%8e",         // looks like a dot
        "%d0%b0",            // looks like an a
        "%20",
        "%7f",
    ] {
        for (path, code) in [
            (format!("/v2/app/manifests/v{letter}1"), "TAG_INVALID"),
            (format!("/v2/ap{letter}p/tags/list"), "NAME_INVALID"),
        ] {
            let answer = http.get(&path);
            // What is no text at all is refused before it is known what it was to be.
            assert!([code, "NAME_INVALID"].contains(&answer.oci_code().as_str()), "{path}: {answer:?}");
            assert_eq!((answer.status, answer.header("location")), (400, None), "{path}: {answer:?}");
        }
    }
    let name = |length: usize| format!("/v2/{}/tags/list", "a".repeat(length));
    assert_eq!(http.get(&name(255)).oci_code(), "NAME_UNKNOWN", "as long as a name may be");
    let longer = http.get(&name(256));
    assert_eq!((longer.status, longer.oci_code().as_str()), (400, "NAME_INVALID"));
    let tag = |length: usize| format!("/v2/app/manifests/{}", "x".repeat(length));
    assert_eq!(http.get(&tag(128)).oci_code(), "MANIFEST_UNKNOWN", "as long as a tag may be");
    for tag in [tag(129), "/v2/app/manifests/-x".to_owned(), "/v2/app/manifests/.x".to_owned()] {
        let answer = http.get(&tag);
        assert_eq!((answer.status, answer.oci_code().as_str()), (400, "TAG_INVALID"), "{tag}");
    }
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
