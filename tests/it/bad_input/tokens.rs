//! Tokens that somebody made up, bent, borrowed or made too long.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use test_support::{Response, Server};

use crate::signed::{ECR, Signer};

const SCOPE: &str = "scope=repository:app:pull,push";
const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

fn bearer(server: &Server, query: &str) -> String {
    let answer = server.http().get(&format!("/token?{query}"));
    answer.json()["token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn ecr_token(server: &Server) -> String {
    let answer = Signer::administrator(server).call(&ECR, "GetAuthorizationToken", "{}").json();
    let token = answer["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
    let token = base64::prelude::BASE64_STANDARD.decode(token).unwrap();
    String::from_utf8(token).unwrap().strip_prefix("AWS:").unwrap().to_owned()
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn with(mut value: Value, name: &str, member: Value) -> String {
    value[name] = member;
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_bent_token_is_no_token() {
    let (server, other) = (Server::start(), Server::start());
    server.http().push_blob("app", b"{}");
    let good = bearer(&server, SCOPE);
    let ecr = ecr_token(&server);
    let use_bearer = |token: &str| server.anonymous().bearer(token).get("/v2/app/tags/list");
    let use_basic = |token: &str| server.anonymous().basic("AWS", token).get("/v2/app/tags/list");
    assert_eq!((use_bearer(&good).status, use_basic(&ecr).status), (200, 200));

    let bodies: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (part(&good, 0), part(&good, 1), bodies[2]);
    let head =
        |name: &str, value: Value| format!("{}.{}.{signature}", with(header.clone(), name, value), bodies[1]);
    let claim =
        |name: &str, value: Value| format!("{}.{}.{signature}", bodies[0], with(claims.clone(), name, value));
    let jwk = json!({"kty": "oct", "k": "AAAA"});
    let mut cases: Vec<(String, String)> = Vec::new();
    for alg in ["none", "None", "HS384", "HS512", "RS256", "ES256", ""] {
        cases.push((format!("alg {alg}"), head("alg", json!(alg))));
    }
    cases.push(("unsigned".into(), format!("{}.{}.", with(header.clone(), "alg", json!("none")), bodies[1])));
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:1/")),
        ("x5c", json!(["AAAA"])),
        ("kid", json!("../../dev/null")),
        ("zip", json!("DEF")),
    ] {
        cases.push((format!("header {name}"), head(name, value)));
    }
    for (name, value) in [
        ("aud", json!(["berth:registry", "berth:ecr"])),
        ("exp", json!(99_999_999_999_i64)),
        ("scope", json!("repository:app:* registry:catalog:*")),
        ("akid", json!("AKIANOBODY000000")),
    ] {
        cases.push((format!("claim {name}"), claim(name, value)));
    }
    let cut = &good[..good.len() - 1];
    cases.extend([
        ("of another server".to_owned(), bearer(&other, SCOPE)),
        ("of another audience".to_owned(), ecr.clone()),
        ("cut short".to_owned(), cut.to_owned()),
        ("with more behind".to_owned(), format!("{good}AA")),
        ("of dots".to_owned(), ".".repeat(10_000)),
        ("of 17 KiB".to_owned(), "a".repeat(17 * 1024)),
        ("that is empty".to_owned(), " ".to_owned()),
        ("encrypted".to_owned(), format!("{good}.AAAA.BBBB")),
    ]);
    for (what, token) in &cases {
        let answer = use_bearer(token);
        assert_eq!(answer.status, 401, "a token {what}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("panic"));
    }
    for (what, token) in [
        ("of the other audience", good.clone()),
        ("of another server", ecr_token(&other)),
        ("of 17 KiB", "a".repeat(17 * 1024)),
    ] {
        assert_eq!(use_basic(&token).status, 401, "a password {what}");
        assert_eq!(server.anonymous().basic("AWS", &token).get("/token").status, 401, "a password {what}");
    }
    assert_eq!(server.anonymous().bearer(&good).get("/token").status, 401, "a token buys no other");
}

#[test]
fn a_scope_is_an_upper_bound_and_matches_whole_names() {
    let server = Server::start();
    let http = server.http();
    for repository in ["app", "app2", "app/x"] {
        http.push_blob(repository, b"{}");
    }
    let status = |scope: &str, method: &str, path: &str| {
        let token = bearer(&server, &format!("scope={scope}"));
        server.anonymous().bearer(&token).send(method, path, &[], b"").status
    };
    let tags = |name: &str| format!("/v2/{name}/tags/list");
    for (scope, method, path, expected) in [
        ("repository:app:pull", "GET", tags("app"), 200),
        ("repository:app:pull", "GET", tags("app2"), 401),
        ("repository:app:pull", "GET", tags("app/x"), 401),
        ("repository:ap:pull", "GET", tags("app"), 401),
        ("repository:app*:pull", "GET", tags("app"), 401),
        ("repository:*:*", "GET", tags("app"), 401),
        ("repository:APP:pull", "GET", tags("app"), 401),
        ("repository:app:push", "GET", tags("app"), 401),
        ("repository:app:pull", "POST", "/v2/app/blobs/uploads/".to_owned(), 401),
        ("repository:app:pull,push", "POST", "/v2/app/blobs/uploads/".to_owned(), 202),
        ("repository:app:pull,push", "DELETE", format!("/v2/app/blobs/{}", super::MISSING), 401),
        ("repository:app:delete", "DELETE", format!("/v2/app/blobs/{}", super::MISSING), 404),
        ("repository:app:delete", "GET", tags("app"), 401),
        ("repository:app:*", "DELETE", format!("/v2/app/blobs/{}", super::MISSING), 404),
        ("repository:app:*", "GET", tags("app"), 200),
        ("repository:app:*", "DELETE", format!("/v2/app2/blobs/{}", super::MISSING), 401),
        ("registry:catalog:*", "GET", tags("app"), 401),
        ("repository:app:pull", "GET", "/v2/_catalog".to_owned(), 401),
        ("registry:catalog:*", "GET", "/v2/_catalog".to_owned(), 200),
        ("", "GET", tags("app"), 401),
    ] {
        assert_eq!(status(scope, method, &path), expected, "{scope} {method} {path}");
    }
}

#[test]
fn endless_scopes_and_forms_are_refused() {
    let server = Server::start();
    let http = server.http();
    let same = vec!["scope=repository:app:pull"; 1500].join("&");
    assert_eq!(http.get(&format!("/token?{same}")).status, 200);
    let different: Vec<String> = (0..1000).map(|n| format!("scope=repository:r{n}:pull")).collect();
    assert_eq!(http.get(&format!("/token?{}", different.join("&"))).status, 400);
    let ask = |more: &str| -> Response {
        let secret = server.secret().replace('+', "%2B");
        let user = server.access_key_id();
        let form = format!("grant_type=password&username={user}&password={secret}{more}");
        server.anonymous().post("/token", &FORM, form.as_bytes())
    };
    assert_eq!(ask("").status, 200);
    assert_eq!(ask(&"&scope=repository:app:pull".repeat(10_000)).status, 400);
    let huge = "scope=repository:app:pull&".repeat(10_000);
    let request = format!("GET /token?{huge} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n");
    let answer = super::raw(&server, request.as_bytes(), std::time::Duration::from_secs(5));
    let refused =
        ["HTTP/1.1 400", "HTTP/1.1 414", "HTTP/1.1 431"].iter().any(|line| answer.starts_with(line));
    assert!(refused || answer.is_empty(), "{}", &answer[..answer.len().min(200)]);
    for form in ["grant_type=none", "grant_type=refresh_token&refresh_token=x", "", "%%%=%zz&&&="] {
        let answer = server.anonymous().post("/token", &FORM, form.as_bytes());
        assert!([400, 401].contains(&answer.status), "{form}: {answer:?}");
    }
}
