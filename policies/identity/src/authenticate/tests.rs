//! Good credentials are accepted, all others are refused, and a refusal tells nothing.

use std::time::Duration;

use registry_aws::{Credentials, sigv4};

use crate::AuthenticationError;
use crate::testing::{
    ALLOW_ALL, Fixture, basic, bearer, policy, repository, session_signing, signing, trust, unsigned,
};
use crate::{AssumeRole, CallerKind, Scope, TemporaryCredentials};

async fn session(fixture: &Fixture) -> TemporaryCredentials {
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    let role_arn = fixture.role("deployer", &trusted, ALLOW_ALL).await;
    let request = AssumeRole::new(role_arn, "ci");
    let caller = fixture.caller(&fixture.administrator).await;
    fixture.identity.assume_role(&fixture.ctx(), &caller, &request).await.unwrap()
}

#[tokio::test]
async fn a_signature_says_who_signed() {
    let fixture = Fixture::new().await;
    let caller = fixture.caller(&fixture.administrator).await;
    assert_eq!(caller.arn(), "arn:aws:iam::000000000000:user/administrator");
    assert_eq!(caller.kind(), CallerKind::User);
    assert_eq!(caller.access_key_id(), Some(fixture.administrator.access_key_id.as_str()));
    assert!(caller.user_id().starts_with("AIDA"));
}

#[tokio::test]
async fn an_unknown_key_and_a_wrong_secret_are_told_alike() {
    let fixture = Fixture::new().await;
    let mut answers = Vec::new();
    for credentials in [
        Credentials::new("AKIAUNKNOWNUNKNOWN12", "x".repeat(40)),
        Credentials::new("AKIAUNKNOWNUNKNOWN12", super::DUMMY_SECRET),
        Credentials::new(&fixture.administrator.access_key_id, "x".repeat(40)),
    ] {
        answers.push(fixture.authenticate(&credentials).await.unwrap_err().to_aws());
        let headers = basic(&credentials.access_key_id, &credentials.secret_access_key);
        let error = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap_err();
        assert!(matches!(error, AuthenticationError::Mismatch));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].code, "InvalidSignatureException");
}

#[tokio::test]
async fn a_signature_holds_for_its_body_service_region_and_time() {
    let fixture = Fixture::new().await;
    let key = signing(&fixture.administrator);
    let ctx = fixture.ctx();
    let good = fixture.signed(&key, "ecs", b"{}");
    let identity = &fixture.identity;
    assert!(identity.authenticate_aws(&good, b"{}", &["ecs"], &ctx).await.is_ok());
    assert!(identity.authenticate_aws(&good, b"{ }", &["ecs"], &ctx).await.is_err());
    assert!(identity.authenticate_aws(&good, b"{}", &["ecr"], &ctx).await.is_err());
    for skew_ms in [-301_000, 301_000] {
        let mut other = fixture.ctx();
        other.now_ms += skew_ms;
        assert!(identity.authenticate_aws(&good, b"{}", &["ecs"], &other).await.is_err(), "{skew_ms}");
    }
    let mut elsewhere = unsigned(&[]);
    sigv4::sign(&mut elsewhere, &key, "eu-west-1", "ecs", b"{}", ctx.now_ms);
    assert!(identity.authenticate_aws(&elsewhere, b"{}", &["ecs"], &ctx).await.is_err());
    let missing = identity.authenticate_aws(&unsigned(&[]), b"{}", &["ecs"], &ctx).await;
    assert!(matches!(missing, Err(AuthenticationError::Missing)));
}

