//! Serves an axum router over TCP and TLS, HTTP/1.1 and HTTP/2 on the same port.
//!
//! Bounded in what a stranger can hold open: connections, the time and size of a request's head, streams.
//! Invariant: requests that were accepted are finished within the grace; none is accepted after the shutdown
//! has begun.

mod bind;
mod connection;
mod crowd;
mod owner;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::bind::{BindError, bind};
pub use self::connection::Transport;
use self::connection::{Conversation, Front, Pulse};
use self::crowd::Crowd;
pub use self::owner::owner_of;
use crate::Shutdown;

/// The address at the other end of the connection, as an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// An extension of every request that came over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverTls;

/// What a stranger can hold open.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at once of one address; further ones are closed. Loopback is not counted.
    pub connections_per_address: usize,
    /// Addresses that speak for many: proxies. They are not counted either.
    pub shared_addresses: Vec<IpAddr>,
    /// Time for a handshake and the whole head of a request; also how long a connection may idle between two.
    pub head_time: Duration,
    /// Bytes of all header names and values together; more is answered 431.
    pub head_bytes: usize,
    /// Number of header fields; more is answered 431.
    pub head_fields: usize,
    /// How long a client may take nothing of what it is sent, or ask for nothing over HTTP/2; a connection that stands
    /// still for longer ends.
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

/// Serves plain HTTP on one listener; see [`serve_all`].
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) {
    serve_all(vec![listener], Transport::Plain, router, limits, shutdown).await;
}

/// Serves until the shutdown begins and the requests in flight are finished, or their grace is over. The limits
/// hold for all listeners together.
/// Connections that were upgraded (websockets) are not waited for: whoever holds one listens to the shutdown.
pub async fn serve_all(
    listeners: Vec<TcpListener>,
    transport: Transport,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) {
    let server = server(&limits);
    let graceful = GracefulShutdown::new();
    let crowd = Crowd::new(limits.connections_per_address, &limits.shared_addresses);
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut turn = 0;
    // Ends what outlives the grace.
    let abort = Shutdown::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            () = shutdown.begun() => break,
        };
        let (stream, address) = tokio::select! {
            accepted = accept(&listeners, &mut turn, limits.stalled) => accepted,
            () = shutdown.begun() => break,
        };
        let Some(guest) = crowd.enter(address.ip()) else { continue };
        let pulse = Pulse::new();
        let front = Front {
            router: router.clone(),
            peer: Peer(address),
            secure: false,
            head_bytes: limits.head_bytes,
            pulse: Arc::clone(&pulse),
        };
        let (head_time, stalled, abort) = (limits.head_time, limits.stalled, abort.clone());
        let conversation = Conversation {
            transport: transport.clone(),
            front,
            server: server.clone(),
            watcher: graceful.watcher(),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = conversation.hold(stream) => {}
                () = pulse.stopped(head_time, stalled) => {}
                () = abort.begun() => {}
            }
            drop((place, guest));
        });
    }
    drop(listeners);
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

/// The next connection of any listener, each having its `turn`. Errors here are the machine's (no file
/// descriptors left), and pass.
async fn accept(listeners: &[TcpListener], turn: &mut usize, stalled: Duration) -> (TcpStream, SocketAddr) {
    let stalled = u32::try_from(stalled.as_millis()).unwrap_or(u32::MAX);
    loop {
        let accepted = std::future::poll_fn(|context| {
            for offset in 0..listeners.len() {
                let index = (*turn + offset) % listeners.len();
                if let Poll::Ready(accepted) = listeners[index].poll_accept(context) {
                    *turn = index + 1;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        });
        match accepted.await {
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

#[cfg(test)]
mod tests;
