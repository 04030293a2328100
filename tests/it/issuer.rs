//! An issuer of OIDC tokens on this machine, over HTTPS: what a CI system has.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

pub(crate) struct Issuer {
    /// `localhost:PORT`: what condition keys begin with.
    pub(crate) name: String,
    /// The certificate that is to be trusted, as PEM.
    pub(crate) ca: String,
    key: KeyPair,
}

impl Issuer {
    /// Serves for as long as the test runs.
    pub(crate) fn start() -> Issuer {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let public = URL_SAFE_NO_PAD.encode(key.der_bytes());
        let keys =
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "ci", "use": "sig", "x": public}]});
        let configuration =
            json!({"issuer": format!("https://{name}"), "jwks_uri": format!("https://{name}/keys")});
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![made.cert.der().clone()],
                PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = BufReader::new(StreamOwned::new(connection, stream));
                let mut first = String::new();
                // Whoever breaks off gets no answer.
                let _ = tls.read_line(&mut first);
                let mut line = String::new();
                while tls.read_line(&mut line).is_ok_and(|length| length > 2) {
                    line.clear();
                }
                let body = if first.starts_with("GET /keys ") { &keys } else { &configuration }.to_string();
                let head =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                let tls = tls.get_mut();
                let _ = tls.write_all(head.as_bytes()).and_then(|()| tls.write_all(body.as_bytes()));
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        });
        Issuer { name, ca: made.cert.pem(), key }
    }

    /// A token for the audience `berth` that holds for five minutes.
    pub(crate) fn token(&self, subject: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": format!("https://{}", self.name),
            "aud": "berth",
            "sub": subject,
            "repository": "team/app",
            "iat": now,
            "exp": now + 300,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": "ci"})), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{signature}")
    }
}
