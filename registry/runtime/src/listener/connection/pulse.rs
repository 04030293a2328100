//! Whether a connection still moves.
//!
//! HTTP/1.1 is watched by hyper between requests and by the kernel while an answer goes out. Neither sees an HTTP/2
//! client that answers every ping and opens no window for what it asked for, or asks for nothing any more: it would
//! keep its place for ever. Invariant: what the server itself works on never counts against its client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::Version;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// What is known of one connection.
pub(in crate::listener) struct Pulse {
    accepted: Instant,
    /// Set once a request has come.
    asked: AtomicBool,
    is_http2: AtomicBool,
    /// Requests that the server has not begun to answer.
    at_work: AtomicUsize,
    /// When something last moved, in milliseconds since it was accepted.
    moved_ms: AtomicU64,
}

impl Pulse {
    pub(in crate::listener) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            asked: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            at_work: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
        })
    }

    /// Notes a request; `Some` where it is to be watched until its answer begins.
    pub(super) fn ask(self: &Arc<Self>, version: Version) -> Option<Work> {
        self.asked.store(true, Ordering::Relaxed);
        if version != Version::HTTP_2 {
            return None;
        }
        self.is_http2.store(true, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        self.note_move();
        Some(Work(Arc::clone(self)))
    }

    fn note_move(&self) {
        let since = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(since, Ordering::Relaxed);
    }

    /// Returns when nothing was asked for within `head_time`, or nothing has moved for `stalled`. hyper's own timer
    /// starts only once it knows which protocol is spoken, which a silent client never tells.
    pub(in crate::listener) async fn stopped(&self, head_time: Duration, stalled: Duration) {
        tokio::time::sleep_until(self.accepted + head_time).await;
        if !self.asked.load(Ordering::Relaxed) {
            return;
        }
        if !self.is_http2.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        loop {
            let moved = self.accepted + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let until = match self.at_work.load(Ordering::Relaxed) {
                0 => moved + stalled,
                _ => Instant::now() + stalled,
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A request that the server works on.
pub(super) struct Work(Arc<Pulse>);

impl Work {
    /// The answer begins: from now on the client has to take it.
    pub(super) fn answer(self) -> Arc<Pulse> {
        Arc::clone(&self.0)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.note_move();
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; what is taken of it is a move of its connection.
pub(in crate::listener) struct Moving {
    body: Body,
    pulse: Option<Arc<Pulse>>,
}

impl Moving {
    pub(super) fn new(body: Body, pulse: Option<Arc<Pulse>>) -> Self {
        Self { body, pulse }
    }
}

impl HttpBody for Moving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(_), Some(pulse)) = (&polled, &self.pulse) {
            pulse.note_move();
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
