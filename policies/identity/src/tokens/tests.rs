//! Tokens that somebody else made, that are too old, or that are for something else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use registry_runtime::Secret;
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::Arc;

use super::{Audience, Claims, KEY_LIFE_MS, KEY_SETTLES_MS, LONGEST_TOKEN, TokenError, TokenKey, TokenKeys};
use crate::testing::START_MS;

fn keys() -> TokenKeys {
    let key = |id| Arc::new(TokenKey::new(id, START_MS - KEY_SETTLES_MS, &Secret::new(vec![id as u8; 32])));
    TokenKeys::new(vec![key(1), key(2)])
}

/// The secret that our tokens for the registry are signed with under key 2, as only a test can know it.
fn registry_secret() -> Secret {
    registry_runtime::Sealer::new(&Secret::new(vec![2; 32]), 2).derive(Audience::Registry.as_str())
}

fn claims() -> Value {
    let now = START_MS / 1000;
    json!({"iss": "berth", "aud": "berth:registry", "iat": now, "nbf": now, "exp": now + 300, "jti": "1",
           "akid": "AKIA", "scope": "repository:app:pull"})
}

fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    keys().verify(token, Audience::Registry, START_MS)
}

#[test]
fn the_forger_of_these_tests_makes_good_tokens_with_the_right_key() {
    let token =
        forge(&json!({"alg": "HS256", "typ": "JWT", "kid": "2"}), &claims(), registry_secret().expose());
    assert_eq!(verify(&token).unwrap().akid.as_deref(), Some("AKIA"));
}

#[test]
fn headers_that_choose_their_own_rules_are_refused() {
    let secret = registry_secret();
    for header in [
        json!({"alg": "none", "kid": "2"}),
        json!({"alg": "None", "kid": "2"}),
        json!({"alg": "HS384", "kid": "2"}),
        json!({"alg": "HS512", "kid": "2"}),
        json!({"alg": "RS256", "kid": "2"}),
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "kid": "1"}),
        json!({"alg": "HS256", "kid": "3"}),
        json!({"alg": "HS256", "kid": "../2"}),
        json!({"alg": "HS256", "kid": ""}),
        json!({"alg": "HS256", "kid": 2}),
        json!({"kid": "2"}),
        json!([]),
    ] {
        let token = forge(&header, &claims(), secret.expose());
        assert_eq!(verify(&token).unwrap_err(), TokenError::Invalid, "{header}");
    }
}

#[test]
fn a_key_that_comes_with_the_token_verifies_nothing() {
    let own = b"the attacker's own key, 32 bytes";
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(own), "alg": "HS256"});
    for header in [
        json!({"alg": "HS256", "kid": "2", "jwk": jwk}),
        json!({"alg": "HS256", "kid": "2", "jku": "https://attacker.example/keys"}),
        json!({"alg": "HS256", "kid": "2", "x5u": "https://attacker.example/cert"}),
        json!({"alg": "HS256", "kid": "2"}),
    ] {
        assert_eq!(verify(&forge(&header, &claims(), own)).unwrap_err(), TokenError::Invalid, "{header}");
        assert!(verify(&forge(&header, &claims(), b"")).is_err());
    }
}

#[test]
fn claims_that_are_missing_wrong_or_out_of_time_are_refused() {
    let secret = registry_secret();
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": "2"});
    let now = START_MS / 1000;
    let with = |name: &str, value: Value| {
        let mut changed = claims();
        changed[name] = value;
        forge(&header, &changed, secret.expose())
    };
    let without = |name: &str| {
        let mut changed = claims();
        changed.as_object_mut().unwrap().remove(name);
        forge(&header, &changed, secret.expose())
    };
    for (what, token) in [
        ("another audience", with("aud", json!("berth:ecr"))),
        ("a list of audiences", with("aud", json!(["berth:registry"]))),
        ("several audiences", with("aud", json!(["berth:registry", "x"]))),
        ("no audience", without("aud")),
        ("an empty audience", with("aud", json!(""))),
        ("another issuer", with("iss", json!("somebody"))),
        ("no issuer", without("iss")),
        ("no expiry", without("exp")),
        ("an expiry that is text", with("exp", json!("9999999999"))),
        ("no begin", without("nbf")),
        ("a begin in the future", with("nbf", json!(now + 60))),
        ("issued in the future", with("iat", json!(now + 60))),
        ("a chain of another form", with("chain", json!("x"))),
    ] {
        assert_eq!(verify(&token).unwrap_err(), TokenError::Invalid, "{what}");
    }
    for exp in [now, now - 1, 0] {
        assert_eq!(verify(&with("exp", json!(exp))).unwrap_err(), TokenError::Expired, "{exp}");
    }
}

#[test]
fn a_token_for_one_audience_is_none_for_the_other() {
    let keys = keys();
    let key = keys.signing(START_MS).unwrap();
    for (audience, other) in [(Audience::Ecr, Audience::Registry), (Audience::Registry, Audience::Ecr)] {
        let token = key.jwt(audience).sign(&Claims::new(audience, START_MS, START_MS + 60_000));
        assert!(keys.verify(token.expose(), audience, START_MS).is_ok());
        assert_eq!(keys.verify(token.expose(), other, START_MS).unwrap_err(), TokenError::Invalid);
        assert_eq!(
            keys.verify(token.expose(), audience, START_MS + 60_000).unwrap_err(),
            TokenError::Expired
        );
    }
}

#[test]
fn endless_and_misshapen_tokens_are_refused_before_they_are_read() {
    let token = forge(&json!({"alg": "HS256", "kid": "2"}), &claims(), registry_secret().expose());
    let padded = format!("{token}{}", "A".repeat(LONGEST_TOKEN));
    let dots = ".".repeat(1_000_000);
    let encrypted = format!("{token}.x.y");
    for shape in [padded.as_str(), &dots, &encrypted, "", ".", "..", "a.b", &token[..token.len() - 2]] {
        assert_eq!(verify(shape).unwrap_err(), TokenError::Invalid, "{}", &shape[..shape.len().min(30)]);
    }
}

#[test]
fn a_new_key_signs_once_every_server_knows_it_and_the_old_one_is_still_accepted() {
    let key = |id, created_ms| Arc::new(TokenKey::new(id, created_ms, &Secret::new(vec![id as u8; 32])));
    let old = TokenKeys::new(vec![key(1, START_MS)]);
    let now_ms = START_MS + KEY_LIFE_MS;
    let token = old.signing(now_ms).unwrap().jwt(Audience::Ecr).sign(&Claims::new(
        Audience::Ecr,
        now_ms,
        now_ms + 60_000,
    ));
    let both = TokenKeys::new(vec![key(2, now_ms), key(1, START_MS)]);
    assert!(both.verify(token.expose(), Audience::Ecr, now_ms).is_ok());
    assert!(Arc::ptr_eq(both.signing(now_ms).unwrap(), both.get(1).unwrap()));
    assert!(Arc::ptr_eq(both.signing(now_ms + KEY_SETTLES_MS).unwrap(), both.get(2).unwrap()));
}
