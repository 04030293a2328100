//! An issuer on this machine, over HTTPS, for tests.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use parking_lot::Mutex;
use registry_runtime::tls::Certificate;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::Issuers;

/// A key that signs, and its public form.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pub(crate) id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    pub(crate) public: Value,
}

impl SigningKey {
    pub(crate) fn ed25519(id: &'static str) -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        SigningKey {
            id,
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(document.as_ref()),
            public: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig"}),
        }
    }

    pub(crate) fn p256(id: &'static str) -> SigningKey {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        SigningKey {
            id,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(document.as_ref()),
            public: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "alg": "ES256"}),
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let algorithm = if self.algorithm == Algorithm::EdDSA { "EdDSA" } else { "ES256" };
        self.sign_as(&json!({"alg": algorithm, "kid": self.id}), claims)
    }

    /// Under any header; the signature is right.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, &self.key, self.algorithm)
    }
}

/// A token of any header, signed with any key.
pub(crate) fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, algorithm).unwrap();
    format!("{text}.{signature}")
}

/// What the issuer answers.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) issuer: String,
    pub(crate) keys_at: String,
    pub(crate) keys: Vec<Value>,
    pub(crate) status: u16,
    /// How often the keys were asked for.
    pub(crate) asked: usize,
}

pub(crate) struct LocalIssuer {
    /// `localhost:PORT`
    pub(crate) name: String,
    pub(crate) answers: Arc<Mutex<Answers>>,
    authority: Certificate,
}

impl LocalIssuer {
    pub(crate) async fn start(keys: &[&SigningKey]) -> LocalIssuer {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let der = made.cert.der().clone();
        let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let answers = Arc::new(Mutex::new(Answers {
            issuer: format!("https://{name}"),
            keys_at: format!("https://{name}/keys"),
            keys: keys.iter().map(|key| key.public.clone()).collect(),
            status: 200,
            asked: 0,
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(published))
            .with_state(Arc::clone(&answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let http =
                        hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = http.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
                });
            }
        });
        let authority = Certificate::from_der(der).unwrap();
        LocalIssuer { name, answers, authority }
    }

    /// The way to it; `exempt`: although it is on this machine.
    pub(crate) fn reached(&self, exempt: bool) -> Issuers {
        let hosts = if exempt { vec![self.name.clone()] } else { Vec::new() };
        Issuers::new(vec![self.authority.clone()], hosts).unwrap()
    }
}

async fn configuration(State(answers): State<Arc<Mutex<Answers>>>) -> Json<Value> {
    let answers = answers.lock();
    Json(json!({ "issuer": answers.issuer, "jwks_uri": answers.keys_at }))
}

async fn published(State(answers): State<Arc<Mutex<Answers>>>) -> (StatusCode, Json<Value>) {
    let mut answers = answers.lock();
    answers.asked += 1;
    (StatusCode::from_u16(answers.status).unwrap(), Json(json!({ "keys": answers.keys })))
}
