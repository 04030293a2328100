//! The token endpoint as clients use it.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Response, StatusCode};
use policies_identity::{AuthenticationError, Caller};
use serde_json::Value;
use tower::ServiceExt;

use super::Tokens;
use crate::http::ecr::tests::fixture::{Fixture, context};

const FORM: &str = "application/x-www-form-urlencoded";

async fn send(fixture: &Fixture, request: http::request::Builder, body: impl Into<Body>) -> Response<Body> {
    let router = Tokens::new(fixture.identity.clone()).router();
    let request: Request = request.extension(context()).body(body.into()).unwrap();
    router.oneshot(request).await.unwrap()
}

async fn get(fixture: &Fixture, query: &str, authorization: Option<&str>) -> (StatusCode, Value) {
    let mut request = http::Request::get(format!("/token?{query}"));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    read(send(fixture, request, Body::empty()).await).await
}

async fn post(fixture: &Fixture, form: &str) -> (StatusCode, Value) {
    let request = http::Request::post("/token").header("content-type", FORM);
    read(send(fixture, request, form.to_owned()).await).await
}

async fn read(response: Response<Body>) -> (StatusCode, Value) {
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn administrator(fixture: &Fixture) -> String {
    let credentials = fixture.administrator();
    basic(&credentials.access_key_id, &credentials.secret_access_key)
}

fn bearer_of(fixture: &Fixture, answer: &Value) -> Result<Caller, AuthenticationError> {
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {}", answer["token"].as_str().unwrap());
    headers.insert("authorization", value.parse().unwrap());
    fixture.identity.authenticate_docker(&headers, &context())
}

#[tokio::test]
async fn an_access_key_gets_a_token_of_the_asked_scope() {
    let fixture = Fixture::new().await;
    let query =
        "service=berth&account=a&scope=repository%3Aa%2Fb%3Apull%2Cpush+repository:c:pull&scope=aws:x:y";
    let (status, answer) = get(&fixture, query, Some(&administrator(&fixture))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!(answer["expires_in"], 300);
    assert_eq!(answer["issued_at"], "2026-11-01T12:00:00Z");
    assert_eq!(answer.get("refresh_token"), None);
    let caller = bearer_of(&fixture, &answer).unwrap();
    assert!(caller.arn().ends_with(":user/administrator"), "{}", caller.arn());
    assert_eq!(caller.scope().unwrap().to_text(), "repository:a/b:pull,push repository:c:pull");
}

#[tokio::test]
async fn an_ecr_token_gets_a_token_and_nobody_gets_an_anonymous_one() {
    let fixture = Fixture::new().await;
    let login = fixture.call("GetAuthorizationToken", serde_json::json!({})).await;
    let encoded = login["authorizationData"][0]["authorizationToken"].as_str().unwrap();
    let (status, answer) = get(&fixture, "", Some(&format!("Basic {encoded}"))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!bearer_of(&fixture, &answer).unwrap().is_anonymous());

    let (status, answer) = get(&fixture, "scope=repository:a:pull", None).await;
    assert_eq!(status, StatusCode::OK);
    let caller = bearer_of(&fixture, &answer).unwrap();
    assert!(caller.is_anonymous());
    assert!(caller.scope().unwrap().allows("repository", "a", "pull"));
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_401_and_alike() {
    let fixture = Fixture::new().await;
    let (_, issued) = get(&fixture, "", Some(&administrator(&fixture))).await;
    let bearer = format!("Bearer {}", issued["token"].as_str().unwrap());
    let known = fixture.administrator().access_key_id.clone();
    let wrong = get(&fixture, "", Some(&basic(&known, "wrong"))).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.1["errors"][0]["code"], "UNAUTHORIZED");
    for authorization in
        [&basic("AKIAUNKNOWNUNKNOWN00", "wrong"), &basic("AWS", "x"), &bearer, "Basic %", "Digest x", "x"]
    {
        assert_eq!(get(&fixture, "", Some(authorization)).await, wrong, "{authorization}");
    }
    let request = http::Request::get("/token").header("authorization", basic("x", "y"));
    let response = send(&fixture, request, Body::empty()).await;
    assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"berth\"");
}

#[tokio::test]
async fn whoever_may_not_log_in_is_denied_a_token() {
    let fixture = Fixture::new().await;
    let agent = fixture.host_agent().await;
    let authorization = basic(&agent.access_key_id, &agent.secret_access_key);
    let (status, answer) = get(&fixture, "", Some(&authorization)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(answer["errors"][0]["code"], "DENIED");
}

#[tokio::test]
async fn the_oauth2_form_takes_passwords_and_refresh_tokens() {
    let fixture = Fixture::new().await;
    let credentials = fixture.administrator();
    let password = credentials.secret_access_key.replace(' ', "+");
    let login = format!(
        "grant_type=password&service=berth&client_id=x&username={}&password={password}&access_type=offline",
        credentials.access_key_id
    );
    let (status, answer) = post(&fixture, &login).await;
    assert_eq!((status, answer.get("refresh_token")), (StatusCode::OK, None), "{answer}");

    let (_, answer) = post(&fixture, &format!("{login}&rotation=true")).await;
    let refresh = |answer: &Value| {
        let token = answer["refresh_token"].as_str().unwrap().to_owned();
        format!("grant_type=refresh_token&scope=repository:a:pull&refresh_token={token}")
    };
    let first = refresh(&answer);
    let (status, answer) = post(&fixture, &first).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!bearer_of(&fixture, &answer).unwrap().is_anonymous());
    let second = refresh(&answer);
    // A second use of the first ends the family.
    assert_eq!(post(&fixture, &first).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(post(&fixture, &second).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn strange_requests_are_refused() {
    let fixture = Fixture::new().await;
    for form in ["", "grant_type=authorization_code", "grant_type=password&username=a:b&password=c"] {
        assert_eq!(post(&fixture, form).await.0, StatusCode::BAD_REQUEST, "{form}");
    }
    let wrong = "grant_type=password&username=a&password=b";
    assert_eq!(post(&fixture, wrong).await.0, StatusCode::UNAUTHORIZED);
    let long = format!("{wrong}&scope={}", "x".repeat(100_000));
    assert_eq!(post(&fixture, &long).await.0, StatusCode::BAD_REQUEST);
    let json = http::Request::post("/token").header("content-type", "application/json");
    assert_eq!(read(send(&fixture, json, "{}").await).await.0, StatusCode::BAD_REQUEST);
    for method in [Method::PUT, Method::HEAD] {
        let answer = send(&fixture, http::Request::builder().method(method).uri("/token"), "").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "GET, POST");
    }
    let many: Vec<String> = (0..65).map(|n| format!("scope=repository:r{n}:pull")).collect();
    assert_eq!(get(&fixture, &many.join("&"), None).await.0, StatusCode::BAD_REQUEST);
}
