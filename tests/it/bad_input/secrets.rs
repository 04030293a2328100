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

/// As a value of a form or a query.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
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

    // Of IAM and STS, and what they are used with.
    let made = signer.query("iam", "2010-05-08", "CreateAccessKey&UserName=administrator");
    secrets.push(between(&String::from_utf8(made.body).unwrap(), "<SecretAccessKey>", "<").to_owned());
    let trust = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"000000000000"}}}"#;
    let role = format!("CreateRole&RoleName=deployer&AssumeRolePolicyDocument={}", escaped(trust));
    assert_eq!(signer.query("iam", "2010-05-08", &role).status, 200);
    let role = "RoleArn=arn:aws:iam::000000000000:role/deployer&RoleSessionName=ci";
    let assumed = signer.query("sts", "2011-06-15", &format!("AssumeRole&{role}"));
    let assumed = String::from_utf8(assumed.body).unwrap();
    let [id, secret, session] = ["AccessKeyId", "SecretAccessKey", "SessionToken"]
        .map(|field| between(&assumed, &format!("<{field}>"), "<").to_owned());
    let assumed = Signer::session(server.endpoint(), (&id, &secret), &session);
    assert_eq!(assumed.query("sts", "2011-06-15", "GetCallerIdentity").status, 200);
    assert_eq!(assumed.call(&ECR, "DescribeRepositories", "{}").json()["__type"], "AccessDeniedException");
    let headers = signer.headers("ecr", &[("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.X")], b"{}");
    let (_, authorization) = headers.iter().find(|(name, _)| name == "authorization").unwrap();
    secrets.push(between(authorization, "Signature=", ",").to_owned());
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(server.anonymous().post("/", &headers, b"{}").status, 400, "no such operation");
    let issued = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJodHRwczovL25vYm9keS5leGFtcGxlIn0.c2lnbmVk";
    let claimed =
        format!("Version=2011-06-15&Action=AssumeRoleWithWebIdentity&{role}&WebIdentityToken={issued}");
    let urlencoded = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(server.anonymous().post("/", &urlencoded, claimed.as_bytes()).status, 400);
    let signature = "5ec2e7".repeat(11)[..64].to_owned();
    let presigned = format!(
        "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z\
         &X-Amz-Credential={id}%2F20260101%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Expires=60\
         &X-Amz-SignedHeaders=host&X-Amz-Security-Token={}&X-Amz-Signature={signature}",
        escaped(&session)
    );
    assert_eq!(server.anonymous().get(&presigned).status, 403);
    secrets.extend([secret, escaped(&session), session, issued.to_owned(), signature]);

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
