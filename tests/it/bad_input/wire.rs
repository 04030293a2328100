//! HTTP itself: lengths that disagree, heads without end, both versions, headers that claim.

use std::process::Command;
use std::time::{Duration, Instant};

use test_support::{Server, run};

use super::{authorization, raw};

#[test]
fn requests_that_could_be_smuggled_are_refused() {
    let server = Server::start();
    let auth = authorization(&server);
    for (name, head) in [
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("one length twice", "Content-Length: 3\r\nContent-Length: 3\r\n"),
        ("length, then chunked", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, then length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("another coding", "Transfer-Encoding: gzip, chunked\r\n"),
        ("a length that is no number", "Content-Length: +3\r\n"),
        ("a list of lengths", "Content-Length: 3, 3\r\n"),
    ] {
        let head =
            format!("PUT /v2/app/manifests/x HTTP/1.1\r\nHost: b\r\nAuthorization: {auth}\r\n{head}\r\n");
        let smuggled = "GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n";
        // Alone, and behind a request that keeps the connection.
        for before in ["", "GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n"] {
            let begin = Instant::now();
            let request = format!("{before}{head}0\r\n\r\n{smuggled}");
            let answer = raw(&server, request.as_bytes(), Duration::from_secs(8));
            let answers: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).collect();
            assert_eq!(answers.len(), 1 + usize::from(!before.is_empty()), "{name}: {answer}");
            assert!(answers.last().unwrap().starts_with("400"), "{name}: {answer}");
            assert!(begin.elapsed() < Duration::from_secs(5), "{name}: the connection is closed");
        }
    }
}

#[test]
fn heads_without_end_are_refused() {
    let server = Server::start();
    let wait = Duration::from_secs(2);
    let many: String = (0..10_000).map(|n| format!("X-{n}: a\r\n")).collect();
    for (what, headers) in [
        ("one of a mebibyte", format!("X-Large: {}\r\n", "a".repeat(1 << 20))),
        ("ten thousand", many),
        ("just too many", (0..200).map(|n| format!("X-{n}: a\r\n")).collect()),
        ("just too long", format!("X-Large: {}\r\n", "a".repeat(70_000))),
    ] {
        let answer = raw(&server, format!("GET /v2/ HTTP/1.1\r\nHost: b\r\n{headers}\r\n").as_bytes(), wait);
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{what}: {answer}");
        assert!(what.starts_with("one") || what.starts_with("ten") || !answer.is_empty(), "{what}");
    }
    let path = "a".repeat(1 << 20);
    let answer = raw(&server, format!("GET /v2/{path} HTTP/1.1\r\nHost: b\r\n\r\n").as_bytes(), wait);
    let refused = ["HTTP/1.1 414", "HTTP/1.1 431", "HTTP/1.1 400"].iter().any(|s| answer.starts_with(s));
    assert!(refused || answer.is_empty(), "{}", &answer[..answer.len().min(200)]);
    assert_eq!(server.http().get("/v2/").status, 200);
}

#[test]
fn both_versions_of_http_answer_alike() {
    let server = Server::start();
    let digest = server.http().push_blob("app", b"content");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let user = format!("{}:{}", server.access_key_id(), server.secret());
        let curl = |path: &str, more: &[&str]| {
            let url = format!("{}{path}", server.endpoint());
            let mut command = Command::new("curl");
            command.args(["-s", version, "-w", " %{http_code} %{http_version}"]).args(more);
            run(command.arg(url))
        };
        let number = if version == "--http1.1" { "1.1" } else { "2" };
        let blob = curl(&format!("/v2/app/blobs/{digest}"), &["-u", &user]);
        assert_eq!(blob.trim(), format!("content 200 {number}"));
        let nobody = curl("/v2/app/tags/list", &[]);
        assert!(nobody.trim().ends_with(&format!(" 401 {number}")), "{nobody}");
    }
}

