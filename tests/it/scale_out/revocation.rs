//! What is taken away on one server counts on all of them within a second.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{Http, eventually_within};

use super::installation::{Installation, admin};
use crate::policy_files::{Files, SECRET};

/// The row that tells is read every 250 ms, and an answer older than a second counts for nothing; the rest is for a
/// busy machine.
const WITHIN: Duration = Duration::from_secs(2);
const USER: &str = "BERTHUSER00000001";

#[test]
fn what_is_revoked_on_one_server_counts_for_nothing_on_another() {
    let installation = Installation::new();
    let policies = tempfile::tempdir().unwrap();
    let directory = policies.path().join("set");
    let files = Files::new(&directory);
    let publisher = installation.builder().config(&format!("policy_dir = {directory:?}")).start();
    let other = installation.builder().start();
    admin(&publisher).push_blob("app", b"content");
    let allow = json!([{"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}]);
    files.user("alice", USER, &allow);

    let user = other.anonymous().basic(USER, SECRET);
    let token = eventually_within(WITHIN * 2, "the user is known on the other server", || {
        let token = user.get("/token?service=berth&scope=repository:app:pull");
        (token.status == 200).then(|| token.json()["token"].as_str().unwrap().to_owned())
    });
    let bearer = other.anonymous().bearer(&token);
    let digest = format!("/v2/app/blobs/sha256:{}", test_support::sha256(b"content"));
    assert_eq!((user.get(&digest).status, bearer.get(&digest).status), (200, 200));

    let deny = json!([{"Effect": "Deny", "Action": "ecr:*", "Resource": "*"}]);
    files.user("alice", USER, &deny);
    let changed = Instant::now();
    // A change that comes into effect in the midst of an answer breaks it off.
    let refused =
        |http: &Http| http.try_get(&digest).is_some_and(|answer| answer.status == 403).then_some(());
    eventually_within(WITHIN * 2, "the other server refuses the user", || refused(&user));
    eventually_within(WITHIN, "and the token it gave out before", || refused(&bearer));
    println!("refused {} ms after the file changed", changed.elapsed().as_millis());
}

#[test]
fn a_server_that_cannot_ask_decides_nothing_and_recovers() {
    let mut postgres = test_support::Postgres::start(&[]);
    let installation = Installation::on(&postgres);
    let server = installation.builder().start();
    let http = admin(&server);
    http.push_blob("app", b"content");
    let digest = format!("/v2/app/blobs/sha256:{}", test_support::sha256(b"content"));
    assert_eq!(http.get(&digest).status, 200);
    postgres.stop();
    eventually_within(Duration::from_secs(5), "nothing is decided by what may be outdated", || {
        (http.get(&digest).status == 503).then_some(())
    });
    assert_eq!(server.anonymous().get("/readyz").status, 503);
    assert_eq!(server.anonymous().get("/healthz").status, 200, "it lives, and waits");
    postgres.start_again();
    eventually_within(Duration::from_secs(20), "the server serves again", || {
        (http.get(&digest).status == 200).then_some(())
    });
    assert_eq!(http.push_blob("app", b"more"), format!("sha256:{}", test_support::sha256(b"more")));
}
