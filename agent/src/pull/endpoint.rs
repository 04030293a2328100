//! The endpoint that the engine pulls from, on 127.0.0.1 at a port that is kept.
//!
//! It serves the manifests and blobs of pulls that this agent began, each with its own credential, and
//! answers 401 to everything else. Every byte is fetched from the registry as the task's role and verified.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use registry_runtime::Shutdown;
use registry_runtime::listener::{Limits, serve};
use registry_types::Digest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::error::AgentError;
use crate::pull::body::{matches, verified};
use crate::pull::grants::{Grant, Grants};
use crate::pull::manifest;
use crate::pull::upstream::{Kind, Upstream, UpstreamError};

/// The registry takes no larger manifest either.
const MAX_MANIFEST_BYTES: usize = 4 << 20;

struct Shared {
    grants: Grants,
    upstream: Arc<Upstream>,
}

/// Listens on the kept port, or on any when there is none yet or another process has taken it. The handle
/// ends after the shutdown, when the port is free again.
pub(crate) async fn bind(
    kept: Option<u16>,
    grants: Grants,
    upstream: Arc<Upstream>,
    shutdown: Shutdown,
) -> Result<(u16, JoinHandle<()>), AgentError> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut bound = TcpListener::bind(address(kept.unwrap_or(0))).await;
    if bound.is_err() && kept.is_some() {
        tracing::warn!(
            port = kept,
            "the port of the pull endpoint is taken; images are pulled anew from another"
        );
        bound = TcpListener::bind(address(0)).await;
    }
    let listener = bound.map_err(AgentError::PullPort)?;
    let port = listener.local_addr().map_err(AgentError::PullPort)?.port();
    let router = Router::new().fallback(answer).with_state(Arc::new(Shared { grants, upstream }));
    let served = tokio::spawn(serve(listener, router, Limits::default(), shutdown));
    Ok((port, served))
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(grant) = grant(&shared.grants, request.headers()) else {
        return unauthorized();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this endpoint is for pulls");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri().path();
    if matches!(path, "/v2" | "/v2/") {
        return axum::Json(json!({})).into_response();
    }
    let Some((repository, kind, digest)) = parse(path) else {
        return unauthorized();
    };
    if !grant.opens(repository, kind, digest.as_str()) {
        return unauthorized();
    }
    let head = *request.method() == Method::HEAD;
    let answered = match kind {
        Kind::Manifest => manifest(&shared, &grant, &digest, head).await,
        Kind::Blob => blob(&shared, &grant, &digest, head).await,
    };
    answered.unwrap_or_else(|error| {
        tracing::info!(task.arn = grant.task_arn, %digest, %error, "a pull was refused");
        match error {
            UpstreamError::Denied(message) => refuse(StatusCode::FORBIDDEN, "DENIED", &message),
            UpstreamError::Missing(message) => refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &message),
            UpstreamError::Away(message) => refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &message),
        }
    })
}

fn grant(grants: &Grants, headers: &HeaderMap) -> Option<Arc<Grant>> {
    let basic = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    grants.find(username, password)
}

/// `/v2/<repository>/manifests|blobs/<digest>`
fn parse(path: &str) -> Option<(&str, Kind, Digest)> {
    let rest = path.strip_prefix("/v2/")?;
    let (rest, digest) = rest.rsplit_once('/')?;
    let (repository, folder) = rest.rsplit_once('/')?;
    let kind = match folder {
        "manifests" => Kind::Manifest,
        "blobs" => Kind::Blob,
        _ => return None,
    };
    Some((repository, kind, digest.parse().ok()?))
}

async fn manifest(
    shared: &Shared,
    grant: &Grant,
    digest: &Digest,
    head: bool,
) -> Result<Response, UpstreamError> {
    let answer =
        shared.upstream.get(&grant.access, &grant.repository, Kind::Manifest, digest.as_str()).await?;
    let media_type = answer.headers().get(CONTENT_TYPE).cloned();
    let bytes = Limited::new(answer.into_body(), MAX_MANIFEST_BYTES).collect().await;
    let bytes = bytes.map_err(|error| UpstreamError::Away(error.to_string()))?.to_bytes();
    if !matches(&bytes, digest) {
        return Err(UpstreamError::Away(format!("what came is not {digest}")));
    }
    let named = manifest::named(&bytes).map_err(|reason| UpstreamError::Denied(reason.to_owned()))?;
    grant.extend(named);
    let length = bytes.len();
    let mut response = Response::new(if head { Body::empty() } else { Body::from(bytes) });
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, media_type.unwrap_or_else(|| HeaderValue::from_static("application/json")));
    headers.insert("docker-content-digest", header(digest));
    Ok(response)
}

async fn blob(
    shared: &Shared,
    grant: &Grant,
    digest: &Digest,
    head: bool,
) -> Result<Response, UpstreamError> {
    let answer = shared.upstream.get(&grant.access, &grant.repository, Kind::Blob, digest.as_str()).await?;
    let length = answer.headers().get(CONTENT_LENGTH).cloned();
    let body =
        if head { Body::empty() } else { Body::from_stream(verified(answer.into_body(), digest.clone())) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert("docker-content-digest", header(digest));
    Ok(response)
}

fn header(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(digest.as_str()).expect("a digest is ASCII without controls")
}

fn unauthorized() -> Response {
    let mut response =
        refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "this endpoint serves pulls of its own agent");
    let challenge = HeaderValue::from_static("Basic realm=\"berth agent\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    (status, [("docker-distribution-api-version", "registry/2.0")], axum::Json(body)).into_response()
}