#[tokio::test]
async fn a_session_needs_its_token_its_key_and_its_secret() {
    let fixture = Fixture::new().await;
    let good = session_signing(&session(&fixture).await);
    let caller = fixture.authenticate(&good).await.unwrap();
    assert_eq!(caller.arn(), "arn:aws:sts::000000000000:assumed-role/deployer/ci");
    assert_eq!(caller.principal_arn(), "arn:aws:iam::000000000000:role/deployer");
    assert!(caller.user_id().starts_with("AROA") && caller.user_id().ends_with(":ci"));

    let token = good.session_token.clone().unwrap();
    let with = |change: &dyn Fn(&mut Credentials)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let other = session_signing(&session_of(&fixture).await);
    for (what, credentials) in [
        ("no token", with(&|c| c.session_token = None)),
        ("another secret", with(&|c| c.secret_access_key = "x".repeat(40))),
        ("another key", with(&|c| c.access_key_id.replace_range(4..5, "0"))),
        ("an empty token", with(&|c| c.session_token = Some(String::new()))),
        ("a cut token", with(&|c| c.session_token = Some(token[..token.len() - 1].to_owned()))),
        ("an endless token", with(&|c| c.session_token = Some("A".repeat(17 * 1024)))),
        ("the token of another session", with(&|c| c.session_token.clone_from(&other.session_token))),
        ("a token beside a long-lived key", {
            let mut credentials = signing(&fixture.administrator);
            credentials.session_token = Some(token.clone());
            credentials
        }),
    ] {
        assert!(fixture.authenticate(&credentials).await.is_err(), "{what}");
    }
    for at in (0..token.len()).step_by(7) {
        let changed: String = token
            .char_indices()
            .map(|(index, letter)| if index == at { if letter == 'A' { 'B' } else { 'A' } } else { letter })
            .collect();
        if changed != token {
            let credentials = with(&|c| c.session_token = Some(changed.clone()));
            assert!(fixture.authenticate(&credentials).await.is_err(), "changed at {at}");
        }
    }
}

async fn session_of(fixture: &Fixture) -> TemporaryCredentials {
    let caller = fixture.caller(&fixture.administrator).await;
    let role_arn = "arn:aws:iam::000000000000:role/deployer".parse().unwrap();
    let request = AssumeRole { duration_s: Some(900), ..AssumeRole::new(role_arn, "other") };
    fixture.identity.assume_role(&fixture.ctx(), &caller, &request).await.unwrap()
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let fixture = Fixture::new().await;
    let credentials = session_signing(&session(&fixture).await);
    fixture.clock.advance(Duration::from_secs(3599));
    fixture.identity.refresh().await.unwrap();
    let caller = fixture.authenticate(&credentials).await.unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    fixture.identity.refresh().await.unwrap();
    assert!(matches!(fixture.authenticate(&credentials).await, Err(AuthenticationError::Expired)));
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")), "whoever kept the caller");
}

#[tokio::test]
async fn docker_logs_in_with_an_access_key_or_an_ecr_token() {
    let fixture = Fixture::new().await;
    let (identity, ctx) = (&fixture.identity, fixture.ctx());
    let key = &fixture.administrator;
    let by_key =
        identity.authenticate_docker(&basic(&key.access_key_id, key.secret_access_key.expose()), &ctx);
    let token = identity.mint_ecr_token(&by_key.unwrap()).unwrap();
    let by_token = identity.authenticate_docker(&basic("AWS", token.token.expose()), &ctx).unwrap();
    assert_eq!(by_token.arn(), "arn:aws:iam::000000000000:user/administrator");
    assert_eq!(token.expires_ms, ctx.now_ms + 12 * 3600 * 1000);
    assert!(identity.authenticate_docker(&basic("aws", token.token.expose()), &ctx).is_err());
    assert!(identity.authenticate_docker(&http::HeaderMap::new(), &ctx).unwrap().is_anonymous());
}

