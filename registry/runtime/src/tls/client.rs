//! The client side: one connector for everything that Berth itself asks of a server, over HTTP and HTTPS.
//!
//! A connector trusts what its [`Trust`] names and nothing else. Its errors are one line that says what to do,
//! because they end at somebody's command.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::UnixTime;
use tokio::net::TcpStream;
use tower::Service;

use super::certificate::date;
use super::{Certificate, TlsError, provider};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose word counts for a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    system: bool,
    authorities: Vec<Certificate>,
}

impl Trust {
    /// What this machine trusts: public certificates, and what its operator added (`SSL_CERT_FILE`).
    pub fn system() -> Trust {
        Trust { system: true, authorities: Vec::new() }
    }

    /// These and nobody else.
    pub fn only(authorities: Vec<Certificate>) -> Trust {
        Trust { system: false, authorities }
    }

    /// The certificates of a PEM file and nobody else.
    pub fn file(path: &Path) -> Result<Trust, TlsError> {
        Certificate::all_from_file(path).map(Trust::only)
    }

    /// The same, and `authority` too.
    pub fn and(mut self, authority: Certificate) -> Trust {
        self.authorities.push(authority);
        self
    }

    /// All that this machine trusts.
    pub fn system_certificates() -> Vec<Certificate> {
        let loaded = rustls_native_certs::load_native_certs().certs;
        loaded.into_iter().filter_map(Certificate::from_der).collect()
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if self.system {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for authority in &self.authorities {
            roots.add(authority.der().clone()).map_err(|error| {
                TlsError::Fetched(format!("the CA {} cannot be used: {error}", authority.fingerprint()))
            })?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(roots)
    }
}

/// Connects to one server, by `http://` or `https://` as the URL says. Cheap to clone.
#[derive(Clone)]
pub struct Connector(HttpsConnector<HttpConnector>);

/// An open connection.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Stream, ConnectionError>> + Send>>;

impl Connector {
    /// A connector for the server at `url`. What `trust` names is read only when the URL is one of `https`.
    pub fn new(url: &str, trust: &Trust) -> Result<Connector, TlsError> {
        let roots = if url.starts_with("https://") { trust.roots()? } else { RootCertStore::empty() };
        let builder = client_config()?.with_root_certificates(roots);
        Ok(Connector::with_config(builder.with_no_client_auth()))
    }

    pub(super) fn with_config(config: ClientConfig) -> Connector {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_nodelay(true);
        http.enforce_http(false);
        Connector(HttpsConnector::from((http, config)))
    }

    /// Opens one connection, for what is not a plain request.
    pub async fn open(&self, url: Uri) -> Result<TokioIo<Stream>, ConnectionError> {
        let mut connector = self.clone();
        connector.call(url).await.map(TokioIo::new)
    }
}

pub(super) fn client_config() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError>
{
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Issue(error.into()))
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectionError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.0.poll_ready(context).map_err(|error| ConnectionError(error.to_string()))
    }

    fn call(&mut self, url: Uri) -> Connecting {
        let connecting = self.0.call(url.clone());
        Box::pin(async move { connecting.await.map_err(|error| ConnectionError(explain(&url, &*error))) })
    }
}

/// Why there is no connection, with what can be done about it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionError(String);

impl fmt::Debug for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ConnectionError {}

impl ConnectionError {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

/// One line about a connection that failed.
pub(super) fn explain(url: &Uri, error: &(dyn Error + 'static)) -> String {
    let server = url.authority().map_or_else(|| url.to_string(), ToString::to_string);
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(problem)) => about_certificate(&server, problem),
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{server} does not speak TLS: is it http:// there?")
        }
        Some(other) => format!("no TLS with {server}: {other}"),
        None => crate::worker::describe(error),
    }
}

fn about_certificate(server: &str, problem: &CertificateError) -> String {
    let seconds = |time: &UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match problem {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate of {server} lapsed on {}: renew it there", date(seconds(not_after)))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the certificate of {server} is not valid before {}: is this machine's clock right?",
            date(seconds(not_before))
        ),
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the certificate of {server} is not for that name but for {}: use one of them, or set `advertise` or \
             `registry_names` on the server",
            names(presented)
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {server} is not signed by a CA that is trusted here; `berth trust {server}` \
             shows and installs the server's CA, --ca-file FILE names it for one command"
        ),
        _ => format!("the certificate of {server} cannot be accepted: {problem}"),
    }
}

/// `DnsName("a")` and `IpAddress(…)` as people write them.
fn names(presented: &[String]) -> String {
    let bare = presented.iter().map(|name| {
        let quoted = name.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
        quoted.unwrap_or(name).to_owned()
    });
    let all: Vec<String> = bare.collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// The TLS error in a chain of causes: rustls's own are wrapped into errors of I/O.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = tls_error(wrapped)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A configuration that takes any certificate at all, for [`super::fetch_ca`] alone.
pub(super) fn unverified() -> Result<ClientConfig, TlsError> {
    let verifier = Arc::new(super::fetch::Anybody::new(provider()));
    Ok(client_config()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}
