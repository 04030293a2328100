//! Around the requests: ping, challenges, namespaces, bodies that are not read (items 1, 38 to 43, 45, 46).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::Server;

use super::{MANIFEST, image, server, tag};

#[test]
fn the_base_answers_with_and_without_its_slash() {
    let (server, http) = server();
    for path in ["/v2/", "/v2"] {
        let answer = http.get(path);
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{}"[..]));
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(http.head(path).status, 200);
        let challenge = server.anonymous().get(path);
        let realm = challenge.header("www-authenticate").unwrap().to_owned();
        assert_eq!(challenge.status, 401);
        assert!(realm.starts_with("Bearer realm=\"http://") && !realm.contains("scope"), "{realm}");
        assert_eq!(challenge.oci_code(), "UNAUTHORIZED");
    }
}

#[test]
fn tokens_come_in_every_form_that_clients_ask_for() {
    let (server, http) = server();
    http.push_blob("a", b"{}");
    http.push_blob("b/c", b"{}");
    let spaced = http.get("/token?service=x&scope=repository:a:pull%20repository:b/c:pull&account=me");
    let repeated = http.get("/token?scope=repository:a:pull&scope=repository:b/c:pull,push&client_id=me");
    for answer in [spaced, repeated] {
        let body = answer.json();
        assert_eq!((answer.status, &body["token"]), (200, &body["access_token"]));
        assert!(
            body["expires_in"].as_u64().unwrap() >= 60 && body["issued_at"].as_str().unwrap().ends_with('Z')
        );
        let bearer = server.anonymous().bearer(body["token"].as_str().unwrap());
        assert_eq!(
            (bearer.get("/v2/a/tags/list").status, bearer.get("/v2/b/c/tags/list").status),
            (200, 200)
        );
        let narrow = bearer.post("/v2/a/blobs/uploads/", &[], b"");
        assert_eq!(narrow.status, 401);
        let challenge = narrow.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("scope=\"repository:a:pull,push\"")
                && challenge.contains("insufficient_scope"),
            "{challenge}"
        );
    }
    assert_eq!(server.anonymous().get("/token?scope=repository:a:pull").status, 200, "anybody may be nobody");
    assert_eq!(
        server.anonymous().basic("x", "y").get("/token").status,
        401,
        "bad credentials are never nobody"
    );
}

#[test]
fn a_mirror_answers_for_the_namespaces_it_knows() {
    let server = Server::builder()
        .config("registry_names = [\"registry.example\"]\nmirrors = { \"docker.io\" = \"hub\" }")
        .start();
    let http = server.http();
    let mirrored = image(&http, "hub/library/app", b"{}", json!({}));
    tag(&http, "hub/library/app", "1", &mirrored);
    tag(&http, "app", "1", &image(&http, "app", b"{\"own\":1}", json!({})));
    let read = http.get("/v2/library/app/manifests/1?ns=docker.io");
    assert_eq!((read.status, read.header("oci-namespace")), (200, Some("docker.io")), "{read:?}");
    assert_eq!(read.body, mirrored.to_string().as_bytes());
    let own = http.get("/v2/app/manifests/1?ns=registry.example");
    assert_eq!((own.status, own.header("oci-namespace")), (200, Some("registry.example")));
    let unknown = http.get("/v2/app/manifests/1?ns=quay.io");
    assert_eq!((unknown.status, unknown.header("oci-namespace")), (200, None));
    assert_eq!(http.get("/v2/app/manifests/1?ns=docker.io").status, 404, "its own image is not docker.io's");
    let pushed = http.post("/v2/new/blobs/uploads/?ns=docker.io", &[], b"");
    assert!(pushed.header("location").unwrap().starts_with("/v2/new/"), "a mirror is read, not written");
    let challenge = server.anonymous().get("/v2/library/app/manifests/1?ns=docker.io");
    assert!(challenge.header("www-authenticate").unwrap().contains("repository:hub/library/app:pull"));
}

/// Sends a head that waits for `100 Continue`; the first line of the answer, and whether the connection ended.
fn expecting(server: &Server, head: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let host = server.authority();
    stream.write_all(format!("{head}\r\nHost: {host}\r\nExpect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).is_ok();
    (String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned(), ended)
}

#[test]
fn a_refusal_comes_before_the_body_that_waits_for_it() {
    let (server, http) = server();
    let auth = format!("Authorization: {}", http.authorization().unwrap());
    let begun = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").unwrap();
    let large = 60_000u64 << 20;
    for (head, status) in [
        (
            format!("PUT /v2/app/manifests/x HTTP/1.1\r\nContent-Type: {MANIFEST}\r\nContent-Length: 9999"),
            "401",
        ),
        (
            format!(
                "PUT /v2/app/manifests/x HTTP/1.1\r\n{auth}\r\nContent-Type: {MANIFEST}\r\nContent-Length: 9999999"
            ),
            "413",
        ),
        (format!("PATCH {location} HTTP/1.1\r\n{auth}\r\nContent-Length: {large}"), "413"),
        (format!("PATCH {location} HTTP/1.1\r\nContent-Length: {large}"), "401"),
    ] {
        let begin = Instant::now();
        let (line, ended) = expecting(&server, &head);
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {line}");
        assert!(ended && begin.elapsed() < Duration::from_secs(5), "{head}: the connection is closed");
    }
}

#[test]
fn a_connection_goes_on_after_a_refused_body() {
    let (server, http) = server();
    let auth = http.authorization().unwrap();
    let host = server.authority();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = "x".repeat(100_000);
    let refused = format!(
        "PUT /v2/App/manifests/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: {auth}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let last =
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nAuthorization: {auth}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{refused}{refused}{last}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(statuses, ["400", "400", "200"], "{answer}");
}

#[test]
fn errors_are_lists_of_codes() {
    let (_server, http) = server();
    for (path, status, code) in [
        ("/v2/App/tags/list", 400, "NAME_INVALID"),
        ("/v2/app/manifests/-x", 400, "TAG_INVALID"),
        ("/v2/app/manifests/sha256:x", 400, "DIGEST_INVALID"),
        ("/v2/app/nothing", 404, "UNSUPPORTED"),
    ] {
        let answer = http.get(path);
        assert_eq!((answer.status, answer.oci_code().as_str()), (status, code), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.json()["errors"][0]["message"].is_string());
    }
    let long = format!("/v2/{}/tags/list", "a/".repeat(130) + "a");
    assert_eq!(http.get(&long).oci_code(), "NAME_INVALID", "a name has at most 255 characters");
    assert_eq!(http.send("OPTIONS", "/v2/app/tags/list", &[], b"").status, 405);
}
