use axum::body::{Body, to_bytes};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey};
use registry_aws::Credentials;
use serde_json::{Value, json};

use super::keys::KeySet;
use super::testing::{LocalIssuer, SigningKey, signed};
use super::token::{Problem, Unverified};
use crate::store::Owner;
use crate::store::providers::{self, ProviderRow};
use crate::testing::{Fixture, policy, repository};
use crate::{Caller, RequestContext, Sts, serve_aws, unique_id};

const ROLE: &str = "arn:aws:iam::000000000000:role/ci";

/// A provider for a local issuer, and a role that trusts the jobs of one repository.
struct House {
    fixture: Fixture,
    issuer: LocalIssuer,
}

impl House {
    async fn new(keys: &[&SigningKey]) -> House {
        let (fixture, issuer) = (Fixture::new().await, LocalIssuer::start(keys).await);
        fixture.identity.reach_issuers(issuer.reached(true));
        let house = House { fixture, issuer };
        house.provide(&["berth", "other"], 1).await;
        let name = &house.issuer.name;
        let trust = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow",
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": format!("arn:aws:iam::000000000000:oidc-provider/{name}")},
            "Condition": {
                "StringEquals": {format!("{name}:aud"): "berth"},
                "StringLike": {format!("{name}:sub"): "repo:team/app:*"},
            },
        }});
        house.fixture.role("ci", &trust.to_string(), &policy("Allow", "ecr:PutImage", "*")).await;
        house
    }

    async fn provide(&self, client_ids: &[&str], generation: i64) {
        let row = ProviderRow {
            name: self.issuer.name.clone(),
            uid: unique_id::oidc_provider(),
            client_ids: client_ids.iter().map(|id| (*id).to_owned()).collect(),
            thumbprints: Vec::new(),
            tags: Vec::new(),
            created_ms: 1,
            generation,
            owner: Owner::Api,
        };
        self.fixture.write(move |tx| providers::put(tx, &row)).await;
    }

    fn now_s(&self) -> i64 {
        self.fixture.clock.now_ms() / 1000
    }

    fn claims(&self) -> Value {
        json!({
            "iss": format!("https://{}", self.issuer.name),
            "aud": "berth",
            "sub": "repo:team/app:ref:main",
            "iat": self.now_s(),
            "nbf": self.now_s(),
            "exp": self.now_s() + 300,
        })
    }

    async fn ask(&self, token: &str) -> (u16, String) {
        self.ask_in(self.fixture.ctx(), token).await
    }

    async fn ask_in(&self, ctx: RequestContext, token: &str) -> (u16, String) {
        self.ask_for(ROLE, ctx, token).await
    }

    async fn ask_for(&self, role: &str, ctx: RequestContext, token: &str) -> (u16, String) {
        // The letters of a token need no encoding in a form.
        let form = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=job-7&RoleArn={role}&\
             WebIdentityToken={token}"
        );
        let mut parts = crate::testing::unsigned(&[("content-type", "application/x-www-form-urlencoded")]);
        parts.extensions.insert(ctx);
        let sts = Sts::new(self.fixture.identity.clone());
        let response =
            serve_aws(&self.fixture.identity, &sts, Request::from_parts(parts, Body::from(form))).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn refused(&self, token: &str) -> String {
        let (status, body) = self.ask(token).await;
        let code = between(&body, "Code").to_owned();
        // As the API reference of STS has them.
        assert_eq!(status, if code == "AccessDenied" { 403 } else { 400 }, "{body}");
        code
    }

    async fn session(&self, token: &str) -> Caller {
        self.session_of(ROLE, token).await
    }

    async fn session_of(&self, role: &str, token: &str) -> Caller {
        let (status, body) = self.ask_for(role, self.fixture.ctx(), token).await;
        assert_eq!(status, 200, "{body}");
        let credentials = Credentials {
            access_key_id: between(&body, "AccessKeyId").to_owned(),
            secret_access_key: between(&body, "SecretAccessKey").to_owned(),
            session_token: Some(between(&body, "SessionToken").to_owned()),
        };
        self.fixture.authenticate(&credentials).await.unwrap()
    }

    async fn advance(&self, seconds: u64) {
        self.fixture.clock.advance(std::time::Duration::from_secs(seconds));
        self.fixture.identity.refresh().await.unwrap();
    }

    fn asked(&self) -> usize {
        self.issuer.answers.lock().asked
    }
}

fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map(|(value, _)| value).unwrap()
}

#[tokio::test]
async fn a_job_assumes_the_role_that_trusts_its_repository() {
    let (ed, ec) = (SigningKey::ed25519("one"), SigningKey::p256("two"));
    let house = House::new(&[&ed, &ec]).await;
    for key in [&ed, &ec] {
        let caller = house.session(&key.sign(&house.claims())).await;
        assert_eq!(caller.arn(), "arn:aws:sts::000000000000:assumed-role/ci/job-7");
        assert!(house.fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
        assert!(!house.fixture.allowed(&caller, "ecr:BatchDeleteImage", &repository("app")));
    }
    assert_eq!(house.asked(), 1, "keys are kept");

    let mut other = house.claims();
    other["sub"] = "repo:team/other:ref:main".into();
    assert_eq!(house.refused(&ed.sign(&other)).await, "AccessDenied");
    let mut other = house.claims();
    other["aud"] = "other".into();
    assert_eq!(house.refused(&ed.sign(&other)).await, "AccessDenied", "the trust policy names one audience");

    let lines = house.fixture.audit_lines().await;
    let decided = lines.iter().find(|line| line["action"] == "sts:AssumeRoleWithWebIdentity").unwrap();
    let name = &house.issuer.name;
    assert_eq!(decided["principal"], format!("arn:aws:iam::000000000000:oidc-provider/{name}"));
    assert_eq!(decided["userId"], format!("{name}:berth:repo:team/app:ref:main"));
    assert_eq!((&decided["decision"], &decided["policyKind"]), (&json!("allow"), &json!("trust")));
}

#[tokio::test]
async fn tokens_that_do_not_hold_are_refused() {
    let key = SigningKey::ed25519("one");
    let house = House::new(&[&key]).await;
    let now = house.now_s();
    for (member, value, code) in [
        ("aud", json!("stranger"), "InvalidIdentityToken"),
        ("aud", json!(["berth", "stranger"]), "InvalidIdentityToken"),
        ("aud", json!([]), "InvalidIdentityToken"),
        ("aud", Value::Null, "InvalidIdentityToken"),
        ("exp", json!(now), "ExpiredTokenException"),
        ("exp", Value::Null, "InvalidIdentityToken"),
        ("exp", json!("tomorrow"), "InvalidIdentityToken"),
        ("iat", json!(now + 61), "InvalidIdentityToken"),
        ("iat", Value::Null, "InvalidIdentityToken"),
        ("nbf", json!(now + 61), "InvalidIdentityToken"),
        ("sub", json!(""), "InvalidIdentityToken"),
        ("sub", Value::Null, "InvalidIdentityToken"),
        ("iss", json!("https://elsewhere.example"), "InvalidIdentityToken"),
        ("iss", json!(format!("https://{}/", house.issuer.name)), "InvalidIdentityToken"),
    ] {
        let mut claims = house.claims();
        claims[member] = value.clone();
        assert_eq!(house.refused(&key.sign(&claims)).await, code, "{member} {value}");
    }
    let mut several = house.claims();
    (several["aud"], several["azp"]) = (json!(["berth", "stranger"]), "berth".into());
    house.session(&key.sign(&several)).await;

    let good = key.sign(&house.claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    let header = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let stranger = SigningKey::ed25519("one");
    for (what, token) in [
        ("no signature", format!("{signed}.")),
        ("alg none", format!("{}.{payload}.", header(json!({"alg": "none"})))),
        ("another key of that name", stranger.sign(&house.claims())),
        (
            "another header",
            format!("{}.{payload}.{signature}", header(json!({"alg": "EdDSA", "kid": "one", "typ": "x"}))),
        ),
        ("two parts", signed.to_owned()),
        ("five parts", format!("{good}.x.y")),
        ("too long", format!("{good}{}", "A".repeat(16 * 1024))),
        ("nothing", ".".repeat(2)),
    ] {
        assert_eq!(house.refused(&token).await, "InvalidIdentityToken", "{what}");
    }
    let insecure = RequestContext { confidential: false, ..house.fixture.ctx() };
    assert_eq!(house.ask_in(insecure, &good).await.0, 403);
    house.session(&good).await;
}

#[tokio::test]
async fn a_token_chooses_neither_its_key_nor_how_that_is_used() {
    let (ed, ec) = (SigningKey::ed25519("one"), SigningKey::p256("two"));
    let house = House::new(&[&ed, &ec]).await;
    let claims = house.claims();
    // The public key as the secret of an HMAC, in every form that it is published in.
    let jwk = ed.public.to_string();
    let raw = URL_SAFE_NO_PAD.decode(ed.public["x"].as_str().unwrap()).unwrap();
    for secret in [raw.as_slice(), ed.public["x"].as_str().unwrap().as_bytes(), jwk.as_bytes(), b""] {
        for (alg, algorithm) in [("HS256", Algorithm::HS256), ("HS512", Algorithm::HS512)] {
            let header = json!({"alg": alg, "kid": "one"});
            let token = signed(&header, &claims, &EncodingKey::from_secret(secret), algorithm);
            assert_eq!(house.refused(&token).await, "InvalidIdentityToken", "{alg}");
        }
    }
    // A key of the attacker's own, which the header offers.
    let own = SigningKey::ed25519("own");
    for offered in [
        json!({"jwk": own.public}),
        json!({"jwk": own.public, "kid": "one"}),
        json!({"jwk": own.public, "kid": "own"}),
        json!({"jku": "https://attacker.example/keys", "kid": "own"}),
        json!({"x5u": "https://attacker.example/chain", "kid": "one"}),
        json!({"x5c": ["AAAA"], "kid": "one"}),
        json!({"kid": "../../keys/one"}),
    ] {
        let mut header = offered.clone();
        header["alg"] = "EdDSA".into();
        assert_eq!(house.refused(&own.sign_as(&header, &claims)).await, "InvalidIdentityToken", "{offered}");
    }
    // Right signatures under headers that say something else of them, or ask for more than is understood.
    for (key, header) in [
        (&ed, json!({"alg": "ES256", "kid": "one"})),
        (&ec, json!({"alg": "EdDSA", "kid": "two"})),
        (&ed, json!({"alg": "EdDSA", "kid": "two"})),
        (&ed, json!({"alg": "none", "kid": "one"})),
        (&ed, json!({"alg": "PBES2-HS256+A128KW", "kid": "one", "p2c": 1_000_000_000})),
        (&ed, json!({"alg": "EdDSA", "kid": "one", "zip": "DEF"})),
        (&ed, json!({"alg": "EdDSA", "kid": "one", "enc": "A128GCM"})),
        (&ed, json!({"alg": "EdDSA", "kid": "one", "crit": ["exp"]})),
        (&ed, json!({"alg": ["EdDSA"], "kid": "one"})),
        (&ed, json!([])),
    ] {
        assert_eq!(house.refused(&key.sign_as(&header, &claims)).await, "InvalidIdentityToken", "{header}");
    }
    assert_eq!(house.refused(&".".repeat(60_000)).await, "InvalidIdentityToken");
    house.session(&ed.sign_as(&json!({"alg": "EdDSA", "kid": "one", "typ": "JWT"}), &claims)).await;
}

#[tokio::test]
async fn a_rotated_key_is_fetched_and_strangers_do_not_have_it_fetched_at_will() {
    let (one, two) = (SigningKey::ed25519("one"), SigningKey::ed25519("two"));
    let house = House::new(&[&one]).await;
    house.session(&one.sign(&house.claims())).await;
    house.issuer.answers.lock().keys = vec![two.public.clone()];
    for _ in 0..10 {
        assert_eq!(house.refused(&two.sign(&house.claims())).await, "InvalidIdentityToken");
    }
    assert_eq!(house.asked(), 1, "asked no more often than every few seconds");
    house.advance(6).await;
    house.session(&two.sign(&house.claims())).await;
    assert_eq!(house.asked(), 2);
    assert_eq!(house.refused(&one.sign(&house.claims())).await, "InvalidIdentityToken", "withdrawn");

    house.advance(3601).await;
    house.issuer.answers.lock().status = 500;
    for _ in 0..3 {
        assert_eq!(house.refused(&two.sign(&house.claims())).await, "IDPCommunicationError");
    }
    assert_eq!(house.asked(), 3);
    house.advance(6).await;
    house.issuer.answers.lock().status = 200;
    house.session(&two.sign(&house.claims())).await;
}

#[tokio::test]
async fn keys_outlive_an_issuer_that_does_not_answer_for_a_while() {
    let (one, made_up) = (SigningKey::ed25519("one"), SigningKey::ed25519("made-up"));
    let house = House::new(&[&one]).await;
    house.session(&one.sign(&house.claims())).await;
    house.issuer.answers.lock().status = 500;
    house.advance(6).await;
    for _ in 0..2 {
        assert_eq!(house.refused(&made_up.sign(&house.claims())).await, "IDPCommunicationError");
    }
    assert_eq!(house.asked(), 2);
    house.session(&one.sign(&house.claims())).await;
    house.advance(3600).await;
    assert_eq!(house.refused(&one.sign(&house.claims())).await, "IDPCommunicationError", "not for ever");
}

#[tokio::test]
async fn whose_key_is_known_waits_for_no_issuer() {
    let (one, made_up) = (SigningKey::ed25519("one"), SigningKey::ed25519("made-up"));
    let house = House::new(&[&one]).await;
    house.session(&one.sign(&house.claims())).await;
    house.advance(6).await;
    let stuck = made_up.sign(&house.claims());
    let mut asking = std::pin::pin!(house.ask(&stuck));
    // It is on its way to the issuer, and comes no further.
    assert!(futures_util::poll!(&mut asking).is_pending());
    house.session(&one.sign(&house.claims())).await;
    assert_eq!(between(&asking.await.1, "Code"), "InvalidIdentityToken");
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn issuers_are_asked_only_where_that_is_safe() {
    let key = SigningKey::ed25519("one");
    for (what, change) in [
        (
            "plain http",
            (|answers| answers.keys_at = answers.keys_at.replace("https", "http"))
                as fn(&mut super::testing::Answers),
        ),
        ("a redirect", |answers| answers.status = 302),
        ("another issuer", |answers| answers.issuer.push('x')),
        ("a private address", |answers| answers.keys_at = "https://169.254.169.254/keys".to_owned()),
        ("no URL", |answers| answers.keys_at = "nonsense".to_owned()),
    ] {
        let house = House::new(&[&key]).await;
        change(&mut house.issuer.answers.lock());
        assert_eq!(house.refused(&key.sign(&house.claims())).await, "IDPCommunicationError", "{what}");
    }
    let (fixture, issuer) = (Fixture::new().await, LocalIssuer::start(&[&key]).await);
    fixture.identity.reach_issuers(issuer.reached(false));
    let house = House { fixture, issuer };
    house.provide(&["berth"], 1).await;
    let (_, body) = house.ask(&key.sign(&house.claims())).await;
    assert_eq!(between(&body, "Code"), "IDPCommunicationError");
    assert!(!body.contains("address"), "strangers learn nothing of the network: {body}");
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn a_session_ends_with_the_trust_in_its_provider() {
    let key = SigningKey::ed25519("one");
    let house = House::new(&[&key]).await;
    let caller = house.session(&key.sign(&house.claims())).await;
    assert!(house.fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    let other = house.fixture.another_server().await;
    let on_the_other = || {
        let check = crate::Check::on("ecr:PutImage", repository("app").parse().unwrap());
        other.authorize(&house.fixture.ctx(), &caller, "Test", &check).is_ok()
    };
    assert!(on_the_other());
    house.provide(&["other"], 2).await;
    assert!(!house.fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    // Another server notices by itself.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while on_the_other() {
        assert!(std::time::Instant::now() < deadline, "the other server did not notice");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let name = house.issuer.name.clone();
    house.fixture.write(move |tx| providers::delete(tx, &name)).await;
    assert_eq!(house.refused(&key.sign(&house.claims())).await, "InvalidIdentityToken");
}

/// Made with openssl: RSA of 2048 bits, and what it signed.
const RSA_MODULUS: &str = "wvf23REIyAwbzkE3i3hU0UZA6xxD1swD8_MvfBJBAr3CpjuiZ-L2SEOBgzhvkKRWfJKnbf2pSnaYkH4-xTD3Pp1TlxhgLJk0\
     URBcJE4Y8S1g1TnsD1cWsDUNxQEgoxNv8pJQU9w0FVlkTKCNt986-p_osghKORt4xdzOMRKIhS1qdhihPrgxfJRdE4bnLNJT\
     EMprWlfv72k3hBO1GziPHZbRfnIF78lL263oWW4KqeWQFFsYhU-k9VQnPUwlrowunO5qYiLyLY4xaWrRQmNzZO6vuJXoXwX8\
     0Lwoaxshohy2kq_XuMeujxQfXn7myTpxaMBipoLs7ADVPM-IhKk0pw";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL3Rva2VuLmV4YW1wbGUiLCJzdWIiOiJqb2IifQ.\
     aF1yZ9NH_lm27d6EOMqF9Tt7X-yyjf502esCn2XICSm9Ufnuwe11A96bdIZBWdaE6vZdWyOzuSd7a8a0f_o1--S7AHOzDJws\
     BwTDPWdNXiPHNY566DzglBYqxzWKvXrWUpvVI4FzJuR01qSdSQasNO6bcJF-XoqjcHBbxmACN_cCmLfaERvTLIyk_vAiKAhN\
     JQGOr0qhmH497EKP22d8yFYOe0WBm9_kixHd_tODbThw3xZh0u4_joumrWLw5mkWUcLzNT5WcI2njtCtLzTetSUDHYrIEDGz\
     sJiIIqAGJtbSwg1B8l1pnBqEwQuB_3l-kNW5RMbYpe6q37gc_WaVrQ";

#[test]
fn rs256_is_verified_and_short_keys_do_not_count() {
    let set = |modulus: &str| {
        let key =
            json!({"kty": "RSA", "kid": "rsa", "n": modulus, "e": "AQAB", "alg": "RS256", "use": "sig"});
        KeySet::read(json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
    };
    let token = Unverified::read(RSA_TOKEN).unwrap();
    assert_eq!(set(RSA_MODULUS).verify(&token).unwrap()["sub"], "job");
    assert_eq!(set(&RSA_MODULUS[..170]).verify(&token), Err(Problem::NoKey));
    let changed = RSA_TOKEN.replacen("eyJpc3Mi", "eyJpc3Nj", 1);
    assert!(Unverified::read(&changed).and_then(|token| set(RSA_MODULUS).verify(&token)).is_err());
}

const TAGGED: &str = "arn:aws:iam::000000000000:role/tagged";

#[tokio::test]
async fn tags_of_a_token_become_those_of_the_session_where_the_trust_allows_it() {
    let key = SigningKey::ed25519("one");
    let house = House::new(&[&key]).await;
    let name = &house.issuer.name;
    let mut claims = house.claims();
    claims["https://aws.amazon.com/tags"] =
        json!({"principal_tags": {"team": ["red"], "job": ["7"]}, "transitive_tag_keys": ["team"]});
    claims["https://aws.amazon.com/source_identity"] = "alice".into();
    assert_eq!(house.refused(&key.sign(&claims)).await, "AccessDenied", "it does not allow sts:TagSession");

    let provider = format!("arn:aws:iam::000000000000:oidc-provider/{name}");
    let statement = |action: &str, key: &str, value: &str| {
        json!({
            "Effect": "Allow", "Action": action, "Principal": {"Federated": provider},
            "Condition": {
                "StringEquals": {format!("{name}:aud"): "berth", key: value},
                "StringLike": {format!("{name}:sub"): "repo:team/app:*"},
            },
        })
    };
    let trust = json!({"Version": "2012-10-17", "Statement": [
        statement("sts:AssumeRoleWithWebIdentity", "sts:RoleSessionName", "job-7"),
        statement("sts:TagSession", "aws:RequestTag/team", "red"),
        statement("sts:SetSourceIdentity", "sts:SourceIdentity", "alice"),
    ]});
    let rights = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ecr:PutImage",
         "Resource": "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/team}-${aws:PrincipalTag/job}"},
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
    ]});
    house.fixture.role("tagged", &trust.to_string(), &rights.to_string()).await;
    let next = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecr:PutImage",
        "Resource": "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/team}-${aws:PrincipalTag/job, 'none'}"}});
    let trusting = crate::testing::trust(&format!(r#""AWS":"{TAGGED}""#), "{}");
    let next = house.fixture.role("next", &trusting, &next.to_string()).await;

    let caller = house.session_of(TAGGED, &key.sign(&claims)).await;
    assert!(house.fixture.allowed(&caller, "ecr:PutImage", &repository("red-7")));
    assert!(!house.fixture.allowed(&caller, "ecr:PutImage", &repository("blue-7")));
    let request = crate::AssumeRole::new(next.clone(), "next");
    let assume = |request: crate::AssumeRole| {
        let (fixture, caller) = (&house.fixture, caller.clone());
        async move { fixture.identity.assume_role(&fixture.ctx(), &caller, &request).await }
    };
    let chained = house.fixture.session(&assume(request.clone()).await.unwrap()).await;
    assert!(
        house.fixture.allowed(&chained, "ecr:PutImage", &repository("red-none")),
        "team alone goes along"
    );
    assert!(!house.fixture.allowed(&chained, "ecr:PutImage", &repository("red-7")));
    let mut conflicting = request.clone();
    conflicting.tags = vec![("Team".to_owned(), "blue".to_owned())];
    let refused = registry_aws::AwsError::from(assume(conflicting).await.unwrap_err());
    assert_eq!(refused.code, "InvalidParameterValue");
    let mut absent = request;
    absent.transitive_tag_keys = vec!["nowhere".to_owned()];
    assert_eq!(registry_aws::AwsError::from(assume(absent).await.unwrap_err()).code, "InvalidParameterValue");

    // The same in claims of their own.
    let mut flat = house.claims();
    flat["https://aws.amazon.com/tags/principal_tags/team"] = "red".into();
    flat["https://aws.amazon.com/tags/principal_tags/job"] = json!(["8"]);
    flat["https://aws.amazon.com/tags/transitive_tag_keys"] = json!(["team"]);
    let caller = house.session_of(TAGGED, &key.sign(&flat)).await;
    assert!(house.fixture.allowed(&caller, "ecr:PutImage", &repository("red-8")));
    claims["https://aws.amazon.com/tags"]["principal_tags"]["team"] = json!(["blue"]);
    let (status, body) = house.ask_for(TAGGED, house.fixture.ctx(), &key.sign(&claims)).await;
    assert_eq!((status, between(&body, "Code")), (403, "AccessDenied"));
    for wrong in [
        json!("red"),
        json!({"principal_tags": {"team": ["red", "blue"]}}),
        json!({"principal_tags": {"team": 7}}),
        json!({"principal_tags": ["team"]}),
        json!({"principal_tags": {"team": "red"}, "transitive_tag_keys": "team"}),
    ] {
        claims["https://aws.amazon.com/tags"] = wrong.clone();
        assert_eq!(house.refused(&key.sign(&claims)).await, "InvalidIdentityToken", "{wrong}");
    }
}