#[tokio::test]
async fn a_token_bounds_when_a_request_may_begin_and_not_how_long_it_takes() {
    let fixture = Fixture::new().await;
    let by_key = fixture.caller(&fixture.administrator).await;
    let token = fixture.identity.mint_ecr_token(&by_key).unwrap();
    let headers = basic("AWS", token.token.expose());
    let caller = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap();
    fixture.clock.advance(Duration::from_secs(12 * 3600));
    fixture.identity.refresh().await.unwrap();
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert!(fixture.allowed(&caller.begun(), "ecr:PutImage", &repository("app")));
    // The session behind it does end what was begun.
    let session = fixture.session(&session(&fixture).await).await.begun();
    fixture.clock.advance(Duration::from_secs(3600));
    fixture.identity.refresh().await.unwrap();
    assert!(!fixture.allowed(&session, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn an_access_key_as_password_needs_the_right_to_a_token() {
    let fixture = Fixture::new().await;
    let key = fixture.user("puller", &policy("Allow", "ecr:BatchGetImage", "*")).await;
    let headers = basic(&key.access_key_id, key.secret_access_key.expose());
    let error = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap_err();
    assert!(matches!(error, AuthenticationError::Denied(_)), "{error}");
    let line = fixture.audit_lines().await.pop().unwrap();
    assert_eq!(
        (line["action"].as_str(), line["decision"].as_str()),
        (Some("ecr:GetAuthorizationToken"), Some("deny"))
    );
}

#[tokio::test]
async fn a_token_ends_no_later_than_the_session_behind_it() {
    let fixture = Fixture::new().await;
    let credentials = session(&fixture).await;
    let caller = fixture.session(&credentials).await;
    let token = fixture.identity.mint_ecr_token(&caller).unwrap();
    assert_eq!(token.expires_ms, credentials.expires_ms);
    fixture.clock.advance(Duration::from_secs(3598));
    fixture.identity.refresh().await.unwrap();
    let headers = basic("AWS", token.token.expose());
    let caller = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap();
    assert_eq!(caller.arn(), "arn:aws:sts::000000000000:assumed-role/deployer/ci");
    let bearer = fixture.identity.mint_bearer(&caller, &Scope::default()).unwrap();
    assert_eq!(bearer.expires_ms, credentials.expires_ms);
}

#[tokio::test]
async fn a_bearer_token_names_its_caller_and_bounds_it() {
    let fixture = Fixture::new().await;
    let caller = fixture.caller(&fixture.administrator).await;
    let scope = Scope::parse("repository:app:pull").unwrap();
    let token = fixture.identity.mint_bearer(&caller, &scope).unwrap();
    assert_eq!(token.expires_ms, fixture.clock.now_ms() + 300_000);
    let headers = bearer(token.token.expose());
    let named = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap();
    assert_eq!(named.arn(), caller.arn());
    assert!(named.scope().unwrap().allows("repository", "app", "pull"));
    assert!(!named.scope().unwrap().allows("repository", "app", "push"));
    let refused = fixture.identity.authenticate_token_request(&headers, &fixture.ctx());
    assert!(refused.is_err(), "a bearer token buys no other");
    fixture.clock.advance(Duration::from_secs(300));
    fixture.identity.refresh().await.unwrap();
    let late = fixture.identity.authenticate_docker(&headers, &fixture.ctx());
    assert!(matches!(late, Err(AuthenticationError::Expired)), "though it is remembered");
}

#[tokio::test]
async fn the_bearer_token_of_nobody_names_nobody() {
    let fixture = Fixture::new().await;
    let nobody = fixture.identity.anonymous();
    let token = fixture.identity.mint_bearer(&nobody, &Scope::default()).unwrap();
    let headers = bearer(token.token.expose());
    let caller = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap();
    assert!(caller.is_anonymous() && caller.scope().is_some());
    let again = fixture.identity.authenticate_docker(&headers, &fixture.ctx()).unwrap();
    assert!(again.is_anonymous() && again.scope().is_some());
    assert!(fixture.identity.mint_ecr_token(&nobody).is_err());
}

#[tokio::test]
async fn bad_credentials_never_make_the_anonymous_caller() {
    let fixture = Fixture::new().await;
    for value in [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YQ==",
        "Bearer ",
        "Bearer x",
        "Negotiate x",
        "AWS4-HMAC-SHA256 x",
    ] {
        let headers = crate::testing::authorization(value);
        assert!(fixture.identity.authenticate_docker(&headers, &fixture.ctx()).is_err(), "{value}");
    }
    let mut twice = basic("AWS", "x");
    twice.append(http::header::AUTHORIZATION, "Basic YTpi".parse().unwrap());
    assert!(fixture.identity.authenticate_docker(&twice, &fixture.ctx()).is_err());
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_family() {
    let fixture = Fixture::new().await;
    let (identity, ctx) = (&fixture.identity, fixture.ctx());
    let caller = fixture.caller(&fixture.administrator).await;
    let first = identity.mint_refresh_token(&caller).await.unwrap();
    let (again, second) = identity.exchange_refresh_token(first.token.expose(), &ctx).await.unwrap();
    assert_eq!(again.arn(), caller.arn());
    let (_, third) = identity.exchange_refresh_token(second.token.expose(), &ctx).await.unwrap();
    assert!(identity.exchange_refresh_token(first.token.expose(), &ctx).await.is_err());
    assert!(identity.exchange_refresh_token(third.token.expose(), &ctx).await.is_err(), "the family is gone");
    assert!(identity.exchange_refresh_token("unknown", &ctx).await.is_err());
}

#[tokio::test]
async fn all_expired_refresh_tokens_are_forgotten_at_once() {
    let fixture = Fixture::new().await;
    let stored = crate::store::refresh::Stored {
        family: "family".to_owned(),
        access_key_id: fixture.administrator.access_key_id.clone(),
        chain: "[]".to_owned(),
        used: true,
        expires_ms: 1,
    };
    let insert = move |tx: &registry_sql::Tx<'_>| {
        (0..1200_u16).try_for_each(|number| {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&number.to_be_bytes());
            crate::store::refresh::insert(tx, &hash, &stored)
        })
    };
    fixture.write(insert).await;
    fixture.identity.forget_expired().await.unwrap();
    let left = fixture
        .database
        .read(|tx| tx.query_one("SELECT COUNT(*) FROM identity_refresh_tokens", &[])?.get::<i64>(0));
    assert_eq!(left.await.unwrap(), 0);
}

#[tokio::test]
async fn refresh_tokens_are_for_long_lived_keys_only() {
    let fixture = Fixture::new().await;
    let caller = fixture.session(&session(&fixture).await).await;
    assert!(fixture.identity.mint_refresh_token(&caller).await.is_err());
    assert!(fixture.identity.mint_refresh_token(&fixture.identity.anonymous()).await.is_err());
}

#[tokio::test]
async fn a_refresh_token_ends_with_its_key_or_its_time() {
    let fixture = Fixture::new().await;
    let (identity, ctx) = (&fixture.identity, fixture.ctx());
    let key = fixture.user("alice", ALLOW_ALL).await;
    let caller = fixture.caller(&key).await;
    let token = identity.mint_refresh_token(&caller).await.unwrap();
    fixture.set_key_active(&key, false).await;
    assert!(identity.exchange_refresh_token(token.token.expose(), &ctx).await.is_err());

    let admin = fixture.caller(&fixture.administrator).await;
    let late = identity.mint_refresh_token(&admin).await.unwrap();
    fixture.clock.advance(Duration::from_secs(31 * 24 * 3600));
    identity.refresh().await.unwrap();
    assert!(identity.exchange_refresh_token(late.token.expose(), &ctx).await.is_err());
}

#[tokio::test]
async fn what_crossed_a_network_in_clear_does_not_count_but_a_signature_does() {
    let fixture = Fixture::new().await;
    let (identity, key) = (&fixture.identity, &fixture.administrator);
    let caller = fixture.caller(key).await;
    let ecr = identity.mint_ecr_token(&caller).unwrap();
    let scope = Scope::parse("repository:app:pull").unwrap();
    let token = identity.mint_bearer(&caller, &scope).unwrap();
    let nobody = identity.mint_bearer(&identity.anonymous(), &scope).unwrap();
    let refresh = identity.mint_refresh_token(&caller).await.unwrap();
    let clear = crate::RequestContext { confidential: false, ..fixture.ctx() };
    let insecure = |error| matches!(error, AuthenticationError::InsecureTransport);
    for headers in [
        basic(&key.access_key_id, key.secret_access_key.expose()),
        basic(&key.access_key_id, "a wrong secret"),
        basic("AWS", ecr.token.expose()),
        bearer(token.token.expose()),
    ] {
        assert!(insecure(identity.authenticate_docker(&headers, &clear).unwrap_err()));
    }
    let password = basic(&key.access_key_id, key.secret_access_key.expose());
    assert!(insecure(identity.authenticate_token_request(&password, &clear).unwrap_err()));
    assert!(insecure(identity.exchange_refresh_token(refresh.token.expose(), &clear).await.unwrap_err()));
    identity.exchange_refresh_token(refresh.token.expose(), &fixture.ctx()).await.unwrap();

    assert!(identity.authenticate_docker(&bearer(nobody.token.expose()), &clear).unwrap().is_anonymous());
    let signed = fixture.signed(&signing(key), "ecr", b"{}");
    assert!(identity.authenticate_aws(&signed, b"{}", &["ecr"], &clear).await.is_ok());
}
