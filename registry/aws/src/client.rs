//! A client for JSON 1.1 operations, signed with SigV4; the agent and the command line speak through it.
//!
//! One client keeps its connections alive and is cheap to clone. It makes one attempt per call:
//! whether to repeat is for the caller to decide, who knows which operations may be.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client as HyperClient, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use thiserror::Error;

use crate::credentials::Credentials;
use crate::error::AwsError;
use crate::json::CONTENT_TYPE;
use crate::sigv4;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read; pages of every API are far smaller.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The service answered with an error of its protocol.
    #[error(transparent)]
    Service(#[from] AwsError),
    /// The endpoint cannot be used.
    #[error("{0}")]
    Endpoint(String),
    /// No answer, or none that can be understood. The call may have been carried out.
    #[error("{what}")]
    Transport {
        what: &'static str,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// A connection pool to one endpoint with one principal's credentials.
#[derive(Clone)]
pub struct Client {
    http: Arc<dyn Http>,
    shared: Arc<Shared>,
}

/// A pool of connections, whatever makes them.
trait Http: Send + Sync {
    fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture;
}

impl<C: Connect + Clone + Send + Sync + 'static> Http for HyperClient<C, Full<Bytes>> {
    fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        HyperClient::request(self, request)
    }
}

#[derive(Clone)]
struct Shared {
    endpoint: Uri,
    region: String,
    credentials: Credentials,
    timeout: Duration,
}

impl Client {
    /// A client for an endpoint such as `http://127.0.0.1:5000`. Nothing is connected yet.
    pub fn new(endpoint: &str, region: &str, credentials: Credentials) -> Result<Self, ClientError> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        if endpoint.starts_with("https:") {
            return Err(ClientError::Endpoint(format!("'{endpoint}' needs a client that speaks TLS")));
        }
        Self::with_connector(endpoint, region, credentials, connector)
    }

    /// As `new`, over the connections that `connector` makes; one that speaks TLS takes `https://` too.
    pub fn with_connector<C>(
        endpoint: &str,
        region: &str,
        credentials: Credentials,
        connector: C,
    ) -> Result<Self, ClientError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let endpoint = parse_endpoint(endpoint)?;
        let shared = Shared { endpoint, region: region.to_owned(), credentials, timeout: CALL_TIMEOUT };
        Ok(Self { http: Arc::new(http), shared: Arc::new(shared) })
    }

    /// The same client with a bound on each whole call instead of 60 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.timeout = timeout;
        self
    }

    /// Calls an operation: `call("ecs", "AmazonEC2ContainerServiceV20141113", "RunTask", &input)`.
    pub async fn call(
        &self,
        service: &str,
        target_prefix: &str,
        operation: &str,
        input: &Value,
    ) -> Result<Value, ClientError> {
        let body = Bytes::from(input.to_string());
        let request = self.request(service, &format!("{target_prefix}.{operation}"), body)?;
        match tokio::time::timeout(self.shared.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Transport { what: "the server did not answer in time", source: None }),
        }
    }

    fn request(&self, service: &str, target: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        let target = HeaderValue::from_str(target)
            .map_err(|_| ClientError::Endpoint(format!("'{target}' is no target")))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.shared.endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert("x-amz-target", target);
        let (mut parts, ()) = request.into_parts();
        sigv4::sign(&mut parts, &self.shared.credentials, &self.shared.region, service, &body, now_ms());
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Value, ClientError> {
        let transport = |what| move |source| ClientError::Transport { what, source: Some(source) };
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|source| transport("the server cannot be reached")(source.into()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|source| {
            let too_large = source.downcast_ref::<LengthLimitError>().is_some();
            let what = if too_large { "the answer is too large" } else { "the answer broke off" };
            transport(what)(source)
        })?;
        let body = body.to_bytes();
        if !status.is_success() {
            return Err(ClientError::Service(service_error(status.as_u16(), &body)));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|source| transport("the answer is not JSON")(source.into()))
    }
}

/// The error of a JSON answer; a proxy's page without a type keeps its status.
fn service_error(status: u16, body: &[u8]) -> AwsError {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: [&str; 2]| names.iter().find_map(|name| value.get(*name)?.as_str());
    // Types may come with a namespace and a colon's tail: "com.amazonaws.ecs#ClientException:http://…".
    let code = text(["__type", "code"])
        .map(|code| code.rsplit('#').next().unwrap_or(code))
        .map(|code| code.split(':').next().unwrap_or(code).to_owned())
        .unwrap_or_else(|| format!("HTTP{status}"));
    let message = text(["message", "Message"]).unwrap_or("the server gave no reason");
    AwsError::new(status, code, message)
}

fn parse_endpoint(endpoint: &str) -> Result<Uri, ClientError> {
    let unusable = |why: &str| ClientError::Endpoint(format!("the endpoint '{endpoint}' {why}"));
    let uri: Uri = endpoint.parse().map_err(|_| unusable("is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) | None => return Err(unusable("must start with http:// or https://")),
    }
    let authority = uri.authority().ok_or_else(|| unusable("names no host"))?;
    if authority.as_str().contains('@') || uri.query().is_some() || uri.path() != "/" {
        return Err(unusable("must be a scheme, a host and a port, nothing more"));
    }
    Ok(uri)
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
