//! How much one client may ask for and hold: rates by address and by principal, idle and slow connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use test_support::{Http, Response, Server};

use crate::signed::{ECR, Signer};

/// A server behind a proxy on this machine, with these settings.
fn behind_proxy(settings: &str) -> Server {
    Server::builder().config("trusted_proxies = [\"127.0.0.1\"]").config(settings).start()
}

fn from(http: &Http, client: &str, path: &str) -> Response {
    http.send("GET", path, &[("x-forwarded-for", client), ("x-forwarded-proto", "https")], b"")
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let server = behind_proxy("requests_per_address = 1\nrequests_per_principal = 0");
    let (http, first, other) = (server.http(), "198.51.100.1", "198.51.100.2");
    let refused =
        (0..200).find_map(|_| Some(from(&http, first, "/v2/")).filter(|answer| answer.status != 200));
    let refused = refused.expect("200 requests at once are too many");
    assert_eq!((refused.status, refused.oci_code().as_str()), (429, "TOOMANYREQUESTS"), "{refused:?}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(from(&http, first, "/token").status, 429, "at every door");
    let signed = Signer::new(server.endpoint(), Some((server.access_key_id(), server.secret())));
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "Amazon.X")];
    let mut headers = headers.to_vec();
    headers.push(("x-forwarded-for", first));
    let answer = http.send("POST", "/", &headers, b"{}");
    assert_eq!(
        (answer.status, answer.json()["__type"].as_str()),
        (400, Some("ThrottlingException")),
        "{answer:?}"
    );
    assert_eq!(from(&http, other, "/v2/").status, 200, "others are served");
    assert_eq!(signed.call(&ECR, "DescribeRepositories", "{}").status, 200, "and so is this machine");
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(from(&http, first, "/v2/").status, 200, "after the wait it is served again");
}

#[test]
fn a_principal_that_asks_too_often_is_refused_wherever_it_comes_from() {
    let server = behind_proxy("requests_per_address = 0\nrequests_per_principal = 5");
    let http = server.http();
    let refused = (0..200u8).find_map(|n| {
        let answer = from(&http, &format!("198.51.100.{n}"), "/v2/");
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.expect("200 requests at once are too many");
    assert_eq!((refused.status, refused.oci_code().as_str()), (429, "TOOMANYREQUESTS"), "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        from(&server.anonymous(), "198.51.100.9", "/v2/").status,
        401,
        "nobody is not counted with it"
    );
}

/// Connections that say nothing, and heads that come a byte a second; everybody is cut off within 15 s while
/// pulls go on, and memory stays where it was.
fn crowd(idle: usize, slow: usize) {
    let mut server = Server::start();
    let http = server.http();
    let path = format!("/v2/app/blobs/{}", http.push_blob("app", &[7; 100_000]));
    let pull = || {
        let begin = Instant::now();
        assert_eq!(http.get(&path).body.len(), 100_000);
        begin.elapsed()
    };
    let slowest = |count: usize| {
        let mut times: Vec<Duration> = (0..count).map(|_| pull()).collect();
        times.sort();
        times[count * 99 / 100]
    };
    let alone = slowest(200);
    let memory = server.process().memory_kib().0;
    let connect = || TcpStream::connect(server.authority()).unwrap();
    let mut crowd: Vec<TcpStream> = (0..idle).map(|_| connect()).collect();
    let mut dripping: Vec<TcpStream> = (0..slow).map(|_| connect()).collect();
    for stream in &mut dripping {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ").unwrap();
    }
    let (begin, mut beside) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(8) {
        dripping.iter_mut().for_each(|stream| drop(stream.write_all(b"a")));
        beside.push(slowest(50));
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("p99 of a pull: alone {alone:?}, beside {:?}", beside.iter().max());
    crowd.append(&mut dripping);
    let deadline = begin + Duration::from_secs(15);
    for stream in &mut crowd {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(ended.is_ok() || ended.as_ref().is_err_and(reset), "held for {:?}", begin.elapsed());
    }
    let grown = server.process().memory_kib().1.saturating_sub(memory);
    // What a connection takes, and no more.
    let allowed = 16 * 1024 + (idle + slow) as u64 * 24;
    println!("memory grew by {grown} KiB");
    assert!(grown < allowed, "grew by {grown} KiB, {allowed} are allowed");
    pull();
}

#[test]
fn idle_and_slow_clients_are_cut_off_and_hinder_nobody() {
    crowd(300, 50);
}

#[test]
#[ignore = "long: ten thousand idle connections and three hundred slow ones"]
fn ten_thousand_idle_clients_are_cut_off_and_hinder_nobody() {
    crowd(10_000, 300);
}
