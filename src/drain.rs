//! Reads on for a while when a request was answered before its body was.
//!
//! Many clients send the whole body before they look at the answer; closing at once resets the connection, and
//! they never see why they were refused. Bounded in bytes and time; a client that said `Expect: 100-continue`
//! waits for the answer and is not read at all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

/// What is read of a refused body at the most: a manifest of twice the limit, a few chunks of a layer.
const BYTES: u64 = 8 << 20;
const TIME: Duration = Duration::from_secs(5);

/// Answers, then drains what the answer left unread of the body.
pub(crate) async fn drain_refused_body(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let unread = Arc::new(Mutex::new(None));
    let lent = Arc::clone(&unread);
    let request = request.map(|body| Body::new(Lent { body: Some(body), unread: lent }));
    let response = next.run(request).await;
    let body = unread.lock().take();
    if let Some(body) = body {
        // Whatever goes wrong here, the answer stands.
        let _ = tokio::time::timeout(TIME, read(body)).await;
    }
    response
}

async fn read(mut body: Body) {
    let mut left = BYTES;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        left = match left.checked_sub(length as u64) {
            Some(left) => left,
            None => return,
        };
    }
}

/// A body that goes back to its owner when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    unread: Arc<Mutex<Option<Body>>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.unread.lock() = self.body.take().filter(|body| !body.is_end_stream());
    }
}
