//! What an issuer publishes: its configuration, and in it the address of its keys. Bounded in size and time, over
//! HTTPS, without redirects, and only at public addresses unless the operator exempts a host.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use registry_runtime::tls::{Certificate, CheckedConnector, TlsError, Trust};
use registry_runtime::worker::describe;
use serde::Deserialize;

use super::Provider;
use super::keys::KeySet;

const TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST: usize = 256 * 1024;

/// The way to issuers. Cheap to clone.
#[derive(Clone)]
pub struct Issuers {
    client: Client<CheckedConnector, Empty<Bytes>>,
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl Issuers {
    /// Issuers whose certificates this machine trusts, or one of `authorities`; `private_hosts` (`HOST` or
    /// `HOST:PORT`) may lie anywhere, all others on the public internet.
    ///
    /// # Errors
    /// When there are no certificates to trust.
    pub fn new(authorities: Vec<Certificate>, private_hosts: Vec<String>) -> Result<Self, TlsError> {
        let trust = authorities.into_iter().fold(Trust::system(), Trust::and);
        let exempt = move |url: &Uri| private_hosts.iter().any(|host| names(host, url));
        let connector = CheckedConnector::new(&trust, exempt)?;
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client })
    }

    /// The keys that a provider's issuer publishes now.
    ///
    /// # Errors
    /// One line that says what is wrong there.
    pub(super) async fn keys_of(&self, provider: &Provider) -> Result<KeySet, String> {
        let issuer = provider.url();
        let configuration = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let configuration = self.get(&configuration).await?;
        let configuration: Configuration = serde_json::from_slice(&configuration)
            .map_err(|_| format!("the configuration of {issuer} cannot be read"))?;
        if configuration.issuer != issuer {
            return Err(format!("{issuer} says that it is another issuer"));
        }
        KeySet::read(&self.get(&configuration.jwks_uri).await?)
            .ok_or_else(|| format!("the keys of {issuer} cannot be read"))
    }

    async fn get(&self, url: &str) -> Result<Bytes, String> {
        let uri: Uri = url.parse().map_err(|_| "an address of the issuer is no URL".to_owned())?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url} is not https"));
        }
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "berth")
            .body(Empty::new())
            .map_err(|_| "an address of the issuer is no URL".to_owned())?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| describe(&error))?;
            // A redirect could lead anywhere.
            if response.status() != StatusCode::OK {
                return Err(format!("{url} answers {}", response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            body.map(|body| body.to_bytes()).map_err(|_| format!("{url} answers too much, or broke off"))
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{url} did not answer within {} seconds", TIMEOUT.as_secs())),
        }
    }
}

/// Whether a setting names the host of a URL, with or without its port.
fn names(setting: &str, url: &Uri) -> bool {
    let Some(host) = url.host() else { return false };
    let port = url.port_u16().unwrap_or(443);
    setting.eq_ignore_ascii_case(host) || setting.eq_ignore_ascii_case(&format!("{host}:{port}"))
}
