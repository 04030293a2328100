//! Serves an axum router over TCP, HTTP/1.1 and HTTP/2 on the same port.
//!
//! Bounded in what a stranger can hold open: connections, the time and size of a request's head, streams.
//! Invariant: requests that were accepted are finished within the grace; none is accepted after the shutdown
//! has begun.

mod crowd;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Service;

use self::crowd::Crowd;
use crate::Shutdown;

/// The address at the other end of the connection, as an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What a stranger can hold open.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at once of one address; further ones are closed. Loopback is not counted.
    pub connections_per_address: usize,
    /// Addresses that speak for many: proxies. They are not counted either.
    pub shared_addresses: Vec<IpAddr>,
    /// Time for the whole head of a request; also how long a connection may idle between two.
    pub head_time: Duration,
    /// Bytes of all header names and values together; more is answered 431.
    pub head_bytes: usize,
    /// Number of header fields; more is answered 431.
    pub head_fields: usize,
    /// How long a client may take nothing of what it is sent; a connection that stands still for longer ends.
    pub stalled: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// How long requests may take to finish once the shutdown has begun.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            connections_per_address: 4096,
            shared_addresses: Vec::new(),
            head_time: Duration::from_secs(10),
            head_bytes: 64 * 1024,
            head_fields: 128,
            // A client that unpacks while it downloads may pause for a while.
            stalled: Duration::from_secs(300),
            streams: 128,
            grace: Duration::from_secs(10),
        }
    }
}

/// Serves until the shutdown begins and the requests in flight are finished, or their grace is over.
/// Connections that were upgraded (websockets) are not waited for: whoever holds one listens to the shutdown.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) {
    let server = server(&limits);
    let graceful = GracefulShutdown::new();
    let crowd = Crowd::new(limits.connections_per_address, &limits.shared_addresses);
    let places = Arc::new(Semaphore::new(limits.connections));
    // Ends what outlives the grace.
    let abort = Shutdown::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            () = shutdown.begun() => break,
        };
        let (stream, address) = tokio::select! {
            accepted = accept(&listener, limits.stalled) => accepted,
            () = shutdown.begun() => break,
        };
        let Some(guest) = crowd.enter(address.ip()) else { continue };
        let front = Front {
            router: router.clone(),
            peer: Peer(address),
            head_bytes: limits.head_bytes,
            asked: Arc::new(AtomicBool::new(false)),
        };
        let (asked, head_time, abort) = (Arc::clone(&front.asked), limits.head_time, abort.clone());
        let watcher = graceful.watcher();
        let server = server.clone();
        tokio::spawn(async move {
            let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), front);
            let mut connection = std::pin::pin!(watcher.watch(connection));
            // Errors are the client's: a reset, a malformed head, a timeout. hyper has answered them.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = silent(asked, head_time) => {}
                () = abort.begun() => {}
            }
            drop((place, guest));
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace_ms = limits.grace.as_millis(), "requests were cut off at the end of the grace");
    }
    abort.begin();
}

/// Raises the limit of open files to what the system allows this process: one connection is one file.
pub fn raise_open_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn server(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_headers(limits.head_fields)
        // Larger than a head may be, because bodies are read through the same buffer.
        .max_buf_size(256 * 1024);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        // Room for large layers without waiting for window updates.
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_frame_size(64 * 1024);
    server
}

/// The next connection. Errors here are the machine's (no file descriptors left), and pass.
async fn accept(listener: &TcpListener, stalled: Duration) -> (TcpStream, SocketAddr) {
    let stalled = u32::try_from(stalled.as_millis()).unwrap_or(u32::MAX);
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // These fail only when the other end is gone already.
                drop(stream.set_nodelay(true));
                let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, stalled);
                return (stream, address);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Returns when a connection has not asked for anything in time. hyper's own timer starts only once it knows
/// which protocol is spoken, which a silent client never tells.
async fn silent(asked: Arc<AtomicBool>, time: Duration) {
    tokio::time::sleep(time).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// What stands before the router on each connection.
#[derive(Clone)]
struct Front {
    router: Router,
    peer: Peer,
    head_bytes: usize,
    asked: Arc<AtomicBool>,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.asked.store(true, Ordering::Relaxed);
        let size: usize =
            request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > self.head_bytes {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Box::pin(std::future::ready(Ok(response)));
        }
        request.extensions_mut().insert(self.peer);
        // A router is always ready, and cheap to clone: it is a counted reference.
        Box::pin(self.router.clone().call(request.map(Body::new)))
    }
}

#[cfg(test)]
mod tests;
