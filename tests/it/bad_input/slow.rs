//! Clients that send slowly, or not at all, hold nothing for long.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use test_support::Server;

use crate::signed::{ECR, Signer};

/// How long the server holds a connection on which these bytes came, and no more.
fn held(server: &Server, sent: &str) -> Duration {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    begin.elapsed()
}

#[test]
fn whoever_stops_sending_is_cut_off() {
    let server = Server::start();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let target = format!("{}.DescribeRepositories", ECR.target);
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
    let signed = |signer: &Signer| -> String {
        let headers = signer.headers("ecr", &headers, b"{}");
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    };
    let known = signed(&Signer::administrator(&server));
    let unknown = signed(&Signer::new(server.endpoint(), Some(("AKIANOBODY000000", "x"))));
    let host = server.authority();
    let requests = [
        ("nothing", String::new()),
        ("half a head", format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Slow:")),
        (
            "half a form",
            format!("POST /token HTTP/1.1\r\nHost: {host}\r\n{form}Content-Length: 99\r\n\r\ngrant"),
        ),
        ("half a token", format!("POST /join HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n{{")),
        ("half a body", format!("POST / HTTP/1.1\r\nHost: {host}\r\n{known}Content-Length: 2\r\n\r\n{{")),
        (
            "half of nobody's",
            format!("POST / HTTP/1.1\r\nHost: {host}\r\n{unknown}Content-Length: 2\r\n\r\n{{"),
        ),
    ];
    std::thread::scope(|scope| {
        for (what, request) in &requests {
            let server = &server;
            scope.spawn(move || {
                // Ten seconds for what is asked, five for a refused body's rest, and a slow machine.
                let time = held(server, request);
                assert!(time < Duration::from_secs(25), "{what} was held for {time:?}");
            });
        }
        for _ in 0..20 {
            let begin = Instant::now();
            assert_eq!(server.http().get("/v2/").status, 200);
            assert!(begin.elapsed() < Duration::from_secs(2), "others wait: {:?}", begin.elapsed());
        }
    });
}
