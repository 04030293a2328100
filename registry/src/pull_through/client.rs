//! An upstream as a client of it sees it: tokens, redirects, and what it answers.
//!
//! Credentials and tokens go to the upstream that they are for, and to no place it redirects to. Only the head of an
//! answer has to come within a time; its body may take as long as it makes progress.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use registry_core::UpstreamCredentials;
use registry_runtime::tls::{CheckedConnector, Trust};
use registry_runtime::{Clock, SecretString};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::address::{Place, is_listed};
use super::challenge::Challenge;
use super::error::UpstreamError;

const HEAD_TIME: Duration = Duration::from_secs(20);
const TOKEN_TIME: Duration = Duration::from_secs(20);
const TOKEN_BYTES: usize = 256 * 1024;
const REDIRECTS: usize = 5;
/// A token is asked for anew this long before it ends.
const TOKEN_MARGIN_MS: i64 = 10_000;
/// How long a token counts that does not say it (distribution's token page).
const TOKEN_SECONDS: i64 = 60;
const MOST_TOKENS: usize = 1024;
const IDLE: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

const AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, */*";

/// What is asked, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    /// The repository's name there.
    pub(super) repository: String,
    pub(super) credentials: Option<UpstreamCredentials>,
    /// Which rule, and which version of it.
    pub(super) rule: (String, i64),
}

pub(super) struct Client {
    http: OnceCell<HyperClient<CheckedConnector, Empty<Bytes>>>,
    private_hosts: Arc<[String]>,
    clock: Clock,
    tokens: Mutex<HashMap<TokenKey, Token>>,
}

/// Rule, version of the rule, repository there.
type TokenKey = (String, i64, String);

#[derive(Clone)]
struct Token {
    /// `Bearer …` or `Basic …`
    authorization: SecretString,
    expires_at_ms: i64,
}

#[derive(Deserialize)]
struct GivenToken {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<i64>,
}

impl Client {
    pub(super) fn new(private_hosts: &[String], clock: Clock) -> Self {
        Self { http: OnceCell::new(), private_hosts: private_hosts.into(), clock, tokens: Mutex::default() }
    }

    /// Whether the upstream answers this registry.
    pub(super) async fn probe(&self, source: &Source) -> Result<(), UpstreamError> {
        self.ask(source, Method::GET, "/v2/").await.map(drop)
    }

    /// The answer of status 200 to a request about a manifest.
    pub(super) async fn manifest(
        &self,
        source: &Source,
        method: Method,
        reference: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let path = format!("/v2/{}/manifests/{reference}", source.repository);
        self.ask(source, method, &path).await
    }

    /// The answer of status 200 to a request for a blob.
    pub(super) async fn blob(
        &self,
        source: &Source,
        digest: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let path = format!("/v2/{}/blobs/{digest}", source.repository);
        self.ask(source, Method::GET, &path).await
    }

    /// Where the list of those begins who refer to a manifest.
    pub(super) fn referrers_url(source: &Source, subject: &str) -> Result<Url, UpstreamError> {
        let path = format!("/v2/{}/referrers/{subject}", source.repository);
        source.place.url(&path).map_err(|error| UpstreamError::Away(error.to_string()))
    }

    /// The answer of status 200 to a request for a page of such a list.
    pub(super) async fn referrers(
        &self,
        source: &Source,
        page: &Url,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.ask(source, Method::GET, page.as_str()).await
    }

    async fn ask(
        &self,
        source: &Source,
        method: Method,
        path: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let url = source.place.url(path).map_err(|error| UpstreamError::Away(error.to_string()))?;
        let mut authorization = self.remembered(source);
        let mut proven = false;
        loop {
            let answer = self.follow(source, &method, url.clone(), authorization.as_ref()).await?;
            match answer.status() {
                StatusCode::OK => return Ok(answer),
                StatusCode::UNAUTHORIZED if !proven => {
                    authorization = Some(self.prove(source, answer.headers()).await?);
                    proven = true;
                }
                StatusCode::NOT_FOUND => return Err(UpstreamError::Missing),
                StatusCode::TOO_MANY_REQUESTS => {
                    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    let retry_after = after.and_then(|text| text.parse().ok()).map(|seconds: u64| {
                        // Nobody is sent away for longer because an upstream says so.
                        Duration::from_secs(seconds).min(LONGEST_WAIT)
                    });
                    return Err(UpstreamError::TooMany { retry_after });
                }
                status if status.is_client_error() => {
                    return Err(UpstreamError::Refused(format!("it answered {status}")));
                }
                status => return Err(UpstreamError::Away(format!("it answered {status}"))),
            }
        }
    }

    /// Sends a request to wherever the upstream redirects it, what proves this registry to the upstream alone.
    async fn follow(
        &self,
        source: &Source,
        method: &Method,
        mut url: Url,
        authorization: Option<&SecretString>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        for _ in 0..=REDIRECTS {
            let authorization = authorization.filter(|_| source.place.is_own(&url));
            let answer = self.send(source, method, &url, authorization, HEAD_TIME).await?;
            let next = match answer.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => answer.headers().get(LOCATION),
                _ => return Ok(answer),
            };
            let next = next.and_then(|value| value.to_str().ok()).and_then(|text| url.join(text).ok());
            url = next.ok_or_else(|| UpstreamError::Away("its redirect leads nowhere".to_owned()))?;
        }
        Err(UpstreamError::Away("it redirects again and again".to_owned()))
    }

    async fn send(
        &self,
        source: &Source,
        method: &Method,
        url: &Url,
        authorization: Option<&SecretString>,
        within: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        if !source.place.may_lead_to(url, &self.private_hosts) {
            let to = url.host_str().unwrap_or_default();
            return Err(UpstreamError::Refused(format!("it leads to {to}, where this registry does not go")));
        }
        let mut request = Request::builder()
            .method(method.clone())
            .uri(url.as_str())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, MANIFESTS);
        if let Some(authorization) = authorization {
            let value = HeaderValue::from_str(authorization.expose());
            let mut value = value.map_err(|_| UpstreamError::Away("its token is malformed".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(|error| UpstreamError::away(&error))?;
        match tokio::time::timeout(within, self.http().await?.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(UpstreamError::away(&error)),
            Err(_) => Err(UpstreamError::Away("no answer came in time".to_owned())),
        }
    }

    /// Made when it is needed first: few registries have upstreams.
    async fn http(&self) -> Result<&HyperClient<CheckedConnector, Empty<Bytes>>, UpstreamError> {
        let make = async || {
            let private_hosts = Arc::clone(&self.private_hosts);
            let exempt = move |uri: &Uri| {
                Url::parse(&uri.to_string()).is_ok_and(|url| is_listed(&url, &private_hosts))
            };
            let connector =
                tokio::task::spawn_blocking(move || CheckedConnector::new(&Trust::system(), exempt));
            let connector = connector.await.map_err(|error| UpstreamError::away(&error))?;
            let connector = connector.map_err(|error| UpstreamError::away(&error))?;
            Ok(HyperClient::builder(TokioExecutor::new())
                .pool_idle_timeout(IDLE)
                .pool_timer(TokioTimer::new())
                .build(connector))
        };
        self.http.get_or_try_init(make).await
    }

    /// The header that the upstream's challenge asks for.
    async fn prove(&self, source: &Source, headers: &HeaderMap) -> Result<SecretString, UpstreamError> {
        let wants_other = || UpstreamError::Refused("it wants credentials".to_owned());
        let (realm, service) = match Challenge::of(headers) {
            Some(Challenge::Bearer { realm, service }) => (realm, service),
            Some(Challenge::Basic) => {
                let credentials = source.credentials.as_ref().ok_or_else(wants_other)?;
                let authorization = basic(credentials);
                self.remember(source, authorization.clone(), TOKEN_SECONDS);
                return Ok(authorization);
            }
            None => return Err(wants_other()),
        };
        let mut url = Url::parse(&realm)
            .map_err(|_| UpstreamError::Refused("it names no place to get a token".to_owned()))?;
        if source.credentials.is_some() && !source.place.may_know_credentials(&url) {
            let host = url.host_str().unwrap_or_default();
            return Err(UpstreamError::Refused(format!(
                "its credentials are not for {host}, which it names"
            )));
        }
        if let Some(service) = &service {
            url.query_pairs_mut().append_pair("service", service);
        }
        if !source.repository.is_empty() {
            let scope = format!("repository:{}:pull", source.repository);
            url.query_pairs_mut().append_pair("scope", &scope);
        }
        let credentials = source.credentials.as_ref().map(basic);
        let answer = self.send(source, &Method::GET, &url, credentials.as_ref(), TOKEN_TIME).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS => return Err(UpstreamError::TooMany { retry_after: None }),
            status if status.is_client_error() => {
                return Err(UpstreamError::Refused(format!("it gives no token: {status}")));
            }
            status => return Err(UpstreamError::Away(format!("it gives no token: {status}"))),
        }
        let body =
            tokio::time::timeout(TOKEN_TIME, Limited::new(answer.into_body(), TOKEN_BYTES).collect()).await;
        let malformed = || UpstreamError::Away("its token is malformed".to_owned());
        let body = body.map_err(|_| malformed())?.map_err(|_| malformed())?.to_bytes();
        let given: GivenToken = serde_json::from_slice(&body).map_err(|_| malformed())?;
        let token = given.token.or(given.access_token).filter(|token| !token.is_empty());
        let authorization = SecretString::new(format!("Bearer {}", token.ok_or_else(malformed)?));
        self.remember(source, authorization.clone(), given.expires_in.unwrap_or(TOKEN_SECONDS));
        Ok(authorization)
    }

    fn key(source: &Source) -> TokenKey {
        (source.rule.0.clone(), source.rule.1, source.repository.clone())
    }

    fn remembered(&self, source: &Source) -> Option<SecretString> {
        let now_ms = self.clock.now_ms();
        let tokens = self.tokens.lock();
        let token =
            tokens.get(&Self::key(source)).filter(|token| token.expires_at_ms > now_ms + TOKEN_MARGIN_MS);
        token.map(|token| token.authorization.clone())
    }

    fn remember(&self, source: &Source, authorization: SecretString, seconds: i64) {
        let now_ms = self.clock.now_ms();
        let expires_at_ms = now_ms.saturating_add(seconds.clamp(0, 86_400) * 1000);
        let mut tokens = self.tokens.lock();
        tokens.retain(|_, token| token.expires_at_ms > now_ms);
        if tokens.len() >= MOST_TOKENS {
            tokens.clear();
        }
        tokens.insert(Self::key(source), Token { authorization, expires_at_ms });
    }
}

fn basic(credentials: &UpstreamCredentials) -> SecretString {
    let pair = SecretString::new(format!("{}:{}", credentials.username, credentials.password.expose()));
    SecretString::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}
