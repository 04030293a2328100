//! The registry as a client of it sees it: tokens, manifests and blobs, with a task's execution role.
//!
//! Credentials go to the configured server and nowhere else: no redirect is followed, no realm of a challenge
//! is asked, and no URL in a manifest is fetched.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use registry_aws::{Client, ClientError, Credentials};
use registry_runtime::tls::Connector;
use registry_runtime::{Clock, SecretString};
use scheduler_protocol::RoleCredentials;
use serde_json::{Value, json};

use crate::error::AgentError;
use crate::join::describe;

const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// A token is renewed this long before it ends.
const TOKEN_MARGIN_MS: i64 = 60_000;
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// On whose behalf something is fetched.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// The task's execution role.
    Role(RoleCredentials),
    /// No role: what the registry gives to anybody.
    Anonymous,
}

impl Access {
    pub(crate) fn new(role: Option<RoleCredentials>) -> Self {
        role.map_or(Self::Anonymous, Self::Role)
    }

    /// The role's ARN, or `anonymous`.
    pub(crate) fn principal(&self) -> &str {
        match self {
            Self::Role(role) => &role.role_arn,
            Self::Anonymous => "anonymous",
        }
    }
}

/// What is fetched of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

/// Why the registry gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// The role may not; the registry's words.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Missing(String),
    /// No answer, or a failure of the server: nothing is decided.
    #[error("the registry cannot be reached: {0}")]
    Away(String),
}

pub(crate) struct Upstream {
    http: HyperClient<Connector, Empty<Bytes>>,
    connector: Connector,
    server_url: String,
    region: String,
    clock: Clock,
    tokens: Mutex<HashMap<String, Token>>,
}

#[derive(Clone)]
struct Token {
    /// `Basic …` or `Bearer …`
    authorization: SecretString,
    expires_at_ms: i64,
}

