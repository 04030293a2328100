//! What strangers and greedy clients can make the server hold.

use test_support::Server;

use crate::signed::{ECR, Signer};

/// By how much the server's memory grew at its highest while `attack` ran, in KiB.
fn growth(server: &mut Server, attack: impl Fn(&Server)) -> u64 {
    // Once, so that what is made at first use does not count.
    attack(server);
    let before = server.process().memory_kib().0;
    server.process().forget_highest_memory();
    attack(server);
    server.process().memory_kib().1.saturating_sub(before)
}

#[test]
fn numbers_in_a_request_reserve_no_memory() {
    let mut server = Server::start();
    server.http().push_blob("app", b"{}");
    let deep = "[".repeat(100_000);
    let grown = growth(&mut server, |server| {
        let http = server.http();
        for path in ["/v2/_catalog?n=1000000000", "/v2/app/tags/list?n=1000000000000000000"] {
            assert_eq!(http.get(path).status, 200);
        }
        let types = [("content-type", super::OCI_MANIFEST)];
        assert_eq!(http.put("/v2/app/manifests/x", &types, deep.as_bytes()).status, 400);
        let signer = Signer::administrator(server);
        for number in ["1000", "1000000000", "-1", "1e300", "99999999999999999999"] {
            let answer = signer.call(&ECR, "DescribeRepositories", &format!(r#"{{"maxResults":{number}}}"#));
            assert!(answer.status < 500, "{number}: {answer:?}");
        }
    });
    assert!(grown < 4096, "grew by {grown} KiB");
}

#[test]
fn a_page_of_a_thousand_million_takes_no_room() {
    let mut server = Server::start();
    server.http().push_blob("app", b"{}");
    let pages = |server: &Server| {
        let http = server.http();
        for _ in 0..20 {
            for list in ["/v2/_catalog", "/v2/app/tags/list"] {
                assert_eq!(http.get(&format!("{list}?n=1000000000")).status, 200);
            }
        }
    };
    // What else the server does meanwhile takes some now and then.
    let grown = (0..5).map(|_| growth(&mut server, pages)).min().unwrap();
    assert!(grown < 1024, "grew by {grown} KiB");
}

#[test]
fn bodies_of_strangers_are_not_kept() {
    let mut server = Server::start();
    let body = format!("\"{}\"", "x".repeat(12 << 20));
    let grown = growth(&mut server, |server| {
        std::thread::scope(|scope| {
            for key in [None, Some(("AKIANOBODY000000", "x"))] {
                for _ in 0..4 {
                    let (body, signer) = (&body, Signer::new(server.endpoint(), key));
                    scope.spawn(move || {
                        let answer = signer.try_call(&ECR, "DescribeRepositories", body);
                        // Whoever does not read while it sends may see only that the connection ended.
                        assert!(answer.is_none_or(|answer| answer.status == 400));
                    });
                }
            }
        });
    });
    assert!(grown < 12 * 1024, "grew by {grown} KiB");
}