#[test]
fn hosts_and_forwarded_headers_are_claims() {
    let server = Server::start();
    let claims = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "198.51.100.1"),
        ("forwarded", "for=198.51.100.1;host=evil.example;proto=https"),
        ("x-original-url", "/healthz"),
    ];
    let challenge = server.anonymous().send("GET", "/v2/", &claims, b"");
    let realm = challenge.header("www-authenticate").unwrap();
    assert!(realm.starts_with(&format!("Bearer realm=\"{}/token\"", server.endpoint())), "{realm}");
    let started = server.http().send("POST", "/v2/app/blobs/uploads/", &claims, b"");
    assert!(started.header("location").unwrap().starts_with("/v2/app/"), "{started:?}");
    for hosts in ["Host: a\r\nHost: b\r\n", "Host: a\"b\r\n", "Host: a/b\r\n", "Host: \r\n", ""] {
        let request = format!("GET /v2/ HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = raw(&server, request.as_bytes(), Duration::from_secs(5));
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts:?}: {answer}");
    }
    for name in ["x-berth-session", "X-Berth-Peer"] {
        assert_eq!(server.http().send("GET", "/v2/", &[(name, "x")], b"").status, 400);
    }
}

#[test]
fn chunks_that_two_parsers_read_differently_are_refused() {
    let server = Server::start();
    let auth = authorization(&server);
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n";
    for (what, coding, body) in [
        ("an unknown coding", "xchunked", "0\r\n\r\n"),
        ("a coding before", "chunked, identity", "0\r\n\r\n"),
        ("a coding twice", "chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
        ("a size that is no number", "chunked", "zz\r\nabc\r\n0\r\n\r\n"),
        ("a size beyond all bounds", "chunked", "fffffffffffffffff\r\nabc"),
        ("a negative size", "chunked", "-1\r\nabc\r\n0\r\n\r\n"),
        ("a bare line feed", "chunked", "3\nabc\n0\n\n"),
        ("an endless extension", "chunked", &format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(100_000))),
    ] {
        let head = format!(
            "PUT /v2/app/manifests/x HTTP/1.1\r\nHost: b\r\nAuthorization: {auth}\r\nContent-Type: {}\r\nTransfer-Encoding: {coding}\r\n\r\n",
            super::OCI_MANIFEST
        );
        let begin = Instant::now();
        let answer = raw(&server, format!("{head}{body}{smuggled}").as_bytes(), Duration::from_secs(8));
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{what}: the connection is closed");
    }
    assert_eq!(server.http().get("/v2/app/manifests/x").status, 404);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn floods_of_http2_hurt_nobody_else() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const CONTINUATION: u8 = 9;
    let mut server = Server::start();
    // GET / of host `b`, by the static table.
    let get = [0x82, 0x86, 0x84, 0x41, 1, b'b'];
    let streams = || (0..20_000u32).map(|n| 2 * n + 1);
    let floods: [(&str, Vec<u8>); 5] = [
        (
            "resets",
            streams()
                .flat_map(|id| [frame(HEADERS, 5, id, &get), frame(RESET, 0, id, &[0; 4])].concat())
                .collect(),
        ),
        ("pings", (0..50_000).flat_map(|_| frame(PING, 0, 0, &[0; 8])).collect()),
        ("settings", (0..50_000).flat_map(|_| frame(SETTINGS, 0, 0, &[])).collect()),
        (
            "continuations",
            frame(HEADERS, 1, 1, &get)
                .into_iter()
                .chain((0..20_000).flat_map(|_| frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'a'])))
                .collect(),
        ),
        (
            "empty data",
            frame(HEADERS, 4, 1, &[0x83, 0x86, 0x84, 0x41, 1, b'b'])
                .into_iter()
                .chain((0..50_000).flat_map(|_| frame(DATA, 0, 1, &[])))
                .collect(),
        ),
    ];
    let before = server.process().memory_kib().0;
    for (what, flood) in floods {
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        request.extend(frame(SETTINGS, 0, 0, &[]));
        request.extend(flood);
        std::thread::scope(|scope| {
            let server = &server;
            scope.spawn(move || raw(server, &request, Duration::from_secs(1)));
            for _ in 0..5 {
                assert_eq!(server.http().get("/v2/").status, 200, "while {what} come");
            }
        });
    }
    let grown = server.process().memory_kib().0.saturating_sub(before);
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
}