impl Upstream {
    pub(crate) fn new(
        server_url: &str,
        region: &str,
        connector: Connector,
        clock: Clock,
    ) -> Result<Self, AgentError> {
        let server_url = server_url.trim_end_matches('/').to_owned();
        let url = server_url.parse::<http::Uri>().ok();
        let usable = url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")));
        if !usable {
            return Err(AgentError::ServerUrl(server_url));
        }
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(5))
            .pool_timer(TokioTimer::new())
            .build(connector.clone());
        Ok(Self { http, connector, server_url, region: region.to_owned(), clock, tokens: Mutex::default() })
    }

    /// Asks whether `access` may pull a manifest, without fetching it.
    pub(crate) async fn may_pull(
        &self,
        access: &Access,
        repository: &str,
        digest: &str,
    ) -> Result<(), UpstreamError> {
        self.request(Method::HEAD, access, repository, Kind::Manifest, digest).await.map(drop)
    }

    /// The answer to a GET with status 200; its body is not verified yet.
    pub(crate) async fn get(
        &self,
        access: &Access,
        repository: &str,
        kind: Kind,
        digest: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.request(Method::GET, access, repository, kind, digest).await
    }

    async fn request(
        &self,
        method: Method,
        access: &Access,
        repository: &str,
        kind: Kind,
        digest: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let folder = if kind == Kind::Manifest { "manifests" } else { "blobs" };
        let uri = format!("{}/v2/{repository}/{folder}/{digest}", self.server_url);
        let mut fresh = false;
        loop {
            let authorization = self.token(access, repository, fresh).await?;
            let mut request = Request::builder().method(method.clone()).uri(&uri).header(ACCEPT, MANIFESTS);
            if let Some(authorization) = &authorization {
                let mut value = HeaderValue::from_str(authorization.expose())
                    .map_err(|_| UpstreamError::Away("its token is malformed".into()))?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let request = request.body(Empty::new()).map_err(|_| {
                UpstreamError::Missing(format!("{repository}@{digest} is no name of an image"))
            })?;
            let answer = self.send(request).await?;
            match answer.status() {
                StatusCode::OK => return Ok(answer),
                StatusCode::UNAUTHORIZED if !fresh => fresh = true,
                status => return Err(self.refusal(access, repository, digest, status, answer).await),
            }
        }
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, UpstreamError> {
        match tokio::time::timeout(HEAD_TIMEOUT, self.http.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(UpstreamError::Away(describe(&error))),
            Err(_) => Err(UpstreamError::Away("no answer in time".into())),
        }
    }

    async fn refusal(
        &self,
        access: &Access,
        repository: &str,
        digest: &str,
        status: StatusCode,
        answer: Response<Incoming>,
    ) -> UpstreamError {
        let body = Limited::new(answer.into_body(), MAX_TOKEN_BYTES).collect().await;
        let value: Value =
            body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default();
        let said = value["errors"][0]["message"].as_str().unwrap_or_default();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let who = match access {
            Access::Role(role) => &role.role_arn,
            Access::Anonymous => "the task has no execution role (executionRoleArn), and anonymous",
        };
        match status {
            StatusCode::NOT_FOUND => UpstreamError::Missing(format!("{repository}@{digest} not found{said}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                UpstreamError::Denied(format!("{who} may not pull {repository}@{digest}{said}"))
            }
            other => UpstreamError::Away(format!("it answered {other}{said}")),
        }
    }

    /// The header that proves `access`, from memory unless it is about to end or `fresh` is wanted.
    async fn token(
        &self,
        access: &Access,
        repository: &str,
        fresh: bool,
    ) -> Result<Option<SecretString>, UpstreamError> {
        let key = match access {
            Access::Role(role) => role.role_arn.clone(),
            Access::Anonymous => format!("anonymous {repository}"),
        };
        let now_ms = self.clock.now_ms();
        if !fresh {
            let tokens = self.tokens.lock();
            if let Some(token) =
                tokens.get(&key).filter(|token| token.expires_at_ms > now_ms + TOKEN_MARGIN_MS)
            {
                return Ok(Some(token.authorization.clone()));
            }
        }
        let token = match access {
            Access::Role(role) => Some(self.role_token(role).await?),
            Access::Anonymous => self.anonymous_token(repository, now_ms).await?,
        };
        let mut tokens = self.tokens.lock();
        tokens.retain(|_, token| token.expires_at_ms > now_ms);
        Ok(token.map(|token| {
            tokens.insert(key, token.clone());
            token.authorization
        }))
    }

    async fn role_token(&self, role: &RoleCredentials) -> Result<Token, UpstreamError> {
        let credentials = Credentials {
            access_key_id: role.access_key_id.clone(),
            secret_access_key: role.secret_access_key.clone(),
            session_token: Some(role.session_token.clone()),
        };
        let client =
            Client::with_connector(&self.server_url, &self.region, credentials, self.connector.clone())
                .map(|client| client.with_timeout(HEAD_TIMEOUT))
                .map_err(|error| UpstreamError::Away(error.to_string()))?;
        let target = "AmazonEC2ContainerRegistry_V20150921";
        let answer = client.call("ecr", target, "GetAuthorizationToken", &json!({})).await;
        let answer = answer.map_err(|error| match error {
            ClientError::Service(refusal) if refusal.status < 500 => UpstreamError::Denied(format!(
                "{} may not get a token of the registry: {}",
                role.role_arn, refusal.message
            )),
            other => UpstreamError::Away(describe(&other)),
        })?;
        let data = &answer["authorizationData"][0];
        let token = data["authorizationToken"].as_str().filter(|token| STANDARD.decode(token).is_ok());
        let token = token.ok_or_else(|| UpstreamError::Away("its token is malformed".into()))?;
        let expires_at_ms = data["expiresAt"].as_f64().map_or(0, |seconds| (seconds * 1000.0) as i64);
        Ok(Token { authorization: SecretString::new(format!("Basic {token}")), expires_at_ms })
    }

    /// A token for the anonymous principal; none where the registry wants none.
    async fn anonymous_token(&self, repository: &str, now_ms: i64) -> Result<Option<Token>, UpstreamError> {
        let ask = |uri: String| {
            Request::builder()
                .uri(uri)
                .body(Empty::new())
                .map_err(|_| UpstreamError::Missing(format!("{repository} is no name of a repository")))
        };
        let challenge = self.send(ask(format!("{}/v2/", self.server_url))?).await?;
        if challenge.status().is_success() {
            return Ok(None);
        }
        let challenge = challenge.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let service = challenge.and_then(|text| parameter(text, "service")).unwrap_or_default();
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("service", service)
            .append_pair("scope", &format!("repository:{repository}:pull"))
            .finish();
        let answer = self.send(ask(format!("{}/token?{query}", self.server_url))?).await?;
        let status = answer.status();
        if status.is_server_error() {
            return Err(UpstreamError::Away(format!("it answered {status}")));
        }
        if !status.is_success() {
            return Err(UpstreamError::Denied(format!(
                "{repository} is not for everybody, and the task has no execution role"
            )));
        }
        let body = Limited::new(answer.into_body(), MAX_TOKEN_BYTES).collect().await;
        let body = body.map_err(|error| UpstreamError::Away(error.to_string()))?.to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = value["token"].as_str().or(value["access_token"].as_str());
        let token = token.ok_or_else(|| UpstreamError::Away("its token is malformed".into()))?;
        let seconds = value["expires_in"].as_i64().unwrap_or(60);
        Ok(Some(Token {
            authorization: SecretString::new(format!("Bearer {token}")),
            expires_at_ms: now_ms + seconds * 1000,
        }))
    }
}

/// `name="value"` in a challenge.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let start = challenge.find(&format!("{name}=\""))? + name.len() + 2;
    challenge[start..].split('"').next()
}
