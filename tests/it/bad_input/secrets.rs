//! Whatever is secret stays out of the log, the audit log and the answers, at the most talkative setting.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use test_support::{Server, eventually, run};

use crate::signed::{ECR, Signer};

const WRONG: &str = "a-wrong-secret-that-must-not-be-written-down";
const CANARY: &str = "canary-in-a-body-3f7a";

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin} in {text}"));
    rest.split(end).next().unwrap()
}

#[test]
fn no_secret_is_ever_written_down() {
    let server = Server::builder().env("BERTH_LOG", "trace").start();
    let http = server.http();
    let signer = Signer::administrator(&server);
    let mut secrets = vec![server.secret().to_owned(), WRONG.to_owned(), CANARY.to_owned()];
    http.push_blob("app", CANARY.as_bytes());
    let login = signer.call(&ECR, "GetAuthorizationToken", "{}").json();
    let login = text(&login["authorizationData"][0]["authorizationToken"]);
    let password = String::from_utf8(BASE64_STANDARD.decode(&login).unwrap()).unwrap();
    let password = password.strip_prefix("AWS:").unwrap().to_owned();
    let aws = server.anonymous().basic("AWS", &password);
    let token = http.get("/token?scope=repository:app:pull&offline_token=true&rotation=true").json();
    for secret in [&token["token"], &token["refresh_token"]] {
        secrets.push(text(secret));
    }
    assert_eq!(aws.get("/v2/app/tags/list").status, 200);
    assert_eq!(server.anonymous().bearer(&secrets[3]).get("/v2/app/tags/list").status, 200);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let refresh = format!("grant_type=refresh_token&refresh_token={}", secrets[4]);
    let next = server.anonymous().post("/token", &form, refresh.as_bytes()).json();
    secrets.push(text(&next["refresh_token"]));
    let session = signer.query("sts", "2011-06-15", "GetSessionToken");
    let session = String::from_utf8(session.body).unwrap();
    for field in ["SecretAccessKey", "SessionToken"] {
        secrets.push(between(&session, &format!("<{field}>"), "<").to_owned());
    }
    let joining = run(&mut server.berth(["cluster", "join-token", "default", "--output", "json"]));
    let joining: Value = serde_json::from_str(&joining).unwrap();
    secrets.push(text(&joining["token"]).trim_start_matches("berth-join-").to_owned());

    // And what goes wrong, which is written about the most.
    let anonymous = server.anonymous();
    assert_eq!(anonymous.basic(server.access_key_id(), WRONG).get("/v2/").status, 401);
    assert_eq!(anonymous.basic("AWS", &format!("{password}x")).get("/v2/").status, 401);
    assert_eq!(anonymous.bearer(&format!("{}x", secrets[3])).get("/v2/").status, 401);
    assert_eq!(anonymous.post("/token", &form, refresh.as_bytes()).status, 401, "a spent refresh token");
    let wrong = Signer::new(server.endpoint(), Some((server.access_key_id(), WRONG)));
    assert_eq!(wrong.call(&ECR, "DescribeRepositories", &format!("{{\"{CANARY}\"")).status, 400);
    assert_eq!(signer.call(&ECR, "DescribeRepositories", &format!("{{\"{CANARY}\"")).status, 400);
    anonymous.post("/join", &[], format!("{{\"token\":\"{}\"", secrets[8]).as_bytes());
    secrets.push(password);
    secrets.push(login);
    secrets.push(BASE64_STANDARD.encode(format!("{}:{}", server.access_key_id(), server.secret())));

    // Lines are in order: what was done before is written when this is.
    assert_eq!(server.anonymous().basic("the-last", WRONG).get("/v2/").status, 401);
    let audit = eventually("the audit line of the last request", || {
        let text = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
        text.contains("the-last").then_some(text)
    });
    let log = server.log();
    assert!(log.contains("berth serves"), "{log}");
    for secret in &secrets {
        assert!(secret.len() > 16);
        for (place, written) in [("the log", &log), ("the audit log", &audit)] {
            let at = written.find(secret.as_str());
            assert!(
                at.is_none(),
                "{secret} is in {place}: {}",
                &written[at.unwrap_or(0).saturating_sub(200)..][..300]
            );
        }
    }
}
