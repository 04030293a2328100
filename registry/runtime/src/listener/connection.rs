//! One connection, from its first byte to its end.

mod framing;
mod pulse;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service;

use self::framing::Framed;
pub(super) use self::pulse::Pulse;
use self::pulse::{Moving, Work};
use super::{OverTls, Peer};
use crate::Shutdown;

/// First byte of every TLS connection, and of no HTTP request.
const HANDSHAKE: u8 = 0x16;

/// What may be spoken on a listener.
#[derive(Clone)]
pub enum Transport {
    /// HTTP, with everybody.
    Plain,
    /// TLS. HTTP in clear is answered too where it never leaves this machine, from loopback to loopback, and from
    /// everywhere with `plain`; else it is told to use TLS.
    Tls { config: Arc<ServerConfig>, plain: bool },
}

/// A connection that has said what it speaks.
enum Entered {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// HTTP in clear where it may not be.
    Exposed(TcpStream),
}

impl Transport {
    async fn enter(&self, stream: TcpStream) -> io::Result<Entered> {
        let (config, plain) = match self {
            Transport::Plain => return Ok(Entered::Clear(stream)),
            Transport::Tls { config, plain } => (config, *plain),
        };
        let mut first = [0; 1];
        if stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE {
            let accepted = TlsAcceptor::from(Arc::clone(config)).accept(stream).await?;
            return Ok(Entered::Tls(Box::new(accepted)));
        }
        let is_loopback = |address: io::Result<SocketAddr>| {
            address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
        };
        if plain || (is_loopback(stream.peer_addr()) && is_loopback(stream.local_addr())) {
            return Ok(Entered::Clear(stream));
        }
        Ok(Entered::Exposed(stream))
    }
}

/// What a connection needs of its listener.
pub(super) struct Conversation {
    pub(super) transport: Transport,
    pub(super) front: Front,
    pub(super) server: auto::Builder<TokioExecutor>,
    pub(super) watcher: Watcher,
    pub(super) shutdown: Shutdown,
}

impl Conversation {
    /// Serves the connection to its end. Errors are the client's: a failed handshake, a reset, a malformed head;
    /// they have been answered.
    pub(super) async fn hold(self, stream: TcpStream) {
        let Conversation { transport, mut front, server, watcher, shutdown } = self;
        let entered = tokio::select! {
            entered = transport.enter(stream) => entered,
            () = shutdown.begun() => return,
        };
        match entered {
            Ok(Entered::Clear(stream)) => serve(&server, stream, front, watcher).await,
            Ok(Entered::Tls(stream)) => {
                front.secure = true;
                serve(&server, stream, front, watcher).await;
            }
            Ok(Entered::Exposed(stream)) => {
                front.router = Router::new().fallback(use_tls);
                serve(&server, stream, front, watcher).await;
            }
            Err(error) => {
                tracing::debug!(%error, peer.address = %front.peer.0, "a connection did not come about");
            }
        }
    }
}

async fn serve(
    server: &auto::Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    front: Front,
    watcher: Watcher,
) {
    let upgraded = Arc::new(AtomicBool::new(false));
    let stream = Framed::new(stream, Arc::clone(&upgraded));
    let service = service_fn(move |request| {
        let (answer, upgraded) = (front.call(request), Arc::clone(&upgraded));
        async move {
            let answer = answer.await;
            if answer.as_ref().is_ok_and(|response| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
                upgraded.store(true, Ordering::Relaxed);
            }
            answer
        }
    });
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let _ = watcher.watch(connection).await;
}

async fn use_tls() -> (StatusCode, &'static str) {
    (StatusCode::BAD_REQUEST, "This server speaks TLS to other machines: use https://\n")
}

/// What stands before the router on each connection.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) router: Router,
    pub(super) peer: Peer,
    pub(super) secure: bool,
    pub(super) head_bytes: usize,
    pub(super) pulse: Arc<Pulse>,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Moving>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Moving>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let work = self.pulse.ask(request.version());
        let size: usize =
            request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > self.head_bytes {
            let mut response = Response::new(Moving::new(Body::empty(), None));
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Box::pin(std::future::ready(Ok(response)));
        }
        request.extensions_mut().insert(self.peer);
        if self.secure {
            request.extensions_mut().insert(OverTls);
        }
        // A router is always ready, and cheap to clone: it is a counted reference.
        let answer = self.router.clone().call(request.map(Body::new));
        Box::pin(async move {
            let mut answer = answer.await?;
            // Whose answer has no body says nothing of its length (RFC 9110 8.6); a router says 0 of everything.
            if matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
                answer.headers_mut().remove(header::CONTENT_LENGTH);
            }
            let pulse = work.map(Work::answer);
            Ok(answer.map(|body| Moving::new(body, pulse)))
        })
    }
}
