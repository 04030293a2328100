//! One request on its way through: timed from its head to the last byte of its answer, its bytes counted.
//!
//! However it ends, it is told of once: when the answer's body is done with, or the client went away before.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use policies_identity::RequestContext;
use registry_runtime::tls::CA_PATH;
use registry_runtime::{OperationName, Served};

use super::access::{AccessLog, Line};
use super::requests::Requests;

/// The code of a request whose client went away before it was answered; no answer has it.
const GONE: u16 = 499;

/// Who is told of requests.
pub(crate) struct Observer {
    pub(crate) requests: Arc<Requests>,
    pub(crate) access: AccessLog,
}

/// A request that is under way.
pub(crate) struct Passage {
    observer: Arc<Observer>,
    started: Instant,
    at_ms: i64,
    request_id: String,
    source_ip: Option<IpAddr>,
    received: Option<Arc<AtomicU64>>,
    served: Served,
    code: u16,
    sent: u64,
    answered_after: Duration,
}

impl Passage {
    /// Begins with the request's head; its body is counted from now on.
    pub(crate) fn begin(observer: &Arc<Observer>, request: Request, at_ms: i64) -> (Self, Request) {
        observer.requests.begun();
        let mut passage = Self {
            observer: Arc::clone(observer),
            started: Instant::now(),
            at_ms,
            request_id: String::new(),
            source_ip: None,
            received: None,
            served: Served { operation: of_path(request.uri().path()), principal: None },
            code: GONE,
            sent: 0,
            answered_after: Duration::ZERO,
        };
        if request.body().is_end_stream() {
            return (passage, request);
        }
        let received = Arc::<AtomicU64>::default();
        passage.received = Some(Arc::clone(&received));
        (passage, request.map(|body| Body::new(Received { body, bytes: received })))
    }

    pub(crate) fn in_context(&mut self, context: &RequestContext) {
        self.request_id.clone_from(&context.request_id);
        self.source_ip = Some(context.source_ip);
    }

    /// Goes along with the answer to its end.
    pub(crate) fn answered(mut self, mut response: Response) -> Response {
        self.code = response.status().as_u16();
        self.answered_after = self.started.elapsed();
        if let Some(served) = response.extensions_mut().remove::<Served>() {
            self.served = served;
        }
        response.map(|body| Body::new(Sent { body, passage: self }))
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let received = self.received.as_ref().map_or(0, |received| received.load(Ordering::Relaxed));
        let answered_after = if self.code == GONE { duration } else { self.answered_after };
        self.observer.requests.ended(self.served.operation, self.code, answered_after, received, self.sent);
        self.observer.access.record(Line {
            at_ms: self.at_ms,
            request_id: std::mem::take(&mut self.request_id),
            source_ip: self.source_ip,
            principal: self.served.principal.take(),
            operation: self.served.operation,
            code: self.code,
            received,
            sent: self.sent,
            duration,
        });
    }
}

/// What is known by its path alone, until a room says more.
pub(crate) fn of_path(path: &str) -> OperationName {
    match path {
        "/healthz" => OperationName::new("berth", "Healthz"),
        "/readyz" => OperationName::new("berth", "Readyz"),
        "/metrics" => OperationName::new("berth", "ReadMetrics"),
        CA_PATH => OperationName::new("berth", "GetCa"),
        scheduler::WEBSOCKET_PATH => OperationName::new("agent", "Connect"),
        scheduler::JOIN_PATH => OperationName::new("agent", "Join"),
        _ => OperationName::UNKNOWN,
    }
}

/// A request's body.
struct Received {
    body: Body,
    bytes: Arc<AtomicU64>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; the passage ends with it.
struct Sent {
    body: Body,
    passage: Passage,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.passage.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
