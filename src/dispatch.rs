//! The front door: which service a request is for.
//!
//! `/v2`, `/token` to the registry; `/ws`, `/join` to the scheduler; `POST /` to the AWS services and Berth's own
//! operations, told apart by `X-Amz-Target`, or by the signature's scope for Query requests. Nothing here
//! decides anything: every service asks the gate itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use policies_identity::{AwsApi, ContextError, Identity, RequestContext, serve_aws};
use registry_aws::AwsError;
use registry_runtime::{Clock, Throttle, network_of};
use registry_sql::Database;
use serde_json::json;

use crate::drain::drain_refused_body;
use crate::observe::{Observer, Passage};
use crate::peers::{Peers, pass_on};

/// What is answered whatever the database does.
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";

/// The AWS-style services behind `POST /`.
pub(crate) struct Services {
    pub(crate) identity: Identity,
    /// Those told apart by `X-Amz-Target`.
    pub(crate) json: Vec<Arc<dyn AwsApi>>,
    /// Those told apart by the scope of the signature; the first answers what is not signed.
    pub(crate) query: Vec<Arc<dyn AwsApi>>,
}

/// Whether requests are served, for `/readyz`: everything has started, and the database takes writes.
#[derive(Clone)]
pub(crate) struct Ready {
    started: Arc<AtomicBool>,
    database: Database,
    problems: Vec<Problem>,
}

/// What somebody should look at, while there is something; requests are served all the same.
type Problem = Arc<dyn Fn() -> Option<String> + Send + Sync>;

impl Ready {
    pub(crate) fn new(database: Database) -> Self {
        Self { started: Arc::default(), database, problems: Vec::new() }
    }

    /// Adds what `/readyz` reports to this machine's operator.
    pub(crate) fn report(&mut self, problem: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.problems.push(Arc::new(problem));
    }

    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.started.load(Ordering::Acquire) && self.database.is_healthy()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.iter().filter_map(|problem| problem()).collect()
    }
}

/// The whole of what the listener serves: `rooms` are the routes that are told apart by path.
pub(crate) fn router(
    front: Front,
    services: Services,
    rooms: Router,
    ready: Ready,
    peers: Option<Arc<Peers>>,
) -> Router {
    let mut rooms = rooms.merge(service_router(services));
    if let Some(peers) = peers {
        rooms = rooms.layer(middleware::from_fn_with_state(peers, pass_on));
    }
    Router::new()
        .route(HEALTHZ, get(|| async { Json(json!({ "status": "ok" })) }))
        .route(READYZ, get(readyz).with_state(ready))
        .merge(rooms)
        .layer(middleware::from_fn(drain_refused_body))
        .layer(middleware::from_fn_with_state(Arc::new(front), enter))
}

/// `POST /`, and `GET /` where the query is signed.
pub(crate) fn service_router(services: Services) -> Router {
    Router::new().route("/", post(aws).get(presigned)).with_state(Arc::new(services))
}

/// Strangers learn the status alone; who asks from this machine learns what is wrong, too.
async fn readyz(State(ready): State<Ready>, Extension(context): Extension<RequestContext>) -> Response {
    let (status, text) = match ready.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let mut body = json!({ "status": text });
    if context.confidential && context.source_ip.is_loopback() {
        let problems = ready.problems();
        if !problems.is_empty() {
            body["problems"] = json!(problems);
        }
    }
    (status, Json(body)).into_response()
}

/// Who a request comes from, and which forwarded headers count.
pub(crate) struct Front {
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Requests of each client's network. Loopback and proxies speak for many and are not counted.
    pub(crate) throttle: Option<Throttle<IpAddr>>,
    pub(crate) observer: Arc<Observer>,
}

/// Leaves the circumstances of the request for the rooms behind. Servers speak to each other on a listener of
/// their own: whoever pretends to be one here is refused.
async fn enter(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let now_ms = front.clock.now_ms();
    let (mut passage, request) = Passage::begin(&front.observer, request, now_ms);
    let response = pass(&front, request, next, now_ms, &mut passage).await;
    passage.answered(response)
}

