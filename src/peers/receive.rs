//! The receiving side: what other servers pass on to the leader.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use policies_identity::{Identity, RequestContext};
use registry_runtime::{Clock, Served};

use super::{GENERATION, IN_CLEAR, ON_THE_MACHINE, OVER_TLS, PRINCIPAL, REQUEST_ID, SOURCE, TRANSPORT};

struct Receiver {
    identity: Identity,
    clock: Clock,
}

/// `rooms` as other servers reach them.
pub(crate) fn router(identity: Identity, clock: Clock, rooms: Router) -> Router {
    rooms.layer(middleware::from_fn_with_state(Arc::new(Receiver { identity, clock }), enter))
}

/// What the sender knows of the request takes the place of what the connection between the servers would say.
async fn enter(State(receiver): State<Arc<Receiver>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some((context, generation)) = context(&parts, receiver.clock.now_ms()) else {
        return (StatusCode::BAD_REQUEST, "not a request of another server\n").into_response();
    };
    for name in [SOURCE, TRANSPORT, GENERATION, REQUEST_ID] {
        parts.headers.remove(name);
    }
    // What the sender has read is read here too before anything is decided; older is refused by the gate.
    if generation > receiver.identity.security_generation()
        && let Err(error) = receiver.identity.refresh().await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "the policies could not be read");
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    parts.extensions.insert(context);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    // For the sender's access line.
    let principal = response.extensions_mut().remove::<Served>().and_then(|served| served.principal);
    if let Some(value) = principal.and_then(|principal| HeaderValue::from_str(&principal).ok()) {
        response.headers_mut().insert(PRINCIPAL, value);
    }
    response
}

fn context(parts: &Parts, now_ms: i64) -> Option<(RequestContext, i64)> {
    let text = |name: &str| {
        let mut values = parts.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    let (secure_transport, confidential) = match text(TRANSPORT)? {
        OVER_TLS => (true, true),
        ON_THE_MACHINE => (false, true),
        IN_CLEAR => (false, false),
        _ => return None,
    };
    let context = RequestContext {
        request_id: text(REQUEST_ID)?.to_owned(),
        source_ip: text(SOURCE)?.parse::<IpAddr>().ok()?,
        secure_transport,
        confidential,
        ..RequestContext::of(parts, &[], now_ms).ok()?
    };
    Some((context, text(GENERATION)?.parse().ok()?))
}
