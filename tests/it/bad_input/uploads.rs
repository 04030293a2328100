//! Upload sessions: out of order, twice at once, of somebody else.

use std::io::{Read, Write};
use std::net::TcpStream;

use test_support::{Http, Server, eventually, sha256};

use super::authorization;

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
    let overlap = http.patch(&location, &[("content-range", "3-7")], b"world");
    assert_eq!(overlap.status, 416, "{overlap:?}");
    for nonsense in ["5-", "-5", "9-5", "a-b", "bytes 5-9/10", "5-18446744073709551615"] {
        let answer = http.patch(&location, &[("content-range", nonsense)], b"world");
        assert!([400, 416].contains(&answer.status), "{nonsense}: {answer:?}");
    }
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

/// A session of `app`, and a connection that holds it with 5 of the 11 bytes of a PATCH sent.
fn half_sent(server: &Server, http: &Http) -> (String, TcpStream) {
    let started = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap().to_owned();
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: b\r\nAuthorization: {}\r\nContent-Length: 11\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        authorization(server)
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The body is asked for once the session is held.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    (location, stream)
}

#[test]
fn what_died_with_the_server_while_it_was_sent_goes_on_at_once() {
    let mut server = Server::start();
    let (location, _cut) = half_sent(&server, &server.http());
    server.kill();
    server.start_again();
    let digest = sha256(b"hello world");
    let finished = server.http().put(&format!("{location}?digest=sha256:{digest}"), &[], b"hello world");
    assert_eq!(finished.status, 201, "{finished:?}");
}

#[test]
fn of_two_writers_of_one_session_the_second_is_turned_away() {
    let server = Server::start();
    let http = server.http();
    let (location, mut first) = half_sent(&server, &http);
    let digest = sha256(b"hello world");
    for (method, path) in [
        ("PATCH", location.clone()),
        ("PUT", format!("{location}?digest=sha256:{digest}")),
        ("DELETE", location.clone()),
    ] {
        let answer = http.send(method, &path, &[], if method == "DELETE" { b"" } else { b"other" });
        assert_eq!((answer.status, answer.oci_code().as_str()), (409, "BLOB_UPLOAD_INVALID"), "{method}");
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    first.write_all(b" world").unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let finished = http.put(&format!("{location}?digest=sha256:{digest}"), &[], b"");
    assert_eq!(finished.status, 201, "{finished:?}");
    assert_eq!(http.get(&format!("/v2/app/blobs/sha256:{digest}")).body, b"hello world");
}

#[test]
fn a_writer_that_hangs_up_gives_the_session_back() {
    let server = Server::start();
    let http = server.http();
    let (location, first) = half_sent(&server, &http);
    drop(first);
    let digest = sha256(b"whole");
    eventually("the session is free and empty again", || {
        let answer = http.put(&format!("{location}?digest=sha256:{digest}"), &[], b"whole");
        (answer.status == 201).then_some(())
    });
}

#[test]
fn pushes_and_deletes_of_one_blob_never_end_in_between() {
    let server = Server::start();
    let digest = server.http().push_blob("app", b"contended");
    let path = format!("/v2/app/blobs/{digest}");
    std::thread::scope(|scope| {
        for deletes in [false, true, false, true] {
            let (http, path) = (server.http(), &path);
            scope.spawn(move || {
                for _ in 0..25 {
                    if deletes {
                        assert!([202, 404].contains(&http.delete(path).status));
                    } else {
                        http.push_blob("app", b"contended");
                    }
                    let read = http.get(path);
                    assert!(read.status == 404 || read.body == b"contended", "{read:?}");
                }
            });
        }
    });
    server.http().push_blob("app", b"contended");
    assert_eq!(server.http().get(&path).body, b"contended");
}

#[test]
fn compressed_bodies_are_refused_and_never_inflated() {
    let server = Server::start();
    let http = server.http();
    // gzip of nothing.
    let gzip = [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let started = http.post("/v2/app/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap();
    let coded = [("content-encoding", "gzip")];
    assert_eq!(http.patch(location, &coded, &gzip).status, 415);
    let whole = format!("/v2/app/blobs/uploads/?digest=sha256:{}", sha256(&gzip));
    assert_eq!(http.post(&whole, &coded, &gzip).status, 415);
    let manifest = [("content-encoding", "gzip"), ("content-type", super::OCI_MANIFEST)];
    assert!([400, 415].contains(&http.put("/v2/app/manifests/1", &manifest, &gzip).status));
    // A layer that is compressed is content like any other.
    let digest = http.push_blob("app", &gzip);
    let back =
        http.send("GET", &format!("/v2/app/blobs/{digest}"), &[("accept-encoding", "gzip, zstd")], b"");
    assert_eq!((back.body.as_slice(), back.header("content-encoding")), (&gzip[..], None));
}