async fn pass(front: &Front, request: Request, next: Next, now_ms: i64, passage: &mut Passage) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.headers.keys().any(|name| name.as_str().starts_with("x-berth-")) {
        return (StatusCode::BAD_REQUEST, "x-berth- headers are not accepted\n").into_response();
    }
    match RequestContext::of(&parts, &front.trusted_proxies, now_ms) {
        Ok(context) => {
            passage.in_context(&context);
            if let Err(wait) = front.admit(context.source_ip) {
                return throttled(&parts, wait);
            }
            parts.extensions.insert(context)
        }
        Err(error @ ContextError::Host) => {
            return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
        }
        Err(ContextError::Peer) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    if !matches!(parts.uri.path(), HEALTHZ | READYZ) {
        front.identity.confirm().await;
    }
    front.identity.recorded(next.run(Request::from_parts(parts, body))).await
}

impl Front {
    fn admit(&self, client: IpAddr) -> Result<(), Duration> {
        match &self.throttle {
            Some(throttle) if !client.is_loopback() && !self.trusted_proxies.contains(&client) => {
                throttle.ask(&network_of(client))
            }
            _ => Ok(()),
        }
    }
}

/// The refusal of a client that asks too often, as the protocol says it that it speaks.
fn throttled(parts: &Parts, wait: Duration) -> Response {
    let retry_after = [(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))];
    let path = parts.uri.path();
    if parts.method == Method::POST && path == "/" {
        let id = registry_runtime::random_id();
        let answer = match parts.headers.contains_key("x-amz-target") {
            true => AwsError::throttling().to_json_response(&id),
            false => AwsError::throttling().to_query_xml_response(&id),
        };
        return (retry_after, answer.map(Body::from)).into_response();
    }
    let message = "there were too many requests; wait as Retry-After says";
    let body = json!({ "errors": [{ "code": "TOOMANYREQUESTS", "message": message }] });
    (StatusCode::TOO_MANY_REQUESTS, retry_after, Json(body)).into_response()
}

async fn presigned(services: State<Arc<Services>>, request: Request) -> Response {
    match request.uri().query().and_then(presigned_for) {
        Some(_) => aws(services, request).await,
        None => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response(),
    }
}

async fn aws(State(services): State<Arc<Services>>, request: Request) -> Response {
    match services.find(&request) {
        Some(api) => serve_aws(&services.identity, api.as_ref(), request).await,
        None => {
            AwsError::unknown_operation().to_json_response(&registry_runtime::random_id()).map(Body::from)
        }
    }
}

/// The service in `Credential=KEY/DATE/REGION/SERVICE/aws4_request`. Nothing is believed of it: the service it
/// names verifies the signature.
fn signing_name(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    let scope = credential.split(',').next()?;
    scope.split('/').nth(3)
}

/// The service in the `X-Amz-Credential` of a query; as little is believed of it.
fn presigned_for(query: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, credential) =
        pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("X-Amz-Credential"))?;
    let scope = credential.replace("%2F", "/").replace("%2f", "/");
    scope.split('/').nth(3).map(str::to_owned)
}

impl Services {
    fn find(&self, request: &Request) -> Option<&Arc<dyn AwsApi>> {
        let Some(target) = request.headers().get("x-amz-target") else {
            if let Some(service) = request.uri().query().and_then(presigned_for) {
                return self.query.iter().find(|api| api.signing_name() == service).or(self.query.first());
            }
            let content_type = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
            if !content_type.starts_with("application/x-www-form-urlencoded") {
                return None;
            }
            let authorization =
                request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let service = authorization.and_then(signing_name).unwrap_or_default();
            return self.query.iter().find(|api| api.signing_name() == service).or(self.query.first());
        };
        let (prefix, operation) = target.to_str().ok()?.rsplit_once('.')?;
        let mut of_prefix = self.json.iter().filter(|api| api.target_prefix() == prefix);
        // Berth's own operations live in several rooms under one target; unknown ones go to any, to be refused.
        let knows = |api: &&Arc<dyn AwsApi>| api.operations().contains(&operation);
        of_prefix.clone().find(knows).or_else(|| of_prefix.next())
    }
}
