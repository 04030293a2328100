//! Asking a server for its CA, before anything of it is trusted.
//!
//! The connection's certificate is not checked, so nothing secret is sent on it, and what comes back counts only
//! once its fingerprint was compared with one from elsewhere: a join token, an operator.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::client::unverified;
use super::{Certificate, Connector, TlsError};

/// Where a server hands out its CA, to anybody.
pub const CA_PATH: &str = "/ca.pem";
const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_BYTES: usize = 64 * 1024;

/// The CA that the server at `https://HOST[:PORT]` names, whoever answers there.
pub async fn fetch_ca(server_url: &str) -> Result<Certificate, TlsError> {
    let failed = |why: String| TlsError::Fetched(why);
    let url = format!("{}{CA_PATH}", server_url.trim_end_matches('/'));
    let request = Request::get(&url).body(Empty::<Bytes>::new());
    let request = request.map_err(|_| failed(format!("{server_url} is no URL of a server")))?;
    let client = Client::builder(TokioExecutor::new()).build(Connector::with_config(unverified()?));
    let exchange = async {
        let answer = client.request(request).await.map_err(|error| {
            failed(format!("{server_url} cannot be asked for its CA: {}", crate::worker::describe(&error)))
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| failed(format!("{url} cannot be read: {error}")))?.to_bytes();
        match status {
            StatusCode::OK => Certificate::all_from_pem(&body)
                .map(|mut found| found.swap_remove(0))
                .map_err(|problem| failed(format!("{url} {problem}"))),
            StatusCode::NOT_FOUND => Err(failed(format!(
                "{server_url} names no CA of its own: its certificate is public, or of a CA that its operator hands out"
            ))),
            other => Err(failed(format!("{url} answered {other}: is it a server of Berth?"))),
        }
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(failed(format!("{server_url} did not answer in time"))))
}

/// Takes every certificate. Signatures are checked all the same, so that the handshake is a whole one.
#[derive(Debug)]
pub(super) struct Anybody(Arc<CryptoProvider>);

impl Anybody {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
