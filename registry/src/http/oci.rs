//! The OCI distribution protocol: `/v2/…`.
//!
//! Every request goes route, operation, authentication, gate, one call into the core, answer. The gate comes
//! before anything that depends on what exists. Nothing is ever content-encoded: bytes leave exactly as they
//! were pushed.

mod blobs;
mod catalog;
mod content_range;
mod error;
mod gate;
mod manifests;
mod mount;
mod namespace;
mod operation;
mod query;
mod referrers;
mod route;
mod tags;
mod through;
pub(in crate::http) mod ticket;
mod uploads;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use policies_identity::{Identity, RequestContext};
use registry_core::Registry;
use registry_runtime::{OperationName, Served};
use registry_types::Digest;

use self::error::OciError;
use self::gate::Gate;
use self::mount::Wish;
use self::namespace::Namespaces;
use self::operation::Operation;
use self::query::Query;
use self::route::{Route, Target};
use crate::access::Access;
use crate::pull_through::{PullThrough, PullThroughConfig};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What the OCI service needs. Cheap to clone.
#[derive(Clone)]
pub struct Oci {
    inner: Arc<Service>,
}

struct Service {
    registry: Registry,
    identity: Identity,
    access: Arc<Access>,
    /// HOST[:PORT] that clients reach this registry by; the request's own host where none is set.
    advertise: Option<String>,
    namespaces: Namespaces,
    pull_through: PullThrough,
}

impl Oci {
    /// What the audit log calls each operation of the protocol.
    pub fn operations() -> impl Iterator<Item = &'static str> {
        Operation::ALL.into_iter().map(Operation::name)
    }

    pub fn new(
        registry: Registry,
        identity: Identity,
        access: Arc<Access>,
        advertise: Option<String>,
    ) -> Self {
        let config = PullThroughConfig::default();
        let pull_through = PullThrough::new(registry.clone(), identity.clone(), Arc::clone(&access), config);
        let namespaces = Namespaces::default();
        Self { inner: Arc::new(Service { registry, identity, access, advertise, namespaces, pull_through }) }
    }

    /// The same, as the mirror of other registries too: `own` are the names that stand for this one, `mirrors`
    /// those of others with the prefix of the repositories that are theirs here. `pull_through` fills repositories.
    pub fn with_upstreams(
        registry: Registry,
        identity: Identity,
        access: Arc<Access>,
        advertise: Option<String>,
        own: Vec<String>,
        mirrors: BTreeMap<String, String>,
        pull_through: PullThrough,
    ) -> Self {
        let namespaces = Namespaces::new(own, mirrors);
        Self { inner: Arc::new(Service { registry, identity, access, advertise, namespaces, pull_through }) }
    }

    /// `/v2` and everything below it, to be merged into the front door's router.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v2", any(handle))
            .route("/v2/", any(handle))
            .route("/v2/{*rest}", any(handle))
            .with_state(self)
    }
}

/// What a request says beside its path.
struct Asked<'a> {
    operation: Operation,
    headers: &'a HeaderMap,
    query: &'a Query,
    body: Body,
}

async fn handle(
    State(oci): State<Oci>,
    Extension(context): Extension<RequestContext>,
    request: Request,
) -> Response {
    let head = request.method() == Method::HEAD;
    let mut served = Served::of("oci", OperationName::UNKNOWN.name);
    let mut response = match oci.inner.respond(context, request, &mut served).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(served);
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    // What somebody pushed is what its type says, and to no browser a page.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if head { head_of(response) } else { response }
}

/// What HEAD answers where GET would answer this. A length that is told is that of the body which GET would send
/// (RFC 9110 8.6), so a refusal tells none: it may name the action, and thus not be worded as GET's.
fn head_of(mut response: Response) -> Response {
    if !response.status().is_success() {
        let of_unknown_length = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
        return response.map(|_| of_unknown_length);
    }
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    response.map(|_| Body::empty())
}

impl Service {
    async fn respond(
        &self,
        context: RequestContext,
        request: Request,
        served: &mut Served,
    ) -> Result<Response, OciError> {
        let (mut parts, body) = request.into_parts();
        let mut route = Route::parse(&parts.method, parts.uri.path());
        let query = Query::parse(parts.uri.query());
        let namespace = match &mut route {
            Ok(route) => self.namespaces.apply(&parts.method, &query, route)?,
            Err(_) => None,
        };
        if let Ok(route) = &route {
            served.operation = route.operation().named();
        }
        ticket::present(&mut parts.headers, &query, route.as_ref().ok());
        let mount = Wish::of(&query);
        let gate = Gate::open(self, &parts.headers, context, route.as_ref().ok(), mount.as_ref())?;
        served.principal = Some(gate.shared_principal());
        let route = route?;
        gate.check_scope(&route)?;
        let (operation, name, target) = match route {
            Route::Ping => return self.ping(&gate),
            Route::Catalog => return self.catalog(&gate, &query).await,
            Route::In { operation, name, target } => (operation, name, target),
        };
        let asked = Asked { operation, headers: &parts.headers, query: &query, body };
        let answer = match target {
            Target::Tags => self.list_tags(&gate, &name, &query).await,
            Target::Referrers(digest) => self.list_referrers(&gate, &name, &digest, &query).await,
            Target::Blob(digest) => self.blob(&gate, &name, &digest, operation, asked.headers).await,
            // Boxed: pushing needs room that the futures of every other request would have to hold too.
            Target::Manifest(reference) => self.manifest(&gate, &name, reference, asked).await,
            Target::Uploads => Box::pin(self.post_upload(&gate, &name, mount, asked)).await,
            Target::Upload(uid) => Box::pin(self.upload(&gate, &name, uid, asked)).await,
        };
        answer.map(|mut response| {
            namespace::note(&mut response, namespace);
            response
        })
    }

    /// What `docker login` asks: whether the credentials are good.
    fn ping(&self, gate: &Gate<'_>) -> Result<Response, OciError> {
        gate.ping()?;
        Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "{}").into_response())
    }
}

/// A header value of text that is known to be plain ASCII: digests, names, numbers.
fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The strong validator of content: its digest, quoted.
fn etag(digest: &Digest) -> HeaderValue {
    plain(&format!("\"{digest}\""))
}

/// Whether the client holds this content already (RFC 9110 13.1.2; some clients leave the quotes out).
fn is_unchanged(headers: &HeaderMap, digest: &Digest) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == digest.as_str()
        })
    })
}

/// The length that the client declared of its body.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
